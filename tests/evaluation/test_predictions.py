"""predictions.csv."""

import csv

import numpy as np

from memevit.evaluation import predictions
from memevit.evaluation.predictions import Predictions


def test_rows_are_those_of_sorting_and_are_read_back_as_they_were(tmp_path):
    written = Predictions(
        class_names=["=1+1", "doom"],
        paths=["=1+1/@a.png", "doom/b.png"],
        splits=["test", "validation"],
        labels=np.array([0, 1]),
        probabilities=np.array([[0.25, 0.75], [0.000012, 0.999988]]),
        known_scores=[-1.5, None],
        accepted=[False, None],
    )
    predictions.write(tmp_path, written)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        header, first, second = csv.reader(file)
    assert header == [
        *("file", "split", "class_name", "predicted", "confidence", "known_score", "accepted", "p_=1+1", "p_doom")
    ]
    assert first == ["'=1+1/@a.png", "test", "'=1+1", "doom", "0.75", "-1.5", "false", "0.25", "0.75"]
    assert second[:7] == ["doom/b.png", "validation", "doom", "doom", "0.999988", "", ""]
    read = predictions.read(tmp_path)
    assert (read.class_names, read.paths, read.splits) == (written.class_names, written.paths, written.splits)
    assert (read.known_scores, read.accepted) == (written.known_scores, written.accepted)
    np.testing.assert_array_equal(read.labels, written.labels)
    np.testing.assert_allclose(read.probabilities, written.probabilities, atol=1e-9)
