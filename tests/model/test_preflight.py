"""What a run will be and cost, and in which numbers it is computed."""

import copy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from memevit import results
from memevit.arguments import RecipeArguments
from memevit.data import dataset as prepared_dataset
from memevit.errors import UserError
from memevit.evaluation import predictions
from memevit.model import precision, preflight, recipe, runs, timing
from memevit.model.preflight import Plan
from tests.conftest import run_finetune

pytestmark = pytest.mark.usefixtures("no_figures")
COUNTS = {"train": 84, "validation": 20, "test": 10}
PLAN = Plan("fp32", 16, 1, -1, step_s=2.0, image_s=0.1)


def arguments(**changed):
    usual = {
        "num_train_epochs": 2.0,
        "world_size": 1,
        "device": torch.device("cpu"),
        "per_device_train_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "max_steps": -1,
        "mixed_precision": "no",
        "save_strategy": "epoch",
        "output_dir": "model",
        "process_index": 0,
        "dataloader_num_workers": 0,
        "fsdp": "",
        "torch_compile": False,
    }
    return SimpleNamespace(**usual | changed)


@pytest.fixture
def model(tiny_backbone):
    return AutoModelForImageClassification.from_pretrained(tiny_backbone)


@pytest.mark.parametrize(
    ("batch_size", "accumulation", "world_size", "expected"), [(16, 1, 1, 6), (8, 2, 1, 6), (8, 1, 2, 6), (84, 1, 1, 1)]
)
def test_steps_per_epoch_round_up(batch_size, accumulation, world_size, expected):
    plan = Plan("fp32", batch_size, accumulation, -1, None, None)
    assert preflight.steps_per_epoch(84, plan, arguments(world_size=world_size)) == expected
    assert preflight.steps_in(84, plan, arguments(world_size=world_size)) == 2 * expected


@pytest.mark.parametrize(("before", "after"), [((12, 1), (6, 2)), ((3, 4), (1, 12)), ((6, 2), (3, 4))])
def test_halving_keeps_the_effective_batch(before, after):
    halved = Plan("fp32", *before, -1, None, None).halved()
    assert (halved.batch_size, halved.accumulation) == after


def test_estimated_seconds():
    # 12 steps of 2 s; validation after 2 epochs and once more at the end, and test: 70 images of 0.1 s.
    assert preflight.seconds_of(PLAN, arguments(), COUNTS) == pytest.approx(12 * 2.0 + 70 * 0.1)


@pytest.mark.parametrize(
    ("saving", "n_saves"),
    [
        ({"save_strategy": "epoch"}, 2),
        ({"save_strategy": "steps", "save_steps": 4}, 3),
        ({"save_strategy": "steps", "save_steps": 0.25}, 4),
        ({"save_strategy": "no"}, 0),
    ],
)
def test_the_time_of_checkpoints_counts(saving, n_saves):
    plan, args = replace(PLAN, save_s=10.0), arguments(**saving)
    without_s = preflight.seconds_of(PLAN, args, COUNTS)
    assert preflight.seconds_of(plan, args, COUNTS) == pytest.approx(without_s + 10.0 * n_saves)
    assert (preflight._limited(plan, args, COUNTS, 40.0).max_steps < 12) == (n_saves > 0)


def test_saving_is_timed_where_the_run_will_be(tmp_path):
    folder = tmp_path / "runs" / "model"
    small, large = (timing.seconds_to_save(n_bytes, folder) for n_bytes in (1_000_000, 1_000_000_000))
    assert 0 < small < large
    assert not list(tmp_path.iterdir())
    assert timing.seconds_to_save(1_000_000, Path("/proc/model")) == 0.0  # The run itself says what is wrong.


@pytest.mark.parametrize(
    ("limit_s", "steps"),
    [
        (20.0, 6),  # 18 s of it planned, 3 for the end, 15 for steps of 2 s and a sixth of 2 s of validation.
        (1e6, 12),  # Never more than asked for.
    ],
)
def test_a_time_limit_picks_the_steps_that_fit(limit_s, steps):
    assert preflight._limited(PLAN, arguments(), COUNTS, limit_s).max_steps == steps


@pytest.mark.parametrize(
    ("limit_s", "steps"),
    [
        (34.0, 6),  # 30.6 s planned, 3 for the end, 11.4 for features: 16.2 s are left, and an epoch of 6 steps fits.
        (28.0, 5),  # 10.8 s would be left, for 4 steps: there are no features, and one step less than an epoch.
    ],
)
def test_features_for_a_linear_probe_take_their_share_of_the_limit(limit_s, steps):
    counts = COUNTS | {preflight.FEATURES: sum(COUNTS.values())}
    assert preflight._limited(PLAN, arguments(), counts, limit_s).max_steps == steps


def test_a_time_limit_without_room_for_a_step_is_refused():
    with pytest.raises(UserError, match=r"leaves 5 s per model; evaluation takes 3 s of it and a step 2.0 s"):
        preflight._limited(PLAN, arguments(), COUNTS, 5.0)


