"""Whatever stops a training, the same command goes on and ends as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState

from memevit import results
from memevit.model import checkpoints, interruption
from memevit.model.trainer import ImageTrainer
from tests.conftest import run_finetune

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("no_figures")
N_STEPS = 12  # 84 training images, 16 at a time, 2 epochs.


class Killed(BaseException):
    """Ends a training as suddenly as this process can."""


def at_step(monkeypatch, step, act):
    """Call `act` in the forward pass of a step, once."""
    training_step = ImageTrainer.training_step
    done = []

    def wrapped(self, *args, **kwargs):
        if self.state.global_step + 1 == step and not done:
            done.append(step)
            act(self)
        return training_step(self, *args, **kwargs)

    monkeypatch.setattr(ImageTrainer, "training_step", wrapped)


def killed(_):
    raise Killed


@pytest.fixture(scope="module")
def command(prepared, tiny_backbone):
    """Everything but --output_dir. With dropout, so that all generators count."""
    config = json.loads((tiny_backbone / "config.json").read_text())
    backbone = tiny_backbone.parent / "vit-with-dropout"
    shutil.copytree(tiny_backbone, backbone, dirs_exist_ok=True)
    config |= {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    (backbone / "config.json").write_text(json.dumps(config))
    return (
        *("--dataset", prepared, "--model_name_or_path", backbone, "--use_cpu", "--disable_tqdm", True),
        *("--num_train_epochs", 2, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
    )


@pytest.fixture(scope="module")
def uninterrupted(command, tmp_path_factory):
    model_dir = tmp_path_factory.mktemp("uninterrupted") / "model"
    assert run_finetune(*command, "--output_dir", model_dir) == 0
    assert results.read(model_dir)["training"]["n_steps"] == N_STEPS
    return model_dir


def assert_same(model_dir, expected_dir):
    for name in ("model.safetensors", "predictions.csv"):
        assert (model_dir / name).read_bytes() == (expected_dir / name).read_bytes(), name
    assert not model_dir.with_name(f"{model_dir.name}.partial").exists()
    assert not list(model_dir.glob("checkpoint-*"))


def test_the_same_command_gives_the_same_bytes(command, uninterrupted, tmp_path):
    assert run_finetune(*command, "--output_dir", tmp_path / "again") == 0
    assert_same(tmp_path / "again", uninterrupted)


def test_another_seed_gives_other_weights(command, uninterrupted, tmp_path):
    assert run_finetune(*command, "--output_dir", tmp_path / "other", "--seed", 1) == 0
    one, other = (load_file(path / "model.safetensors") for path in (uninterrupted, tmp_path / "other"))
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_images_loaded_by_other_processes_are_the_same(command, uninterrupted, tmp_path):
    assert run_finetune(*command, "--output_dir", tmp_path / "workers", "--dataloader_num_workers", 2) == 0
    assert_same(tmp_path / "workers", uninterrupted)


@pytest.mark.parametrize("step", [5, 12])
def test_killed_at_a_step_it_starts_at_the_last_epoch(command, uninterrupted, tmp_path, monkeypatch, step):
    argv = (*command, "--output_dir", tmp_path / "model")
    at_step(monkeypatch, step, killed)
    with pytest.raises(Killed):
        run_finetune(*argv)
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", uninterrupted)


@pytest.mark.parametrize("step", [6])
def test_killed_in_mid_epoch_it_goes_on_in_mid_epoch(command, tmp_path, monkeypatch, step):
    every = ("--eval_strategy", "steps", "--save_strategy", "steps", "--eval_steps", 4, "--save_steps", 4)
    more = ("--gradient_accumulation_steps", 2, "--per_device_train_batch_size", 8)
    assert run_finetune(*command, *every, *more, "--output_dir", tmp_path / "whole") == 0
    begun = []
    at_step(monkeypatch, step, lambda trainer: (begun.append(trainer.state.global_step), killed(trainer)))
    argv = (*command, *every, *more, "--output_dir", tmp_path / "model")
    with pytest.raises(Killed):
        run_finetune(*argv)
    assert begun == [step - 1]
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", tmp_path / "whole")


@pytest.mark.parametrize("moment", ["evaluation", "prediction", "saving", "publishing"])
def test_killed_outside_of_a_step(command, uninterrupted, tmp_path, monkeypatch, moment):
    from memevit.model import folder, runs

    with monkeypatch.context() as patch:
        places = {
            "evaluation": (ImageTrainer, "evaluate"),
            "prediction": (runs, "_logits"),
            "saving": (checkpoints, "seal"),
            "publishing": (folder.files, "publish"),
        }
        patch.setattr(*places[moment], lambda *args, **kwargs: killed(None))
        with pytest.raises(Killed):
            run_finetune(*command, "--output_dir", tmp_path / "model")
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    assert_same(tmp_path / "model", uninterrupted)


def test_a_real_sigkill(command, uninterrupted, tmp_path):
    script = (
        "import os, signal, sys\n"
        "from memevit.model.trainer import ImageTrainer\n"
        "step = ImageTrainer.training_step\n"
        "def wrapped(self, *args, **kwargs):\n"
        "    if self.state.global_step == 8: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, *args, **kwargs)\n"
        "ImageTrainer.training_step = wrapped\n"
        "from tests.conftest import run_finetune\n"
        "sys.exit(run_finetune(*sys.argv[1:]))\n"
    )
    argv = [*(str(part) for part in command), "--output_dir", str(tmp_path / "model")]
    done = subprocess.run([sys.executable, "-c", script, *argv], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert [path.name for path in checkpoints.all_in(tmp_path / "model.partial")] == ["checkpoint-6"]
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", uninterrupted)


@pytest.mark.parametrize(
    ("number", "code", "step"), [(signal.SIGTERM, 143, 3), (signal.SIGINT, 130, 9), (signal.SIGINT, 130, 12)]
)
def test_a_signal_writes_a_checkpoint_and_exits_with_its_code(
    command, uninterrupted, tmp_path, monkeypatch, capsys, number, code, step
):
    argv = (*command, "--output_dir", tmp_path / "model")
    at_step(monkeypatch, step, lambda _: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    assert run_finetune(*argv) == code
    assert signal.getsignal(number) is before
    assert (
        f"Stopped with a checkpoint after step {step}. The same command goes on from there." in capsys.readouterr().err
    )
    assert checkpoints.is_intact(tmp_path / "model.partial" / f"checkpoint-{step}")
    assert not (tmp_path / "model").exists()
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", uninterrupted)


def test_a_signal_before_the_first_step_stops_at_once(command, tmp_path, monkeypatch):
    from memevit.model import runs

    monkeypatch.setattr(runs, "rehearse", lambda *args, **kwargs: os.kill(os.getpid(), signal.SIGTERM))
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 143
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_stops_at_once_but_not_its_echo(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(interruption.time, "monotonic", lambda: clock[0])
    request = interruption.StopRequest()
    request.is_deferred = True
    request.receive(signal.SIGINT, None)
    clock[0] += 1.0  # The launcher's, which repeats it.
    request.receive(signal.SIGINT, None)
    assert request.is_made
    clock[0] += 10.0
    with pytest.raises(interruption.Interrupted):
        request.receive(signal.SIGINT, None)


def test_a_launcher_that_has_gone_counts_as_a_signal(monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    request = interruption.StopRequest()
    assert not request.is_made
    monkeypatch.setattr(interruption.os, "getppid", lambda: 0)
    assert request.is_made
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    assert not interruption.StopRequest().is_made


def test_an_old_checkpoint_makes_a_new_one_due(command, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(interruption, "CHECKPOINT_EVERY_S", 0.0)
    at_step(monkeypatch, 4, killed)
    with pytest.raises(Killed):
        run_finetune(*command, "--output_dir", tmp_path / "model")
    assert [path.name for path in checkpoints.all_in(tmp_path / "model.partial")] == ["checkpoint-3", "checkpoint-2"]
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    assert_same(tmp_path / "model", uninterrupted)


@pytest.mark.parametrize("is_first", [True, False])
def test_every_process_finds_the_best_checkpoint_once_it_is_there(tmp_path, is_first):
    """With FSDP the Trainer looks for it before somebody has made its folder."""
    for step in (2, 4):
        (tmp_path / f"checkpoint-{step}").mkdir()
    state = TrainerState(global_step=4, best_global_step=2)
    args = SimpleNamespace(output_dir=str(tmp_path), should_save=is_first)
    checkpoints.CheckpointKeeper(n_newest=1, seconds_before=0.0).on_save(args, state, None)
    assert state.best_model_checkpoint == str(tmp_path / "checkpoint-2")
    assert checkpoints.is_intact(tmp_path / "checkpoint-4") == is_first


def test_several_processes_act_on_what_they_wanted_a_step_ago(monkeypatch):
    """By then the device has added it up, so that reading it makes nobody wait."""
    monkeypatch.setattr(interruption.accelerate.utils, "reduce", lambda own, reduction: 2 * own)
    request = interruption.StopRequest()
    callback = interruption.StopCallback(request)
    args = SimpleNamespace(process_index=1, world_size=2, device=torch.device("cpu"))
    wanted = []
    for step in range(4):
        if step == 1:
            request.signal = signal.SIGTERM
        control = TrainerControl()
        callback.on_step_end(args, TrainerState(), control)
        wanted.append(control.should_save)
    assert wanted == [False, False, True, True]
    with pytest.raises(interruption.Interrupted):
        callback.on_save(args, TrainerState(global_step=3), None)
    callback.on_step_end(args, TrainerState(), control := TrainerControl())
    assert not control.should_save  # What was underway has been answered.


class DeviceTensor:
    """Stands for a tensor on a GPU and counts the reads that wait for all queued work."""

    is_cuda, device = True, torch.device("cuda")
    n_blocking_reads = 0

    def __init__(self, values):
        self._values = values

    def to(self, device, non_blocking=False):
        DeviceTensor.n_blocking_reads += not non_blocking
        return self._values

    def _read(self):
        DeviceTensor.n_blocking_reads += 1
        return self._values

    def cpu(self):
        return self._read()

    def tolist(self):
        return self._read().tolist()

    def item(self):
        return self._read().item()

    def __getitem__(self, key):
        return DeviceTensor(self._values[key])

    def __float__(self):
        return float(self.item())


def test_deciding_together_reads_nothing_that_waits_for_the_device(monkeypatch):
    monkeypatch.setattr(interruption.accelerate.utils, "reduce", lambda own, reduction: DeviceTensor(2 * own))
    monkeypatch.setattr(torch.cuda, "Event", Mock)
    monkeypatch.setattr(torch.cuda, "current_stream", Mock())
    request = interruption.StopRequest()
    callback = interruption.StopCallback(request)
    args = SimpleNamespace(process_index=1, world_size=2, device=torch.device("cpu"))
    request.signal = signal.SIGTERM
    wanted = []
    for _ in range(3):
        callback.on_step_end(args, TrainerState(), control := TrainerControl())
        wanted.append(control.should_save)
    assert wanted == [False, True, True]
    assert DeviceTensor.n_blocking_reads == 0


def damage(checkpoint, how):
    weights = checkpoint / "model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "flipped":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(bytes(content))
    elif how == "gone":
        (checkpoint / "optimizer.pt").unlink()
    elif how == "unfinished":
        (checkpoint / checkpoints.SEAL_FILE).unlink()
    elif how == "no seal":
        (checkpoint / checkpoints.SEAL_FILE).write_bytes(b"{\x00")


@pytest.mark.parametrize("how", ["cut", "flipped", "gone", "unfinished", "no seal"])
def test_damage_is_noticed(tmp_path, how):
    checkpoint = tmp_path / "checkpoint-9"
    checkpoint.mkdir()
    for name in ("model.safetensors", "optimizer.pt"):
        (checkpoint / name).write_bytes(bytes(200))
    checkpoints.seal(checkpoint, seconds=1.0)
    assert checkpoints.is_intact(checkpoint)
    damage(checkpoint, how)
    assert not checkpoints.is_intact(checkpoint)


def test_after_a_damaged_checkpoint_the_one_before_is_used(command, uninterrupted, tmp_path, monkeypatch, caplog):
    argv = (*command, "--output_dir", tmp_path / "model")
    at_step(monkeypatch, 9, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert run_finetune(*argv) == 143
    damage(tmp_path / "model.partial" / "checkpoint-9", "flipped")
    caplog.clear()
    steps = []
    at_step(monkeypatch, 7, lambda trainer: steps.append(trainer.state.global_step))
    assert run_finetune(*argv) == 0
    (warning,) = (one.message for one in caplog.records if "checkpoint-9" in one.message and one.levelname == "WARNING")
    assert "is damaged; it is removed and not used" in warning
    assert steps == [6]
    assert_same(tmp_path / "model", uninterrupted)


def test_without_any_good_checkpoint_it_starts_again(command, uninterrupted, tmp_path, monkeypatch):
    argv = (*command, "--output_dir", tmp_path / "model")
    at_step(monkeypatch, 3, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert run_finetune(*argv) == 143
    damage(tmp_path / "model.partial" / "checkpoint-3", "cut")
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", uninterrupted)


def test_a_full_disk_loses_nothing(command, uninterrupted, tmp_path, monkeypatch, capsys):
    argv = (*command, "--output_dir", tmp_path / "model")
    save = torch.save

    def full(content, path, *args, **kwargs):
        if "checkpoint-12" in str(path):
            Path(path).write_bytes(b"half")
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534")
        save(content, path, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        assert run_finetune(*argv) == 2
    assert f"The disk that holds {tmp_path / 'model'} is full" in capsys.readouterr().err
    assert [path.name for path in checkpoints.all_in(tmp_path / "model.partial")] == ["checkpoint-6"]
    assert checkpoints.is_intact(tmp_path / "model.partial" / "checkpoint-6")
    assert run_finetune(*argv) == 0
    assert_same(tmp_path / "model", uninterrupted)


def test_a_loss_that_is_no_number_stops_with_step_rate_and_advice(command, tmp_path, monkeypatch, capsys):
    def spoil(trainer):
        with torch.no_grad():
            trainer.model.classifier.bias.fill_(float("nan"))

    at_step(monkeypatch, 8, spoil)
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 2
    (error,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))
    assert "The training loss became nan in steps 7 to 10, at a learning rate of" in error
    assert "--learning_rate (5.0e-04 instead of 5.0e-03)" in error
    assert checkpoints.is_intact(tmp_path / "model.partial" / "checkpoint-6")


def test_out_of_memory_halves_the_parts_but_not_the_batch(command, tmp_path, monkeypatch, caplog):
    sizes = []
    training_step = ImageTrainer.training_step

    def small_device(self, model, inputs, *args, **kwargs):
        sizes.append(len(inputs["labels"]))
        if sizes[-1] > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return training_step(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(ImageTrainer, "training_step", small_device)
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 0
    assert sizes[:3] == [16, 8, 4]
    training = results.read(tmp_path / "model")["training"]
    assert (training["batch_size"], training["n_steps"]) == (16, N_STEPS)
    assert "continuing with batches of 4 images, 4 of them accumulated per step" in caplog.text


def test_a_model_for_which_no_image_fits_is_named(command, tmp_path, monkeypatch, capsys):
    def tiny_device(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ImageTrainer, "training_step", tiny_device)
    assert run_finetune(*command, "--output_dir", tmp_path / "model") == 2
    assert "Not even one image fits" in capsys.readouterr().err
