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

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def fp16_on_cpu():
    """Let the Trainer scale losses on the processor, at first by so much that gradients overflow."""
    create = Trainer.create_accelerator_and_postprocess
    scalers = []

    def created(self):
        create(self)
        self.accelerator.native_amp = True
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**28)
        scalers.append(self.accelerator.scaler)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "create_accelerator_and_postprocess", created)
        patch.setattr(precision, "require", lambda wanted, device: wanted)
        yield scalers


@pytest.fixture(scope="module")
def command(fp16_on_cpu, prepared, tiny_backbone):
    return (
        *("--dataset", prepared, "--model_name_or_path", tiny_backbone, "--use_cpu", "--disable_tqdm", True),
        *("--num_train_epochs", 8, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
        *("--precision", "fp16", "--save_total_limit", 1),
    )


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    """A model trained without an interruption."""
    model_dir = tmp_path_factory.mktemp("whole") / "model"
    assert run_finetune(*command, "--output_dir", model_dir) == 0
    return model_dir


def test_fp16_skips_overflows_and_learns(fp16_on_cpu, whole, prepared):
    assert 1.0 < fp16_on_cpu[-1].get_scale() < 2.0**28  # It was halved until gradients fitted.
    assert results.read(whole)["training"]["precision"] == "fp16"
    found = predictions.read(whole)
    assert (found.predicted == found.labels).mean() > 0.8
    assert {weights.dtype for weights in load_file(whole / "model.safetensors").values()} == {torch.float32}
    paths = [prepared / name for name in found.paths]
    again = [each.probabilities for each in Classifier.load(whole).classify(paths, n_processes=0)]
    assert np.abs(np.array(again) - found.probabilities).max() < 1e-4


def test_fp16_goes_on_with_the_scale_that_it_had(fp16_on_cpu, whole, command, tmp_path, monkeypatch):
    at_step(monkeypatch, 28, killed)
    with pytest.raises(Killed):
        run_finetune(*command, "--output_dir", tmp_path / "model")
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    one, other = (load_file(path / "model.safetensors") for path in (whole, tmp_path / "model"))
    assert all(torch.equal(weights, other[name]) for name, weights in one.items())
    assert fp16_on_cpu[0].get_scale() == fp16_on_cpu[-1].get_scale()
