"""Training from cached pixels: repeatable, as good as from files, and without waiting for the device or one another."""

import contextlib
import pickle
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.data import DataLoader
from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)

from memevit.arguments import RecipeArguments
from memevit.data import dataset as prepared_dataset
from memevit.errors import UserError
from memevit.model import balance, image_dataset, training
from memevit.model import trainer as trainer_module
from memevit.model.image_dataset import AugmentAndNormalise, Augmentation, Mixing, as_batch
from memevit.model.processor import Processor
from memevit.model.recipe import complete


@pytest.fixture(scope="module")
def shown(tiny_backbone):
    return Processor.of(AutoImageProcessor.from_pretrained(tiny_backbone))


@pytest.fixture
def images(prepared, shown, tmp_path):
    """Datasets from files and from the cache, by split."""
    splits = prepared_dataset.load(prepared)
    files = image_dataset.image_datasets(splits, shown, Augmentation(), seed=3)
    cached = image_dataset.image_datasets(splits, shown, Augmentation(), seed=3, cache_dir=tmp_path, n_processes=0)
    return {"files": files, "cached": cached}


def test_evaluation_pixels_are_the_same_from_files_and_from_the_cache(images):
    positions = list(range(len(images["files"]["test"])))
    one, other = (images[kind]["test"].__getitems__(positions) for kind in ("files", "cached"))
    assert torch.equal(one["pixel_values"], other["pixel_values"])
    assert torch.equal(one["labels"], other["labels"])


def test_folds_share_their_pixels(prepared, shown, tmp_path, caplog):
    splits = prepared_dataset.load(prepared)
    names = ("train", "validation", "test")
    for turn in range(3):
        turned = {name: splits[names[(number + turn) % 3]] for number, name in enumerate(names)}
        options = {"seed": 3, "cache_dir": tmp_path, "n_processes": 0}
        alone = image_dataset.image_datasets(turned, shown, Augmentation(), **options)
        with caplog.at_level("INFO"):
            caplog.clear()
            shared = image_dataset.image_datasets(turned, shown, Augmentation(), for_folds=True, **options)
        # One cache for the splits that vary and one for the others, and none for the folds that follow.
        assert len([text for text in caplog.messages if "Caching decoded images" in text]) == (2 if turn == 0 else 0)
        for name in names:
            positions = list(range(len(alone[name])))
            one, other = (
                alone[name].__getitems__(positions),
                pickle.loads(pickle.dumps(shared[name])).__getitems__(positions),
            )
            assert one.keys() == other.keys()
            assert all(torch.equal(values, other[key]) for key, values in one.items())


def test_training_pixels_are_nearly_the_same_from_files_and_from_the_cache(images, shown):
    finish = AugmentAndNormalise(shown, Augmentation())
    one, other = (finish(images[kind]["train"].__getitems__([0, 5, 9])) for kind in ("files", "cached"))
    assert one["pixel_values"].shape == other["pixel_values"].shape == (3, 3, 32, 32)
    # Values reach from -1 to 1; box edges are rounded to pixels in one of them, and the image resized twice.
    assert (one["pixel_values"] - other["pixel_values"]).abs().mean() < 0.1


@pytest.mark.parametrize("kind", ["files", "cached"])
def test_an_image_varies_by_epoch_but_not_by_batch_or_loader(images, kind):
    dataset = images[kind]["train"]
    finish = AugmentAndNormalise(dataset._processor, Augmentation(erasing=0.5))
    alone = finish(as_batch([dataset[4]]))["pixel_values"][0]
    loader = DataLoader(dataset, batch_size=6, num_workers=1, collate_fn=as_batch, persistent_workers=True)
    assert torch.allclose(finish(next(iter(loader)))["pixel_values"][4], alone, atol=1e-5)
    dataset.set_epoch(1)
    later = finish(next(iter(loader)))["pixel_values"][4]
    assert not torch.allclose(later, alone, atol=0.01)
    dataset.set_epoch(0)
    assert torch.allclose(finish(next(iter(loader)))["pixel_values"][4], alone, atol=1e-5)


