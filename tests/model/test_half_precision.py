"""fp16 with its loss scaling, which accelerate leaves to accelerators; torch can do it on a processor, too."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from memevit import results
from memevit.evaluation import predictions
from memevit.model import precision
from memevit.model.classifier import Classifier
from tests.conftest import run_finetune
from tests.model.test_unkillable import Killed, at_step, killed


@pytest.fixture
def fp16_on_cpu(monkeypatch):
    """Let the Trainer scale losses on the processor, at first by so much that gradients overflow."""
    create = Trainer.create_accelerator_and_postprocess
    scalers = []

    def created(self):
        create(self)
        self.accelerator.native_amp = True
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**28)
        scalers.append(self.accelerator.scaler)

    monkeypatch.setattr(Trainer, "create_accelerator_and_postprocess", created)
    monkeypatch.setattr(precision, "require", lambda wanted, device: wanted)
    return scalers


@pytest.fixture
def command(prepared, tiny_backbone):
    return (
        *("--dataset", prepared, "--model_name_or_path", tiny_backbone, "--use_cpu", "--disable_tqdm", True),
        *("--num_train_epochs", 8, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
        *("--precision", "fp16", "--save_total_limit", 1),
    )


def test_fp16_skips_overflows_and_learns(fp16_on_cpu, command, prepared, tmp_path):
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    assert 1.0 < fp16_on_cpu[-1].get_scale() < 2.0**28  # It was halved until gradients fitted.
    assert results.read(tmp_path / "model")["training"]["precision"] == "fp16"
    found = predictions.read(tmp_path / "model")
    assert (found.predicted == found.labels).mean() > 0.8
    assert {weights.dtype for weights in load_file(tmp_path / "model" / "model.safetensors").values()} == {
        torch.float32
    }
    paths = [prepared / name for name in found.paths]
    again = [each.probabilities for each in Classifier.load(tmp_path / "model").classify(paths, n_processes=0)]
    assert np.abs(np.array(again) - found.probabilities).max() < 1e-4


def test_fp16_goes_on_with_the_scale_that_it_had(fp16_on_cpu, command, tmp_path, monkeypatch):
    assert run_finetune(*command, "--output_dir", tmp_path / "whole") == 0
    at_step(monkeypatch, 28, killed)
    with pytest.raises(Killed):
        run_finetune(*command, "--output_dir", tmp_path / "model")
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "model"))
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())
    assert fp16_on_cpu[0].get_scale() == fp16_on_cpu[-1].get_scale()