def make(model, **changed):
    wanted = changed.pop("wanted", "auto")
    counts = changed.pop("counts", COUNTS)
    return preflight.make(
        model,
        arguments(**changed),
        load=lambda n: torch.zeros(n, 3, 32, 32),
        counts=counts,
        wanted=wanted,
        limit_s=None,
    )


def test_timing_changes_nothing(model):
    model.train(False)
    weights, generator = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    batch = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert timing.step_seconds(model, batch, "fp32") > 0
    assert timing.image_seconds(model, batch, "bf16") > 0
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(generator, torch.get_rng_state())
    assert not model.training


@pytest.mark.parametrize(("name", "attention"), [("fp32", "sdpa"), ("bf16", "eager")])
def test_a_step_is_timed_with_the_attention_that_training_takes(model, name, attention):
    seen = []
    handle = model.register_forward_pre_hook(lambda *_: seen.append(model.config._attn_implementation))
    timing.step_seconds(model, torch.zeros(2, 3, 32, 32), name)
    handle.remove()
    assert set(seen) == {attention}
    assert model.config._attn_implementation == "sdpa"


def timed_as(monkeypatch, seconds_by_precision, *, has_bf16=True):
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: has_bf16)
    monkeypatch.setattr(timing, "step_seconds", lambda model, batch, name: seconds_by_precision[name] * len(batch))
    monkeypatch.setattr(timing, "image_seconds", lambda model, batch, name: 0.001)


@pytest.mark.parametrize(
    ("seconds", "has_bf16", "n_train", "expected"),
    [
        ({"fp32": 1.0, "bf16": 0.5}, True, 1000, "bf16"),
        ({"fp32": 1.0, "bf16": 0.9}, True, 1000, "fp32"),  # Not worth the lost digits.
        ({"fp32": 1.0, "bf16": 0.5}, False, 1000, "fp32"),
        ({"fp32": 1.0, "bf16": 0.5}, True, 84, "fp32"),  # Three minutes: not worth it either.
    ],
)
def test_a_processor_takes_bf16_where_it_is_clearly_quicker(monkeypatch, model, seconds, has_bf16, n_train, expected):
    timed_as(monkeypatch, seconds, has_bf16=has_bf16)
    assert make(model, counts=COUNTS | {"train": n_train}).precision == expected


def test_what_was_asked_for_is_not_questioned(monkeypatch, model):
    timed_as(monkeypatch, {"fp32": 1.0, "bf16": 0.1})
    many = COUNTS | {"train": 1000}
    assert make(model, wanted="fp32", counts=many).precision == "fp32"
    assert make(model, mixed_precision="bf16", counts=many).precision == "bf16"


def test_an_explicit_request_to_compile_is_followed():
    args = arguments(torch_compile=True)
    PLAN.set_on(args)
    assert args.torch_compile


@pytest.mark.parametrize(
    ("has_bf16", "capability", "expected"), [(True, (8, 0), "bf16"), (False, (7, 5), "fp16"), (False, (6, 1), "fp32")]
)
def test_precision_of_graphics_cards(monkeypatch, has_bf16, capability, expected):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    assert precision.of_accelerator(torch.device("cuda")) == expected


def test_a_batch_that_does_not_fit_is_divided_before_the_run(monkeypatch, model):
    def small_device(model, batch, name):
        if len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 1.0

    monkeypatch.setattr(timing, "step_seconds", small_device)
    plan = make(model, per_device_train_batch_size=8)
    assert (plan.batch_size, plan.accumulation) == (4, 2)


def test_a_batch_that_does_not_even_load_is_divided_before_the_run(model):
    def load(n):
        if n > 4:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return torch.zeros(n, 3, 32, 32)

    counts = {"train": 84, "validation": 18, "test": 18}
    args = arguments(per_device_train_batch_size=8)
    plan = preflight.make(model, args, load=load, counts=counts, wanted="fp32", limit_s=None)
    assert (plan.batch_size, plan.accumulation) == (4, 2)


def test_processes_look_for_parameters_without_a_gradient_only_where_there_are_some(model):
    image = torch.zeros(1, 3, model.config.image_size, model.config.image_size)
    assert not timing.has_idle(model, image, "fp32")
    model.register_parameter("idle", torch.nn.Parameter(torch.ones(1)))
    assert timing.has_idle(model, image, "fp32")
    assert all(parameter.grad is None for parameter in model.parameters())
    for plan, given, expected in ((PLAN, None, None), (replace(PLAN, has_idle=False), None, False),
                                  (replace(PLAN, has_idle=False), True, True)):  # fmt: skip
        args = arguments(ddp_find_unused_parameters=given)
        plan.set_on(args)
        assert args.ddp_find_unused_parameters is expected