def test_a_loader_process_that_was_not_forked_maps_the_same_file(images):
    dataset = images["cached"]["train"]
    content = pickle.dumps(dataset)
    assert len(content) < dataset._cached.nbytes / 4
    again = pickle.loads(content)
    assert isinstance(again._cached, np.memmap)
    assert torch.equal(again.__getitems__([3, 1])["pixel_values"], dataset.__getitems__([3, 1])["pixel_values"])


def test_mixing_makes_labels_of_training_images_soft_and_no_others(images, shown):
    finish = AugmentAndNormalise(shown, Augmentation(), Mixing(mixup=0.4, cutmix=0.4), n_classes=3)
    train = finish(images["cached"]["train"].__getitems__([0, 40, 80]))
    test = finish(images["cached"]["test"].__getitems__([0, 1]))
    assert train["labels"].shape == (3, 3)
    assert torch.allclose(train["labels"].sum(dim=1), torch.ones(3))
    assert test["labels"].shape == (2,)


def test_a_batch_from_elsewhere_passes_unchanged(shown):
    batch = {"pixel_values": torch.zeros(2, 3, 32, 32)}
    assert AugmentAndNormalise(shown)(batch) is batch


def trainer_of(images, shown, tiny_backbone, output_dir, **options):
    set_seed(0)
    processor = AutoImageProcessor.from_pretrained(tiny_backbone)
    model = AutoModelForImageClassification.from_pretrained(
        tiny_backbone, num_labels=3, ignore_mismatched_sizes=True, problem_type="single_label_classification"
    )
    usual = {
        "use_cpu": True, "disable_tqdm": True, "report_to": "none", "remove_unused_columns": False,
        "save_strategy": "no", "per_device_train_batch_size": 16, "learning_rate": 5e-3, "seed": 0,
        "dataloader_pin_memory": False, "logging_steps": 1000,
    }  # fmt: skip
    args = TrainingArguments(output_dir=str(output_dir), **usual | options)
    recipe = complete(RecipeArguments(), args, from_scratch=True)
    return trainer_module.build_trainer(
        model, processor, args, recipe, train=images["train"], validation=images["validation"],
        prepare_batch=AugmentAndNormalise(shown, Augmentation()),
        compute_metrics=lambda logits, true: {"accuracy": (logits.argmax(axis=1) == true).mean()},
    )  # fmt: skip


def test_cached_pixels_train_as_well_as_files(images, shown, tiny_backbone, tmp_path):
    """Paired over seeds on a task that is learned from either: the means may not lie apart."""
    accuracy = {}
    for kind in ("files", "cached"):
        trainer = trainer_of(images[kind], shown, tiny_backbone, tmp_path, num_train_epochs=12)
        trainer.train()
        accuracy[kind] = trainer.evaluate()["eval_accuracy"]
    assert min(accuracy.values()) >= 15 / 18
    assert abs(accuracy["files"] - accuracy["cached"]) <= 2 / 18


