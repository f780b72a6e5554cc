import json

import numpy as np
import pytest

from benchmarks import open_set, open_set_images
from benchmarks.open_set import OpenSetArguments
from memevit.model import open_set as fitting
from memevit.portable.open_set import MAHALANOBIS, MAX_LOGIT
from tests.conftest import write_classes


@pytest.fixture
def few_images(monkeypatch):
    monkeypatch.setattr(open_set_images, "N_PER_SOURCE", 3)
    monkeypatch.setattr(open_set_images, "N_CROPS", 2)
    monkeypatch.setattr(open_set, "DEVELOPMENT_GAMES", 1)


def test_every_held_out_class_and_every_far_source_has_its_row(few_images, tmp_path, tiny_backbone):
    games = write_classes(tmp_path / "games", n=12)
    output = tmp_path / "open_set.json"
    open_set.main(
        OpenSetArguments(
            games, tiny_backbone, seeds=[0], pairs=False, n_resamples=3, cache=tmp_path / "cache", output=output
        )
    )
    (report,) = json.loads(output.read_text()).values()
    rows = report["sources"][open_set.SHIPPED]
    assert {"near: moss", "near: slate", "far: noise", "far: scikit-learn, photographs"} <= set(rows)
    assert not {"near: coral", f"far: {open_set_images.DEVELOPMENT}"} & set(rows)  # They chose the score.
    cell = rows["near: moss"]["auroc"]
    assert cell["ci_low"] <= cell["ci_high"]
    assert len(report["models"]) == 3
    assert report["macro_auroc"]["report"]["near"][open_set.SHIPPED] == pytest.approx(
        np.mean([rows[f"near: {name}"]["auroc"]["value"] for name in ("moss", "slate")]), abs=1e-3
    )


def test_the_row_of_the_shipped_score_is_what_the_statistics_compute():
    score = fitting.default_score(["final", "block_3"])
    assert score == [MAX_LOGIT, MAHALANOBIS + "final", MAHALANOBIS + "block_3"]
    assert open_set.SHIPPED == "max-logit + final + middle block"
