"""Unequal classes: weights, order and loss, by hand."""

from collections import Counter

import pytest
import torch
from transformers.modeling_outputs import ImageClassifierOutput

from memevit.model import balance

LABELS = [0] * 6 + [1] * 2 + [2] * 1
LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]])


def outputs(logits):
    return ImageClassifierOutput(logits=logits)


@pytest.mark.parametrize(("counts", "expected"), [((3, 2), "none"), ((31, 20), "weights"), ((5, 0, 5), "none")])
def test_auto_takes_weights_when_the_largest_class_is_half_again_as_large(counts, expected):
    labels = [label for label, n in enumerate(counts) for _ in range(n)]
    assert balance.chosen("auto", labels, n_classes=len(counts)) == expected
    assert balance.chosen("sampler", labels, n_classes=len(counts)) == "sampler"


def test_weights_make_every_class_count_the_same():
    weights = balance.class_weights(LABELS, n_classes=3)
    assert [6 * weights[0], 2 * weights[1], 1 * weights[2]] == pytest.approx([3.0, 3.0, 3.0])


def test_a_class_without_training_pictures_does_not_spoil_the_weights():
    assert balance.class_weights([0, 0, 1], n_classes=3)[:2].tolist() == pytest.approx([0.75, 1.5])


def test_the_order_draws_every_class_alike_and_every_picture_of_a_class_alike():
    order = balance.BalancedOrder(LABELS, seed=0)
    numbers = list(order)
    assert len(set(numbers)) == len(numbers) == len(order) == 9  # The same picture again has another number.
    drawn = [number % len(LABELS) for number in numbers]
    assert Counter(LABELS[position] for position in drawn) == {0: 3, 1: 3, 2: 3}
    assert Counter(drawn)[8] == 3
    assert sorted(Counter(p for p in drawn if LABELS[p] == 1).values()) == [1, 2]


def test_the_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = balance.BalancedOrder(LABELS * 5, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert order(0, 3) != order(0, 4)
    assert order(0, 3) != order(1, 3)


def test_the_loss_is_the_weighted_sum_over_the_pictures_of_all_accumulated_batches():
    weights = torch.tensor([0.5, 1.0, 3.0])
    loss = balance.ClassificationLoss("weights", weights)
    own = -torch.log_softmax(LOGITS, dim=1)
    expected = (0.5 * own[0, 0] + 3.0 * own[1, 2]) / 8
    assert loss(outputs(LOGITS), torch.tensor([0, 2]), num_items_in_batch=8) == pytest.approx(float(expected))


def test_shares_of_classes_are_as_good_as_class_ids():
    loss = balance.ClassificationLoss("weights", torch.tensor([0.5, 1.0, 3.0]))
    ids = torch.tensor([0, 2])
    shares = torch.nn.functional.one_hot(ids, 3).float()
    assert torch.allclose(loss(outputs(LOGITS), shares), loss(outputs(LOGITS), ids))


def test_a_balanced_order_weighs_in_evaluation_only():
    weights = torch.tensor([0.5, 1.0, 3.0])
    loss = balance.ClassificationLoss("sampler", weights, label_smoothing=0.2)
    labels = torch.tensor([0, 2])
    plain = torch.nn.functional.cross_entropy(LOGITS, labels, label_smoothing=0.2)
    own = -torch.log_softmax(LOGITS, dim=1)
    assert torch.allclose(loss(outputs(LOGITS), labels), plain)
    with torch.no_grad():
        assert torch.allclose(loss(outputs(LOGITS), labels), (0.5 * own[0, 0] + 3.0 * own[1, 2]) / 2)
