import numpy as np
import pytest
import torch
from scipy.stats import betabinom
from transformers import AutoImageProcessor, AutoModelForImageClassification

from memevit.model import open_set as fitting
from memevit.portable.open_set import OpenSet
from tests.model import tiny

NAMES = ["doom", "zelda"]


def drawn(n, *, seed, shift=0.0, d=8):
    """Two classes around the first two axes, or with `shift` something else around the third."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    features = random.normal(0, 0.1, (n, d))
    features[np.arange(n), labels] += 1 - shift
    features[:, 2] += shift
    logits = np.stack([features[:, 0], features[:, 1]], axis=1) * 5
    return fitting.Seen(logits, {"final": features, "block_1": features[:, ::-1] * 30}, labels)


def fitted(**options):
    return fitting.fit(drawn(200, seed=0), drawn(100, seed=1), class_names=NAMES, **options)


def test_unknown_images_are_rejected_and_known_ones_are_not():
    found = fitted()
    known, unknown = drawn(200, seed=2), drawn(200, seed=3, shift=1.0)
    accepted = [one.accepted for one in found.decide(known.logits, known.features)]
    assert np.mean(accepted) > 0.85
    assert not any(one.accepted for one in found.decide(unknown.logits, unknown.features))


def test_a_typical_validation_image_scores_0_and_a_tenth_score_below_minus_1():
    scores = fitted().arrays["validation.score"]
    found = fitted(score=["mahalanobis.final"])
    assert np.median(found.arrays["validation.score"]) == pytest.approx(0, abs=0.05)
    assert np.mean(found.arrays["validation.score"] < -1) == pytest.approx(0.1, abs=0.02)
    assert len(scores) == 100


def test_validation_images_are_rejected_at_the_rate_that_was_asked_for():
    found = fitted(false_rejection=0.1)
    # 10 of 101 is the largest number of ranks within 10 %; nine lie below the tenth.
    assert (found.arrays["validation.score"] < found.settings["threshold"]).sum() == 9


def test_the_realised_rate_lies_in_the_stated_interval_as_often_as_stated():
    random, inside = np.random.default_rng(0), 0
    for _ in range(400):
        threshold, expected, (low, high) = fitting.conformal_threshold(random.random(200), np.ones(200), 0.05)
        assert expected == pytest.approx(10 / 201)
        inside += low <= threshold <= high  # Of uniform scores this is the share below.
    assert 0.92 < inside / 400 < 0.98


def test_too_few_validation_images_give_the_lowest_score_and_say_what_that_rejects():
    threshold, expected, (low, high) = fitting.conformal_threshold(np.array([3.0, 1.0, 2.0]), np.ones(3), 0.05)
    assert (threshold, expected) == (1.0, 0.25)
    assert low < 0.05 < 0.5 < high


def test_classes_count_the_same_in_the_threshold_whatever_their_numbers_of_images():
    scores = np.concatenate([np.arange(90) + 100.0, np.arange(10.0)])
    weights = np.repeat([100 / 180, 100 / 20], [90, 10])
    # Each rare image weighs 5 of 100: one of them is all that 5 % of 101 allows.
    assert fitting.conformal_threshold(scores, weights, 0.05)[0] == 0.0
    assert fitting.conformal_threshold(scores, weights, 0.10)[0] == 1.0


def test_a_predicted_class_with_enough_validation_images_has_its_own_threshold():
    assert fitted().settings["threshold_per_predicted_class"] is None  # 50 of each.
    found = fitting.fit(drawn(200, seed=0), drawn(130, seed=1), class_names=NAMES)
    assert sorted(found.settings["threshold_per_predicted_class"]) == NAMES
    scores, predicted = found.arrays["validation.score"], found.arrays["validation.predicted"]
    for label, name in enumerate(NAMES):
        own = scores[predicted == label]
        # The third of 65 scores: 3 of 66 ranks are the most within 5 %.
        assert found.settings["threshold_per_predicted_class"][name] == np.sort(own)[2]


def test_statistics_from_the_bank_are_those_that_were_made_with_it():
    found = fitted()
    is_train = found.arrays["bank.split"] == 0
    for layer in ("final", "block_1"):
        mean, whitening = fitting.class_statistics(
            found.arrays[f"bank.{layer}"][is_train], found.arrays["bank.label"][is_train], n_classes=2
        )
        np.testing.assert_array_equal(mean, found.arrays[f"mean.{layer}"])
        np.testing.assert_array_equal(whitening, found.arrays[f"whitening.{layer}"])


def test_statistics_only_hold_nothing_of_single_images_but_validation_scores():
    found = fitted(statistics_only=True)
    assert not [name for name in found.arrays if name.startswith("bank.")]
    known = drawn(20, seed=2)
    np.testing.assert_array_equal(
        found.known_scores(known.logits, known.features), fitted().known_scores(known.logits, known.features)
    )


def test_statistics_of_more_and_of_other_classes_need_no_image_of_the_old_ones():
    random = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2, 3], [400, 300, 10, 300])
    rows = random.normal(size=(len(labels), 8)) * [1, 1, 1, 1, 0.3, 0.3, 0.3, 0.3] + 6 * np.eye(8)[labels]
    old, kept = labels < 3, labels != 1
    seen = fitting.Seen(np.eye(3)[labels[old]], {"final": rows[old]}, labels[old])
    known = fitting.fit(seen, seen, class_names=["a", "b", "c"], statistics_only=True)
    new = {"final": rows[~old]}, labels[~old]
    found = fitting.Statistics.extended(known, [0, 1, 2], *new)
    expected = fitting.Statistics.of({"final": rows}, labels, n_classes=4)
    assert found.counts.tolist() == [400, 300, 10, 300]
    np.testing.assert_allclose(found.arrays["mean.final"], expected.arrays["mean.final"], atol=1e-6)
    spread, wanted = (fitting.covariance_of(own.arrays["whitening.final"]) for own in (found, expected))
    np.testing.assert_allclose(spread, wanted, atol=0.02 * wanted.max())
    without = fitting.Statistics.extended(known, [0, -1, 1], new[0], new[1] - 1)
    expected = fitting.Statistics.of({"final": rows[kept]}, np.array([0, -1, 1, 2])[labels[kept]], n_classes=3)
    assert without.counts.tolist() == [400, 10, 300]
    np.testing.assert_allclose(without.arrays["mean.final"], expected.arrays["mean.final"], atol=1e-6)


def test_the_whitening_is_that_of_the_scatter_within_classes():
    seen = drawn(4000, seed=0)
    _, whitening = fitting.class_statistics(seen.features["final"], seen.labels, n_classes=2)
    rows = seen.features["final"] / np.linalg.norm(seen.features["final"], axis=1, keepdims=True)
    centred = np.concatenate([rows[seen.labels == k] - rows[seen.labels == k].mean(0) for k in (0, 1)])
    across = centred @ whitening.T
    np.testing.assert_allclose(across.T @ across / 4000, np.eye(8), atol=0.15)  # Apart from the shrinkage.


def test_two_classes_with_one_training_image_each_and_more_classes_than_images_still_work():
    seen = fitting.Seen(np.eye(2), {"final": np.eye(2, 4)}, np.array([0, 1]))
    found = fitting.fit(seen, seen, class_names=NAMES)
    assert np.isfinite(found.known_scores(np.eye(2), {"final": np.eye(2, 4)})).all()
    many = fitting.Seen(np.eye(50, 1000), {"final": np.random.default_rng(0).random((50, 4))}, np.arange(50))
    found = fitting.fit(many, many, class_names=[str(k) for k in range(1000)])
    assert np.isfinite(found.known_scores(many.logits, many.features)).all()


def test_a_class_called_unknown_keeps_its_name_and_rejection_gets_another():
    assert fitting.reject_label(["doom", "unknown"]) == "none_of_the_classes"
    assert fitting.reject_label(NAMES) == "unknown"


def test_the_interval_covers_what_other_images_of_the_known_classes_show():
    low, high = fitting.conformal_threshold(np.arange(99.0), np.ones(99), 0.05)[2]
    # 1000 more images, rejected at the unknown true rate, which the beta-binomial integrates out.
    assert betabinom.ppf([0.025, 0.975], 1000, 5, 95) / 1000 == pytest.approx([low, high], abs=0.01)


@pytest.fixture(scope="module", params=sorted(tiny.KINDS))
def backbone(request, tmp_path_factory):
    path = tiny.save(request.param, tmp_path_factory.mktemp(request.param))
    torch.manual_seed(0)
    model = AutoModelForImageClassification.from_pretrained(path, num_labels=3, ignore_mismatched_sizes=True)
    return model.eval(), AutoImageProcessor.from_pretrained(path)


def test_a_folded_temperature_divides_the_logits_of_every_architecture_and_can_be_undone(backbone):
    model, image_processor = backbone
    before = fitting.probe(model, image_processor, ["final"])
    fitting.fold_temperature(model, 2.5)
    after = fitting.probe(model, image_processor, ["final"])
    np.testing.assert_allclose(after["logits"], before["logits"] / 2.5, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(after["final"], before["final"])
    fitting.fold_temperature(model, 1 / 2.5)
    np.testing.assert_allclose(
        fitting.probe(model, image_processor, ["final"])["logits"], before["logits"], rtol=1e-5, atol=1e-7
    )


def test_statistics_survive_writing_and_are_refused_once_the_weights_change(backbone, tmp_path):
    model, image_processor = backbone
    model.save_pretrained(tmp_path)
    own = fitting.probe(model, image_processor, ["final"])
    random = np.random.default_rng(0)
    seen = fitting.Seen(
        random.normal(size=(12, 3)), {"final": random.normal(size=(12, len(own["final"])))}, np.arange(12) % 3
    )
    fitted = fitting.fit(seen, seen, class_names=["a", "b", "c"])
    fitting.write(tmp_path, fitted, model, image_processor, temperature=1.0)
    found = OpenSet.load(tmp_path)
    features = {"final": own["final"][None]}
    found.require_current(own["logits"][None], features, dtype="float32")
    np.testing.assert_allclose(
        found.known_scores(seen.logits, seen.features), fitted.known_scores(seen.logits, seen.features)
    )
    with pytest.raises(ValueError, match="stale"):
        found.require_current(own["logits"][None] + 1, features, dtype="float32")


def test_the_additional_class_wins_where_no_logit_reaches_the_threshold(backbone, tmp_path):
    model, image_processor = backbone
    own = fitting.probe(model, image_processor, ["final"])["logits"]
    for threshold, expected in ((own.max() + 0.1, 3), (own.max() - 0.1, own.argmax())):
        folder = tmp_path / str(expected)
        fitting.write_with_unknown_class(folder, model, image_processor, threshold=threshold, label="unknown")
        larger = AutoModelForImageClassification.from_pretrained(folder).eval()
        found = fitting.probe(larger, image_processor, ["final"])["logits"]
        np.testing.assert_allclose(found, [*own, threshold], rtol=1e-5, atol=1e-6)
        assert found.argmax() == expected
        assert larger.config.id2label[3] == "unknown"
    assert model.config.num_labels == 3
