r"""Teach a small Vision Transformer what two large networks and the backbone it begins as see in real images.

    python -m benchmarks.debian_images --output images/
    python -m benchmarks.distil_backbone --config vit-micro-patch12-96 --images images/ --work_dir runs/distilled \
        --convolutional_teacher efficientnet-lite0/ --transformer_teacher dinov2-small-8-layers/

The settings are in distil_backbone.json. `runs/distilled/cache/` holds crops of the images and what each teacher says
of them (teacher_cache.py), made once. The student sees the very crops that its teachers saw, and, until the learning
rate falls, a random part of their patches. The same command goes on where it stopped, as pretrain_backbone.py does;
with a smaller `--steps` the cooldown comes earlier.
"""

import functools
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import IterableDataset
from transformers import ViTConfig, ViTModel
from transformers.utils import logging as transformers_logging

from benchmarks import teacher_cache
from benchmarks.pretrain_backbone import Schedule, keep_freed_memory, quicker_attention, run, tokens
from memevit import cli
from memevit.errors import UserError

logger = logging.getLogger(__name__)

SETTINGS_FILE = Path(__file__).with_suffix(".json")
TEMPERATURE = 2.0  # Of the logits.


@dataclass
class DistillationArguments:
    """Who teaches whom with which images, and for how long."""

    config: str = field(metadata={"help": "A name in distil_backbone.json."})
    images: Path = field(metadata={"help": "Folder of debian_images.py, or any that holds images."})
    convolutional_teacher: Path = field(metadata={"help": "Checkpoint folder of a classifier: features and logits."})
    transformer_teacher: Path = field(metadata={"help": "Checkpoint folder of a ViT: CLS and patch tokens."})
    work_dir: Path = field(metadata={"help": "Holds cache/, checkpoint/ and backbone/; a run that is there goes on."})
    start: Path = field(
        default=Path("runs/formulas/backbone"),
        metadata={"help": "The first weights, and the third teacher: what pretrain_backbone.py made."},
    )
    minutes: float = field(default=float("inf"), metadata={"help": "Stop with a checkpoint after so long."})
    steps: int = field(default=0, metadata={"help": "Another length than that of the settings; moves the cooldown."})
    workers: int = field(default=0, metadata={"help": "Processes that read the cache; 0 reads in this one."})
    threads: int = field(default=0, metadata={"help": "Of torch; 0 leaves its default."})
    seed: int = field(default=0, metadata={"help": "Of crops, order and heads."})


@dataclass(frozen=True, kw_only=True)
class Settings(Schedule):
    """An entry of distil_backbone.json; `weights` are those of the losses, by target."""

    weights: dict[str, float]
    crops: teacher_cache.CropSettings


def read_settings(name: str, *, steps: int = 0) -> Settings:
    """The settings called `name`.

    Raises:
        UserError: there are none of that name.
    """
    known = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    if name not in known:
        raise UserError(f"{SETTINGS_FILE.name} has no settings {name!r}; it has {', '.join(known)}.")
    entry = known[name] | ({"steps": steps} if steps else {})
    return Settings(**entry | {"crops": teacher_cache.CropSettings(**entry["crops"])})