def test_a_dry_run_says_what_would_happen_and_writes_nothing(tmp_path, prepared, tiny_backbone, caplog):
    caplog.set_level("INFO")
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    batch = ("--per_device_train_batch_size", 8, "--gradient_accumulation_steps", 2)
    assert run_finetune(*argv, "--use_cpu", "--dry_run", *batch) == 0
    assert list(tmp_path.iterdir()) == []
    for expected in (
        "images            train validation       test",
        "coral                28          6          6",
        "all                  84         18         18",
        "trained",
        "batch       16 = 8 x 2 accumulated\n",
        "steps       120 (20.0 epochs)",
        "time        about",
        "disk        up to",
    ):
        assert expected in caplog.text


def test_a_dry_run_may_name_a_model_that_is_finished(trained, prepared, tiny_backbone, caplog):
    caplog.set_level("INFO")
    before = {path: path.stat().st_mtime_ns for path in trained.rglob("*")}
    argv = ("--dataset", prepared, "--output_dir", trained, "--model_name_or_path", tiny_backbone)
    assert run_finetune(*argv, "--use_cpu", "--dry_run") == 0
    assert "steps " in caplog.text
    assert {path: path.stat().st_mtime_ns for path in trained.rglob("*")} == before


def test_a_run_that_goes_on_keeps_its_plan(tmp_path, prepared, tiny_backbone, monkeypatch):
    from memevit.model import runs

    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    argv += ("--use_cpu", "--disable_tqdm", True, "--time_limit", 10, "--max_steps", 2)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "train_all", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_finetune(*argv)
    monkeypatch.setattr(preflight, "make", lambda *_, **__: 1 / 0)
    assert run_finetune(*argv) == 0
    assert results.read_run(tmp_path / "model")["plan"]["max_steps"] == 2


def test_half_precision_trains_and_reports_what_the_model_says_in_full(tmp_path, prepared, tiny_backbone):
    argv = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    more = ("--use_cpu", "--disable_tqdm", True, "--precision", "bf16", "--max_steps", 8, "--learning_rate", 5e-3)
    assert run_finetune(*argv, *more) == 0
    assert results.read(tmp_path / "model")["training"]["precision"] == "bf16"
    classify = pipeline("image-classification", model=str(tmp_path / "model"), device="cpu")
    assert classify.model.dtype == torch.float32
    assert classify.model.config._attn_implementation == "sdpa"
    written, data = predictions.read(tmp_path / "model"), prepared_dataset.load(prepared)
    row_of = dict(zip(written.paths, written.probabilities, strict=True))
    test, class_names = data["test"], data["test"].features["label"].names
    for path, name in list(zip(prepared_dataset.paths_of(test), test["file"], strict=True))[:6]:
        scores = {row["label"]: row["score"] for row in classify(str(path), top_k=None)}
        assert np.allclose(row_of[name], [scores[each] for each in class_names], atol=1e-5)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--precision", "fp16"), "fp16 needs a GPU"),
        (("--time_limit", 0), "--time_limit must be more than 0 minutes, got 0."),
        (("--time_limit", 1e-6), "Give more minutes"),
        (("--seeds", 1, 1), "--seeds names a seed twice: 1 1."),
        (("--report_to", "tensorbord"), "--report_to does not know 'tensorbord'. Choose tensorboard, trackio or none."),
        (("--folds",), "has no folds; one is tested, one selects the checkpoint, and at least one trains."),
    ],
)
def test_wrong_options_are_told_in_a_sentence(tmp_path, prepared, tiny_backbone, capsys, argv, message):
    usual = ("--dataset", prepared, "--output_dir", tmp_path / "model", "--model_name_or_path", tiny_backbone)
    assert run_finetune(*usual, "--use_cpu", *argv) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_reporter_that_is_not_installed_is_named_before_anything_else(tmp_path, capsys, monkeypatch):
    from memevit.model import progress

    monkeypatch.setitem(progress._INSTALLED, "trackio", lambda: False)
    assert run_finetune("--dataset", "x", "--output_dir", tmp_path / "m", "--report_to", "trackio") == 2
    assert "python -m pip install trackio" in capsys.readouterr().err


def test_a_model_that_fsdp_divides_is_not_moved(monkeypatch, prepared, tiny_backbone):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    args = arguments(seed=0)
    chosen = recipe.complete(RecipeArguments(), arguments(learning_rate=1e-3), from_scratch=True)
    image_processor = AutoImageProcessor.from_pretrained(tiny_backbone)
    # All processes but the first have weights without values.
    divided = AutoModelForImageClassification.from_pretrained(tiny_backbone).to("meta")
    job = SimpleNamespace(
        load=lambda: (divided, image_processor), recipe=chosen, cache_dir=None, has_probe_baseline=lambda _: False
    )
    run = runs.Run(runs.MODEL, "model", 0, prepared_dataset.load(prepared))
    plan, model = runs.rehearse([run], job, args, before=None, wanted="fp32", limit_s=None)
    assert plan.step_s is None
    assert model.device.type == "meta"
