import json

import numpy as np
import pytest

from benchmarks import add_class, open_set_images
from benchmarks.add_class import AddClassArguments
from memevit.model.heads import Head
from tests.conftest import write_classes


@pytest.mark.parametrize("fine_tune", [False, True])
def test_every_class_is_added_in_turn_and_compared_with_the_other_ways(tmp_path, tiny_backbone, monkeypatch, fine_tune):
    monkeypatch.setattr(open_set_images, "N_PER_SOURCE", 3)
    monkeypatch.setattr(open_set_images, "N_CROPS", 2)
    games = write_classes(tmp_path / "games", n=20)
    output = tmp_path / "add_class.json"
    add_class.main(
        AddClassArguments(
            games, tiny_backbone, seeds=[0], sizes=[5, 99, 0], cache=tmp_path / "cache", output=output, epochs=1,
            fine_tune=fine_tune,
        )
    )  # fmt: skip
    (report,) = json.loads(output.read_text()).values()
    names = report["dataset"]["classes"]
    assert [(row["new_class"], row["n"]) for row in report["rows"]] == [(name, n) for name in names for n in (5, 0)]
    few, whole = report["rows"][:2]
    assert (few["n_new"]["train"], few["n_new"]["validation"]) == (4, 1)
    assert few["n_new"]["test"] == whole["n_new"]["test"]
    assert set(few["accuracy"]) == {add_class.OURS, *add_class.OTHERS, add_class.JOINT_HEAD}
    assert (add_class.JOINT in whole["accuracy"]) == fine_tune
    assert set(few["auroc"]) == ({"far"} if fine_tune else {"near", "far"})
    assert len(few["false_rejection"]) == (3 if fine_tune else 2)
    summary = report["by_size"][0]
    assert summary["accuracy"]["ours"]["new"] == pytest.approx(
        np.mean([row["accuracy"]["ours"]["new"] for row in report["rows"] if row["n"] == 5]), abs=1e-4
    )
    assert report["by_size"][1] == {"n": 99, "n_rows": 0}


def one_case(features, labels):
    rows = np.arange(len(labels))
    head = Head(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.zeros(2), "fine-tuned")
    return add_class.Case(["a", "b", "c"], np.array(labels), {"train": rows}, rows[:0], rows[:0], {"final": features},
                          features, head, 0)  # fmt: skip


def test_imprinting_puts_the_mean_of_the_new_class_beside_the_old_rows():
    case = one_case(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, 3.0]]), [0, 1, 2, 2])
    head = add_class._imprinted(case, case.indices)
    np.testing.assert_allclose(head.weight, [[1, 0], [-1, 0], [0, 2]])


def test_the_nearest_mean_wins_in_its_linear_form():
    features = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    case = one_case(features, [0, 1, 2, 2])
    means = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]])
    others = np.random.default_rng(0).normal(size=(20, 2)) * 3
    nearest = ((others[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    assert (add_class._nearest_mean(case, case.indices).logits(others).argmax(axis=1) == nearest).all()


def test_training_on_the_new_class_alone_forgets_the_old_ones():
    case = one_case(np.array([[2.0, 1.0], [-2.0, 1.0], [0.0, 1.0], [0.0, 3.0]]), [0, 1, 2, 2])
    predicted = add_class._naive(case, case.indices).logits(np.array([[0.0, 2.0], [0.5, 3.0]])).argmax(axis=1)
    assert predicted.tolist() == [2, 2]
