"""Class weights and the loss, by hand."""

import pytest
import torch
from transformers.modeling_outputs import ImageClassifierOutput

from memevit.model import balance

LABELS = [0] * 6 + [1] * 2 + [2] * 1
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])


def outputs(logits):
    return ImageClassifierOutput(logits=logits)


@pytest.mark.parametrize(("counts", "expected"), [((3, 2), False), ((31, 20), True), ((5, 0, 5), False)])
def test_auto_takes_weights_when_the_largest_class_is_half_again_as_large(counts, expected):
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    assert balance.is_weighted("auto", labels, n_classes=len(counts)) == expected
    assert balance.is_weighted("weights", labels, n_classes=len(counts))
    assert not balance.is_weighted("none", labels, n_classes=len(counts))


def test_weights_make_every_class_count_the_same():
    weights = balance.class_weights(LABELS, n_classes=3)
    assert [6 * weights[0], 2 * weights[1], 1 * weights[2]] == pytest.approx([3.0, 3.0, 3.0])


def test_a_class_without_training_images_does_not_spoil_the_weights():
    assert balance.class_weights([0, 0, 1], n_classes=3)[:2].tolist() == pytest.approx([0.75, 1.5])


def test_the_loss_is_the_weighted_sum_over_the_images_of_all_accumulated_batches():
    weights = torch.tensor([0.5, 1.0, 3.0])
    loss = balance.ClassificationLoss(weights)
    own = -torch.log_softmax(LOGITS, dim=1)
    expected = (0.5 * own[0, 0] + 3.0 * own[1, 2]) / 8
    assert loss(outputs(LOGITS), torch.tensor([0, 2]), num_items_in_batch=8) == pytest.approx(float(expected))


def test_shares_of_classes_are_as_good_as_class_ids():
    loss = balance.ClassificationLoss(torch.tensor([0.5, 1.0, 3.0]))
    ids = torch.tensor([0, 2])
    shares = torch.nn.functional.one_hot(ids, 3).float()
    assert torch.allclose(loss(outputs(LOGITS), shares), loss(outputs(LOGITS), ids))


def test_labels_are_smoothed_in_training_only():
    loss, labels = balance.ClassificationLoss(None, label_smoothing=0.2), torch.tensor([0, 2])
    smoothed = torch.nn.functional.cross_entropy(LOGITS, labels, label_smoothing=0.2)
    assert torch.allclose(loss(outputs(LOGITS), labels), smoothed)
    with torch.no_grad():
        assert torch.allclose(loss(outputs(LOGITS), labels), torch.nn.functional.cross_entropy(LOGITS, labels))