class Student(nn.Module):
    """A ViT with a linear head per target: on its CLS token, or on its patches."""

    def __init__(self, settings: Settings, sizes: dict[str, int]) -> None:
        super().__init__()
        config = ViTConfig(**settings.architecture)
        config._attn_implementation = quicker_attention()
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden_size, size) for name, size in sizes.items()})

    def forward(self, images: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """Output of each head, from the patches at `positions` [B, kept] of `images` [B, 3, S, S] in [0, 1]."""
        hidden = tokens(self.vit, images, positions)
        return {
            name: head(hidden[:, 1:] if name in teacher_cache.PATCH_TARGETS else hidden[:, 0])
            for name, head in self.heads.items()
        }


def warm_start(vit: ViTModel, folder: Path) -> None:
    """Put the weights of a ViT with as many patches, but perhaps smaller ones, into `vit`.

    Source:
        Beyer et al., FlexiViT (2023), section 3.4: the kernel of the patches is multiplied with the pseudo-inverse of
        the matrix that resizes an image patch, so that the embedding of a patch made larger stays what it was.
    """
    weights = ViTModel.from_pretrained(folder, add_pooling_layer=False, dtype=torch.float32).state_dict()
    name = next(name for name in weights if name.endswith("projection.weight"))
    old, new = weights[name].shape[-1], vit.config.patch_size
    units = torch.eye(old * old).view(-1, 1, old, old)
    resized = functional.interpolate(units, (new, new), mode="bilinear", antialias=True).flatten(1)  # [old², new²]
    kernel = weights[name].flatten(2) @ torch.linalg.pinv(resized).T
    vit.load_state_dict(weights | {name: kernel.unflatten(2, (new, new))})


def loss_of(
    outputs: dict[str, Tensor], targets: dict[str, Tensor], *, weights: dict[str, float]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the losses of the heads, and each by itself.

    Logits: Kullback-Leibler divergence at TEMPERATURE. Others: cosine distance, 1 being that of guessing.
    """
    losses = {}
    for name, values in outputs.items():
        values, target = values.float(), targets[name]
        if name == "logits":
            log_values = functional.log_softmax(values / TEMPERATURE, -1)
            shares = functional.softmax(target / TEMPERATURE, -1)
            losses[name] = functional.kl_div(log_values, shares, reduction="batchmean") * TEMPERATURE**2
        else:
            losses[name] = (1 - functional.cosine_similarity(values, target, dim=-1)).mean()
    total = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()
    return total, {name: loss.detach() for name, loss in losses.items()}


class Batches(IterableDataset):
    """Batches of the cache from step `first` on; each epoch has an order of its own, and half of each is mirrored."""

    def __init__(self, settings: Settings, cache: teacher_cache.Cache, *, seed: int, first: int) -> None:
        self._settings, self._cache, self._seed, self._first = settings, cache, seed, first

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Images, the positions of the patches that are kept, and what each head is to say."""
        worker = torch.utils.data.get_worker_info()
        own, n_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for step in range(self._first + own, self._settings.steps, n_workers):
            generator = torch.Generator().manual_seed((self._seed + 1) * 1_000_003 + step)
            images, targets = self._cache.read(self._rows(step))
            is_mirrored = torch.rand(len(images), generator=generator) < 0.5
            positions = self._settings.kept_positions(step, generator)
            images = mirrored(images.permute(0, 3, 1, 2).float() / 255, is_mirrored)
            for name in targets.keys() & teacher_cache.PATCH_TARGETS:
                side = round(targets[name].shape[1] ** 0.5)
                grid = mirrored(targets[name].transpose(1, 2).unflatten(2, (side, side)), is_mirrored)
                index = positions.unsqueeze(-1).expand(-1, -1, grid.shape[1])
                targets[name] = grid.flatten(2).transpose(1, 2).gather(1, index)
            yield images, positions, targets

    def _rows(self, step: int) -> Tensor:
        """Which crops make the batch of `step`: the next of an endless row of shuffled epochs."""
        size, n = self._settings.batch_size, self._cache.n
        epochs = range(step * size // n, ((step + 1) * size - 1) // n + 1)
        orders = [torch.randperm(n, generator=torch.Generator().manual_seed(self._seed + epoch)) for epoch in epochs]
        return torch.cat(orders)[step * size - epochs[0] * n :][:size]


def mirrored(images: Tensor, is_mirrored: Tensor) -> Tensor:
    """[B, C, H, W] with left and right exchanged where `is_mirrored`."""
    return torch.where(is_mirrored.view(-1, 1, 1, 1), images.flip(-1), images)


def main(args: DistillationArguments) -> None:
    """Make the cache if it is not there, and train until the steps are done or the time is up."""
    transformers_logging.set_verbosity_error()  # It names what the start has no use for.
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = read_settings(args.config, steps=args.steps)
    cache = teacher_cache.prepare(
        args.work_dir / "cache",
        args.images,
        settings.crops,
        student_size=settings.architecture["image_size"],
        teachers=teacher_cache.Teachers(args.convolutional_teacher, args.transformer_teacher, args.start),
        seed=args.seed,
    )
    torch.manual_seed(args.seed)
    student = Student(settings, cache.sizes)
    warm_start(student.vit, args.start)

    def batches(first: int) -> Batches:
        return Batches(settings, cache, seed=args.seed, first=first)

    device = "cuda" if torch.cuda.is_available() else "cpu"
    run(student.to(device), settings, batches, functools.partial(loss_of, weights=settings.weights), args)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, DistillationArguments, doc=__doc__))