class HostReads(TorchDispatchMode):
    """Counts what makes the host wait on an accelerator: a value of a tensor that is read."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.n += 1
        return function(*args, **(kwargs or {}))


def test_no_step_reads_a_value_back_from_the_device(images, shown, tiny_backbone, tmp_path):
    counts = {}
    for n_steps in (2, 5):  # Of 6 in an epoch, for the loader itself asks for a seed once per epoch.
        trainer = trainer_of(images["cached"], shown, tiny_backbone, tmp_path, max_steps=n_steps)
        with HostReads() as reads:
            trainer.train()
        counts[n_steps] = reads.n
    assert counts[2] == counts[5]


def test_reading_a_value_would_have_been_noticed():
    with HostReads() as reads:
        float(torch.ones(()))
    assert reads.n == 1


class Moves(TorchDispatchMode):
    """Counts tensors that come from another device than what they are made of; a copy makes the host wait."""

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.n += any(isinstance(arg, torch.Tensor) and arg.device != made.device for arg in args)
        return made


def test_only_the_first_batch_takes_constants_to_the_device(shown):
    """On a device without numbers, where every operation between two devices fails."""
    finish = AugmentAndNormalise(shown, Augmentation(erasing=0.5), Mixing(0.2, 0.2), n_classes=3)
    loss_of = balance.ClassificationLoss(torch.ones(3))
    batch = {
        "pixel_values": torch.empty(4, 3, 41, 41, dtype=torch.uint8, device="meta"),
        "labels": torch.zeros(4, dtype=torch.long, device="meta"),
        "parameters": torch.rand(4, 16, device="meta"),
        "crops": torch.rand(4, 4, device="meta"),
    }
    moved = []
    for _ in range(3):
        with Moves() as moves:
            finished = finish(batch)
            logits = finished["pixel_values"].mean(dim=(2, 3))
            loss = loss_of({"logits": logits}, finished["labels"], torch.tensor(4, device="meta"))
        assert loss.is_meta
        moved.append(moves.n)
    assert moved[0] > 0
    assert moved[1:] == [0, 0]


@pytest.mark.parametrize("n_batches", [1, 2])
def test_one_batch_is_prepared_ahead_and_accumulated_ones_stay_small(
    images, shown, tiny_backbone, tmp_path, monkeypatch, n_batches
):
    trainer = trainer_of(images["cached"], shown, tiny_backbone, tmp_path, gradient_accumulation_steps=n_batches)
    trainer._copy_stream, compute_stream = SimpleNamespace(), Mock()
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: compute_stream)
    held = []
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: held.append(id(tensor)))
    loader = trainer.get_train_dataloader()
    batches, n_items = trainer.get_batch_samples(iter(loader), n_batches, trainer.args.device)
    kinds = {batch["pixel_values"].dtype for batch in batches}
    assert kinds == {torch.float32 if n_batches == 1 else torch.uint8}
    assert int(n_items) == 16 * n_batches
    # The GPU may not use a batch before it is there, nor its memory be reused before it is done with it.
    compute_stream.wait_stream.assert_called_once_with(trainer._copy_stream)
    assert set(held) == {id(n_items)} | {id(value) for batch in batches for value in batch.values()}


def test_fetching_a_batch_waits_for_no_other_process(images, shown, tiny_backbone, tmp_path, monkeypatch):
    """A collective there would run in the copy stream, before the batch is augmented."""
    trainer = trainer_of(images["cached"], shown, tiny_backbone, tmp_path)
    loader = iter(trainer.get_train_dataloader())
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    monkeypatch.setattr(trainer.accelerator, "gather", lambda *_: pytest.fail("waited for another process"))
    _, n_items = trainer.get_batch_samples(loader, 1, trainer.args.device)
    assert int(n_items) == 16


@pytest.mark.parametrize(
    ("kind", "pinned", "expected"), [("cuda", True, True), ("cuda", False, False), ("cpu", True, False)]
)
def test_only_pinned_memory_is_copied_without_waiting(tmp_path, monkeypatch, kind, pinned, expected):
    args = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    args.dataloader_pin_memory = pinned
    monkeypatch.setattr(TrainingArguments, "device", torch.device(kind))
    trainer_module.disable_synchronisation(args)
    assert bool(args.accelerator_config.non_blocking) == expected


def test_a_batch_in_pinned_memory_is_the_same(images, monkeypatch):
    dataset = images["cached"]["train"]
    expected = dataset.__getitems__([3, 1, 1])["pixel_values"]
    empty, asked = torch.empty, []
    dataset.is_pinned = True
    with monkeypatch.context() as patch:  # There is none without a GPU.
        patch.setattr(
            torch, "empty", lambda *size, pin_memory, **rest: asked.append(pin_memory) or empty(*size, **rest)
        )
        assert torch.equal(dataset.__getitems__([3, 1, 1])["pixel_values"], expected)
    assert asked == [True]
    loader = DataLoader(dataset, batch_size=3, num_workers=1, collate_fn=as_batch)  # Its process may not ask a GPU.
    assert len(list(loader)) > 1


@pytest.mark.parametrize(
    ("options", "where", "stops_at"),
    [
        ({"logging_steps": 5}, "steps 1 to 5", 5),
        ({"logging_steps": 50, "save_strategy": "steps", "save_steps": 6}, "steps 1 to 6", 6),
        ({"logging_steps": 50, "save_strategy": "epoch"}, "steps 1 to 6", 6),
        ({"logging_strategy": "no", "max_steps": 4}, "steps 1 to 4", 4),
        ({"logging_steps": 1}, "step 4", 4),
    ],
)
def test_a_loss_that_is_not_finite_stops_before_it_is_saved(
    images, shown, tiny_backbone, tmp_path, monkeypatch, options, where, stops_at
):
    trainer = trainer_of(images["cached"], shown, tiny_backbone, tmp_path, **{"max_steps": 30, **options})
    steps = []

    def step(*args, **kwargs):
        steps.append(trainer.state.global_step + 1)
        return torch.tensor(float("nan") if steps[-1] == 4 else 1.0)

    monkeypatch.setattr(Trainer, "training_step", step)
    with pytest.raises(UserError, match=f"The training loss became nan in {where}, at a learning rate of"):
        trainer.train()
    assert steps[-1] == stops_at
    assert not list(tmp_path.glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("metric", "loss", "best_step"),
    [(0.5, 0.8, 20), (0.5, 1.0, 10), (0.5, 1.2, 10), (0.4, 0.1, 10), (0.6, 9.0, 20)],
)
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_of_equal_evaluations_the_one_with_the_lower_loss_is_the_best(metric, loss, best_step, sign):
    args = SimpleNamespace(metric_for_best_model="accuracy", greater_is_better=sign > 0)
    state = TrainerState(global_step=20, best_global_step=10, best_metric=sign * 0.5)
    state.log_history = [{"step": 10, "eval_loss": 1.0}, {"step": 20, "eval_loss": loss}]
    metrics = {"eval_accuracy": sign * metric, "eval_loss": loss}
    callback = trainer_module.TieBreakCallback()
    callback.on_evaluate(args, state, TrainerControl(), metrics=metrics)
    # What the Trainer does next, by its own code.
    args.save_strategy = "epoch"
    Trainer._determine_best_metric(SimpleNamespace(args=args, state=state), metrics, None)
    assert state.best_global_step == best_step
    assert state.best_metric == sign * max(metric, 0.5)


def test_the_epoch_is_told_also_in_the_middle_of_one(images):
    dataset = images["cached"]["train"]
    callback = trainer_module.EpochCallback(dataset)
    state = type("State", (), {"epoch": 2.375})
    callback.on_epoch_begin(None, state, None)
    expected = image_dataset.augment.draw(3, 2, np.array([1]))
    assert np.array_equal(dataset.__getitems__([1])["parameters"].numpy(), expected)


@pytest.mark.parametrize(("bf16", "expected"), [(True, "eager"), (False, "sdpa")])
def test_the_fused_attention_is_left_where_its_backward_pass_is_slow(
    images, shown, tiny_backbone, tmp_path, bf16, expected
):
    trainer = trainer_of(images["cached"], shown, tiny_backbone, tmp_path, max_steps=1, bf16=bf16)
    trainer.train()
    assert trainer.model.config._attn_implementation == expected
    training.save(trainer, trainer.processing_class, tmp_path / "model")
    assert "attn" not in (tmp_path / "model" / "config.json").read_text().replace("attention", "")
    again = AutoModelForImageClassification.from_pretrained(tmp_path / "model")
    assert again.config._attn_implementation == "sdpa"
