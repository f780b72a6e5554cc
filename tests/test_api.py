"""The package's public functions, as a notebook calls them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import memevit
from memevit import results
from memevit.errors import UserError
from tests.conftest import draw_image, write_classes

ROOT = Path(__file__).parents[1]


def test_a_notebook_goes_from_images_to_probabilities(tmp_path, tiny_backbone):
    write_classes(tmp_path / "source", n=12)
    prepared = memevit.prepare(tmp_path / "source", tmp_path / "data", num_proc=1)
    assert prepared.prep["n_by_status"]["kept"] == 36
    assert "coral" in str(prepared)
    options = {"max_steps": 2, "use_cpu": True, "disable_tqdm": True, "seed": 3}
    done = memevit.finetune(prepared.output_dir, tmp_path / "model", backbone=tiny_backbone, **options)
    assert done.output_dir == tmp_path / "model"
    assert "linear probe" in str(done)
    assert results.read(done.output_dir)["comparisons"] == done.sections["comparisons"]
    assert results.read_run(done.output_dir)["seed"] == 3
    found = memevit.Classifier.load(done.output_dir).probabilities([draw_image(1)])
    assert found.shape == (1, 3)
    assert np.allclose(found.sum(), 1.0)


def test_a_dry_run_writes_nothing(tmp_path, prepared, tiny_backbone):
    options = {"use_cpu": True, "dry_run": True}
    assert memevit.finetune(prepared, tmp_path / "model", backbone=tiny_backbone, **options) is None
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_argument_and_a_folder_that_was_not_prepared_are_told(tmp_path, prepared):
    with pytest.raises(UserError, match=r"no argument learnin_rate\. Did you mean learning_rate\?"):
        memevit.finetune(prepared, tmp_path / "model", learnin_rate=1e-3)
    with pytest.raises(UserError, match=r"has no manifest\.csv"):
        memevit.finetune(tmp_path, tmp_path / "model")


def test_public_names_are_listed_and_imported_when_they_are_used():
    assert {"prepare", "finetune", "Classifier"} <= set(dir(memevit))
    code = "import sys, memevit; assert not {'torch', 'datasets', 'transformers'} & set(sys.modules); memevit.nothing"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "module 'memevit' has no attribute 'nothing'" in done.stderr
