"""Fixtures for the whole suite: no network, few threads, drawn images, a tiny model."""

import os
import tempfile

# Before torch and the Hub client are imported, which read these once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp(prefix="modules-")  # For code that comes with a model.

import functools
import gc
import ipaddress
import shutil
import socket
import sys

import filelock
import numpy as np
import pytest
from PIL import Image, ImageDraw

from memevit import cli, decoding
from memevit.data import keypoints

COLOURS = {"coral": (220, 90, 70), "moss": (90, 150, 80), "slate": (80, 100, 170)}


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_MODULES_CACHE"], ignore_errors=True)


def pytest_collection_finish():
    """Take what was imported out of every later garbage collection: a training asks for three, of 0.2 s each."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def nothing_is_done_twice():
    """Decode in this process, for others take 0.4 s to start; draw images of no game, and describe images, once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "mapped", lambda function, items, **_: ((item, function(item)) for item in items))
        patch.setattr(keypoints, "describe", _once(keypoints.describe))
        if "torch" in sys.modules:  # Else nothing is trained.
            from memevit.commands import calibrate

            patch.setattr(calibrate, "_drawn", functools.cache(calibrate._drawn))
        yield


def _once(describe):
    known = {}

    def described(image, **options):
        key = (image.tobytes(), image.size, *options.items())
        if key not in known:
            known[key] = describe(image, **options)
        return known[key]

    return described


@pytest.fixture
def decoder_processes(monkeypatch):
    """Decode in processes all the same."""
    monkeypatch.setattr(decoding, "mapped", _MAPPED)


_MAPPED = decoding.mapped


@pytest.fixture
def no_figures(monkeypatch):
    """Leave the figures of a model folder out, which take a third of a short training."""
    monkeypatch.setattr("memevit.evaluation.plots.figures", lambda found: {})


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Connections to anything but this machine fail at once."""
    monkeypatch.setattr(socket.socket, "connect", socket.socket.connect)  # Put back after the test.
    guard_connections()


def guard_connections():
    """Let connections to anything but this machine fail at once, in this process, from now on."""
    connect = socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    socket.socket.connect = guarded


def _is_loopback(host):
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def draw_image(seed, *, colour=(128, 128, 128), size=(96, 72)):
    """An image that no other seed gives: shapes on tinted noise."""
    random = np.random.default_rng(seed)
    noise = random.integers(-40, 41, (size[1] // 4 + 1, size[0] // 4 + 1, 3))
    levels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    image = Image.fromarray(levels).resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = random.integers(0, size[0]), random.integers(0, size[1])
        width, height = random.integers(8, size[0] // 2, 2)
        box = (int(x), int(y), int(x + width), int(y + height))
        shape = pen.ellipse if random.random() < 0.5 else pen.rectangle
        shape(box, fill=tuple(int(level) for level in random.integers(0, 256, 3)))
    return image


def write_classes(root, *, n=12, class_names=("coral", "moss", "slate"), suffix="png", first_seed=0):
    """Class folders with `n` images each, tinted by class."""
    for number, name in enumerate(class_names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(n):
            seed = first_seed + 1000 * number + index
            image = draw_image(seed, colour=list(COLOURS.values())[number % len(COLOURS)])
            image.save(root / name / f"{name}_{index:03}.{suffix}")
    return root


def run_script(script, *argv, groups):
    """Run a script's main in this process as its command line would; returns the exit code."""
    positional = getattr(script, "POSITIONAL", None)
    return cli.run(script.main, *groups, doc=script.__doc__, argv=[str(part) for part in argv], positional=positional)


def run_data_prep(*argv):
    import data_prep
    from memevit.arguments import SourceArguments, SplitArguments

    return run_script(data_prep, *argv, groups=(SourceArguments, SplitArguments))


def run_finetune(*argv, probe_if_better=False):
    """The command, which by default saves the fine-tuned model even if it is worse than a linear probe."""
    import finetune_vit
    from memevit.arguments import ModelArguments, OpenSetArguments, RecipeArguments, RunArguments
    from memevit.model.recipe import FineTuningArguments

    groups = (ModelArguments, RecipeArguments, RunArguments, OpenSetArguments, FineTuningArguments)
    return run_script(finetune_vit, *argv, *(() if probe_if_better else ("--no_probe_if_better",)), groups=groups)


def run_diagnose(*argv):
    import diagnose
    from memevit.arguments import DiagnoseArguments

    return run_script(diagnose, *argv, groups=(DiagnoseArguments,))


def run_sort(*argv):
    import sort_memes
    from memevit.arguments import SortArguments

    return run_script(sort_memes, *argv, groups=(SortArguments,))


def run_push(*argv):
    import push_to_hub
    from memevit.arguments import PushArguments

    return run_script(push_to_hub, *argv, groups=(PushArguments,))


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory):
    """A ViT of 16 thousand random parameters with its image processor, as a local checkpoint."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("backbone") / "vit-tiny-random"
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    ViTForImageClassification(config).save_pretrained(path)
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(
        path
    )
    return path


def made_once(tmp_path_factory, name, make):
    """A copy of the folder that `make` fills; with several workers, one of them makes it and all have a copy."""
    copy = tmp_path_factory.mktemp(name)
    shared = tmp_path_factory.getbasetemp()
    shared = (shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared) / f"shared-{name}"
    with filelock.FileLock(f"{shared}.lock"):
        if not shared.exists():
            partial = shared.with_name(f"{shared.name}.partial")
            partial.mkdir()
            make(partial)
            partial.rename(shared)
    return shutil.copytree(shared, copy, dirs_exist_ok=True)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A prepared dataset of three tinted classes, 40 images each, beside its source."""

    def prepare(root):
        write_classes(root / "source", n=40)
        assert run_data_prep("--source", root / "source", "--output_dir", root / "data", "--num_proc", 1) == 0

    return made_once(tmp_path_factory, "prepared", prepare) / "data"


@pytest.fixture(scope="session")
def trained(tmp_path_factory, prepared, tiny_backbone):
    """A model folder: the tiny backbone fine-tuned on `prepared`."""

    def train(root):
        code = run_finetune(
            *("--dataset", prepared, "--output_dir", root / "model", "--model_name_or_path", tiny_backbone),
            *("--num_train_epochs", 12, "--learning_rate", 5e-3, "--per_device_train_batch_size", 16),
            *("--use_cpu", "--disable_tqdm", True, "--save_total_limit", 2),
        )
        assert code == 0

    return made_once(tmp_path_factory, "trained", train) / "model"


ATTACK = '=cmd|"<script>alert(1)</script>'


@pytest.fixture(scope="session")
def diagnosed(tmp_path_factory, prepared, trained, tiny_backbone):
    """A model with its report; the dataset has a title that is an attack, and validation labels that are wrong."""
    root = tmp_path_factory.mktemp("diagnosed")
    shutil.copytree(trained, root / "model")
    shutil.copytree(prepared, root / "data")
    from memevit import manifest

    rows = manifest.read(root / "data")
    for row in rows:
        row.extra = {"title": ATTACK}
    held_out = [row for row in rows if row.status == manifest.KEPT and row.split != "train"]
    for row, other in ((held_out[0], "moss"), (held_out[1], "slate"), (held_out[-1], "coral")):
        row.class_name = other
    manifest.write(root / "data", rows)
    code = run_diagnose(
        *("--model", root / "model", "--dataset", root / "data", "--backbone", tiny_backbone, "--learning_curve"),
        *("--compare", trained, "--heat_maps", 2, "--num_proc", 1),
    )
    assert code == 0
    return root
