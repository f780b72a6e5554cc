"""Pretrain a small Vision Transformer on images drawn from formulas; it never sees a photograph or a game.

    python -m benchmarks.pretrain_backbone --config vit-tiny-patch16-128 --work_dir runs/tiny --minutes 9
    python -m benchmarks.pretrain_backbone --config vit-micro-patch8-64 --work_dir runs/formulas --workers 1 --threads 1
    python -m benchmarks.pretrain_backbone --config miniature --work_dir runs/miniature

The settings are in pretrain_backbone.json. The network reads off, from a random half of the patches, which palette,
texture, contour, style and fractal an image was drawn with (formula_images.py), and classical descriptors of its
patches and of the whole (image_descriptors.py). The same command goes on where it
stopped: after `--minutes`, on Ctrl-C, or when the machine went away. `runs/micro/checkpoint/` holds the state in files
below 16 MB; `runs/micro/backbone/`, written with every checkpoint, is an ordinary Transformers checkpoint in fp16.
"""

import ctypes
import json
import logging
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from benchmarks.formula_images import NO_LABEL, BankSizes, Renderer, make_bank
from benchmarks.image_descriptors import N_COLOUR_BINS, N_LOCAL, describe
from memevit import cli, results
from memevit.errors import UserError

logger = logging.getLogger(__name__)

SETTINGS_FILE = Path(__file__).with_suffix(".json")
MAX_FILE_BYTES = 15_000_000
MEAN = STD = 0.5  # Of the image processor, for each colour.
INITIAL_STD = 0.06  # About that of Xavier's rule at these widths; the usual 0.02 is for networks six times as wide.
BETAS = (0.9, 0.98)
MAX_GRADIENT_NORM = 1.0
LABEL_SMOOTHING = 0.1
DESCRIPTORS = ("local", "overall")
LOG_EVERY_STEPS = 20
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1  # Parameters of mallopt(3).


@dataclass
class PretrainingArguments:
    """Which settings, where to, and for how long."""

    config: str = field(metadata={"help": "A name in pretrain_backbone.json."})
    work_dir: Path = field(metadata={"help": "Holds checkpoint/ and backbone/; a run that is there goes on."})
    minutes: float = field(default=math.inf, metadata={"help": "Stop with a checkpoint after so long."})
    steps: int = field(default=0, metadata={"help": "Another length than that of the settings; moves the cooldown."})
    learning_rate: float = field(default=0.0, metadata={"help": "Another one than that of the settings."})
    workers: int = field(default=0, metadata={"help": "Processes that draw; 0 draws on the device that trains."})
    threads: int = field(default=0, metadata={"help": "Of torch; 0 leaves its default."})
    seed: int = field(default=0, metadata={"help": "Of formulas, images and first weights."})


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a network is trained.

    The learning rate rises over `warmup_steps`, stays, and falls to 0 over the last `cooldown_fraction` of the steps.
    `kept_patches` is the share of patches that the network sees before the cooldown.
    """

    architecture: dict[str, int]
    batch_size: int
    steps: int
    warmup_steps: int
    cooldown_fraction: float
    learning_rate: float
    weight_decay: float
    kept_patches: float
    kept_patches_in_cooldown: float
    checkpoint_every_steps: int

    def is_cooldown(self, step: int) -> bool:
        """Whether the learning rate falls at `step`."""
        return step >= self.steps * (1 - self.cooldown_fraction)

    def rate(self, step: int) -> float:
        """The learning rate at `step`."""
        left = (self.steps - step) / max(1.0, self.steps * self.cooldown_fraction)
        return self.learning_rate * min(1.0, (step + 1) / self.warmup_steps, left)

    def kept(self, step: int) -> float:
        """The share of patches that is seen at `step`."""
        return self.kept_patches_in_cooldown if self.is_cooldown(step) else self.kept_patches

    def kept_positions(self, step: int, generator: torch.Generator) -> Tensor:
        """[batch_size, kept] the positions of the patches that are seen at `step`, by chance for each image."""
        n_patches = (self.architecture["image_size"] // self.architecture["patch_size"]) ** 2
        order = torch.rand(self.batch_size, n_patches, generator=generator, device=generator.device).argsort(1)
        return order[:, : round(n_patches * self.kept(step))]


@dataclass(frozen=True, kw_only=True)
class Settings(Schedule):
    """An entry of pretrain_backbone.json."""

    banks: dict[str, int]


def read_settings(name: str, *, steps: int = 0, learning_rate: float = 0.0) -> Settings:
    """The settings called `name`.

    Raises:
        UserError: there are none of that name.
    """
    known = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    if name not in known:
        raise UserError(f"{SETTINGS_FILE.name} has no settings {name!r}; it has {', '.join(known)}.")
    changed = {"steps": steps, "learning_rate": learning_rate}
    return Settings(**known[name] | {key: value for key, value in changed.items() if value})


class FormulaReader(nn.Module):
    """A ViT with a linear head on its CLS token per bank of formulas, and heads for descriptors."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        config = ViTConfig(**settings.architecture, initializer_range=INITIAL_STD)
        config._attn_implementation = quicker_attention()
        self.vit = ViTModel(config, add_pooling_layer=False)
        self.vit.config.initializer_range = ViTConfig().initializer_range  # What a new head is drawn with.
        self.vit.embeddings.position_embeddings.data.copy_(sine_positions(config))
        sizes = settings.banks | {"overall": 2 * N_LOCAL, "colours": N_COLOUR_BINS**3}
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden_size, n) for name, n in sizes.items()})
        self.local = nn.Linear(config.hidden_size, 2 * N_LOCAL)
        for head in (*self.heads.values(), self.local):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)

    def forward(self, images: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """Output of each head, from the patches at `positions` [B, kept] of `images` [B, 3, S, S] in [0, 1]."""
        hidden = tokens(self.vit, images, positions)
        outputs = {name: head(hidden[:, 0]) for name, head in self.heads.items()}
        return outputs | {"local": self.local(hidden[:, 1:])}


def quicker_attention() -> str:
    """The implementation of attention whose training step is quicker for few patches: on a CPU twice as quick."""
    return "sdpa" if torch.cuda.is_available() else "eager"


def tokens(vit: ViTModel, images: Tensor, positions: Tensor) -> Tensor:
    """[B, 1 + kept, D] CLS and the patches at `positions` [B, kept] of `images` [B, 3, S, S] in [0, 1]."""
    hidden = vit.embeddings((images - MEAN) / STD)
    index = torch.cat([torch.zeros_like(positions[:, :1]), positions + 1], dim=1)  # CLS comes first.
    hidden = hidden.gather(1, index.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    for layer in vit.layers:
        hidden = layer(hidden, None)
    return vit.layernorm(hidden)


def sine_positions(config: ViTConfig) -> Tensor:
    """[1, 1 + patches, D] position embeddings of sines and cosines of row and column, zero for CLS."""
    side, width = config.image_size // config.patch_size, config.hidden_size // 4
    frequencies = 100.0 ** (-torch.arange(width) / width)
    angles = torch.arange(side).unsqueeze(1) * frequencies
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)  # [side, D / 2]
    grid = torch.cat([waves.repeat_interleave(side, 0), waves.repeat(side, 1)], dim=1)
    return torch.cat([torch.zeros(1, grid.shape[1]), grid]).unsqueeze(0) * 0.25


def loss_of(outputs: dict[str, Tensor], targets: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of the losses of the heads, and each by itself; 1 is what guessing gives.

    Formulas: cross-entropy over that of guessing. Colours: cross-entropy with their shares, likewise. Descriptors:
    squared error, each standardised over the batch.
    """
    losses = {}
    for name, values in outputs.items():
        values, target = values.float(), targets[name]
        if name in DESCRIPTORS:
            flat = target.flatten(0, -2)
            losses[name] = (values - (target - flat.mean(0)) / (flat.std(0) + 1e-5)).square().mean()
        elif name == "colours":
            losses[name] = functional.cross_entropy(values, target) / math.log(values.shape[1])
        else:
            entropy = functional.cross_entropy(values, target, ignore_index=NO_LABEL, label_smoothing=LABEL_SMOOTHING)
            losses[name] = entropy / math.log(values.shape[1])
    return torch.stack(list(losses.values())).sum(), {name: loss.detach() for name, loss in losses.items()}


class Batches(IterableDataset):
    """Batches of one run from step `first` on; each depends on the seed and its step alone."""

    def __init__(self, settings: Settings, *, seed: int, first: int, device: str = "cpu") -> None:
        self._settings, self._seed, self._first, self._device = settings, seed, first, device

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, dict[str, Tensor]]]:
        """Images, the positions of the patches that are kept, and what each head is to say."""
        worker = torch.utils.data.get_worker_info()
        own, n_workers = (worker.id, worker.num_workers) if worker else (0, 1)
        bank = make_bank(BankSizes(**self._settings.banks), seed=self._seed)
        renderer = Renderer(bank, image_size=self._settings.architecture["image_size"], device=self._device)
        for step in range(self._first + own, self._settings.steps, n_workers):
            generator = torch.Generator(self._device).manual_seed((self._seed + 1) * 1_000_003 + step)
            images, labels = renderer.render(self._settings.batch_size, generator)
            positions = self._settings.kept_positions(step, generator)
            found = describe(images, patch_size=self._settings.architecture["patch_size"])
            local = found.local.gather(1, positions.unsqueeze(-1).expand(-1, -1, found.local.shape[-1]))
            yield images, positions, labels | {"local": local, "overall": found.overall, "colours": found.colours}


@dataclass
class State:
    """What a checkpoint holds besides the network and its optimizer."""

    step: int = 0
    seconds: float = 0.0
    losses: list[dict[str, float]] = field(default_factory=list)


def main(args: PretrainingArguments) -> None:
    """Train until the steps are done or the time is up."""
    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    settings = read_settings(args.config, steps=args.steps, learning_rate=args.learning_rate)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(args.seed)

    def batches(first: int) -> Batches:
        return Batches(settings, seed=args.seed, first=first, device="cpu" if args.workers else device)

    run(FormulaReader(settings).to(device), settings, batches, loss_of, args)


Loss = Callable[[dict[str, Tensor], dict[str, Tensor]], tuple[Tensor, dict[str, Tensor]]]


def run(
    model: nn.Module,
    settings: Schedule,
    batches: Callable[[int], IterableDataset],
    loss_of: Loss,
    args: PretrainingArguments,
) -> None:
    """Train `model`, whose `vit` becomes the backbone, from where the checkpoint in `args.work_dir` is.

    Args:
        model: gives outputs by name for images and the positions of the patches that it sees.
        settings: what is saved with it.
        batches: images, positions and targets by name, from a step on.
        loss_of: of outputs and targets; the sum, and each by itself.
        args: also `config`, `seed`, `minutes` and `workers`.
    """
    optimizer = make_optimizer(model, settings)
    state = load_checkpoint(args.work_dir, model, optimizer)
    logger.info("%s: steps %d to %d, %d images each", args.config, state.step, settings.steps, settings.batch_size)
    with stop_signals() as received:
        train(model, optimizer, settings, state, args, batches=batches(state.step), loss_of=loss_of, received=received)
    if state.step >= settings.steps:
        logger.info("Done; the backbone is in %s", args.work_dir / "backbone")
    else:
        logger.info("Stopped after step %d; the same command goes on.", state.step)


def keep_freed_memory() -> None:
    """Let the C library keep large blocks it has freed: giving them back at every step doubles the time on Linux."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "mallopt"):
            library.mallopt(_M_MMAP_THRESHOLD, 2**30)
            library.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def make_optimizer(model: nn.Module, settings: Schedule) -> torch.optim.AdamW:
    """AdamW, with weight decay for matrices only."""
    decayed = [parameter for parameter in model.parameters() if parameter.ndim in (2, 4)]
    plain = [parameter for parameter in model.parameters() if parameter.ndim not in (2, 4)]
    groups = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, betas=BETAS, weight_decay=settings.weight_decay)


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """A list that Ctrl-C and SIGTERM add to, so that a step is always finished."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, lambda number, _: received.append(number))
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Schedule,
    state: State,
    args: PretrainingArguments,
    *,
    batches: IterableDataset,
    loss_of: Loss,
    received: list[int],
) -> None:
    """Change `model`, `optimizer` and `state` in place, with a checkpoint now and then, until done or told to stop."""
    device = next(model.parameters()).device
    loader = DataLoader(batches, batch_size=None, num_workers=args.workers, worker_init_fn=_begin_worker)
    network = torch.compile(model) if device.type == "cuda" else model
    start, before, saved_at = time.perf_counter(), state.seconds, state.step
    progress = tqdm(loader, total=settings.steps, initial=state.step, mininterval=10, unit="step")
    for images, positions, targets in progress:
        targets = {name: target.to(device) for name, target in targets.items()}
        for group in optimizer.param_groups:
            group["lr"] = settings.rate(state.step)
        losses = _step(network, optimizer, images.to(device), positions.to(device), targets, loss_of)
        state.step += 1
        state.seconds = before + time.perf_counter() - start
        if state.step % LOG_EVERY_STEPS == 0:
            state.losses.append({"step": state.step} | {name: round(float(loss), 4) for name, loss in losses.items()})
            progress.set_postfix(loss=state.losses[-1]["loss"])
        if state.step % settings.checkpoint_every_steps == 0:
            save(args, model, optimizer, settings, state)
            saved_at = state.step
        if received or state.seconds - before > args.minutes * 60:
            break
    if saved_at != state.step:
        save(args, model, optimizer, settings, state)


def _begin_worker(worker_id: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The parent process decides when to stop.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    keep_freed_memory()
    torch.set_num_threads(1)


def _step(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    positions: Tensor,
    targets: dict[str, Tensor],
    loss_of: Loss,
) -> dict[str, Tensor]:
    with half_precision(images.device):
        outputs = network(images, positions)
    loss, losses = loss_of(outputs, targets)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), MAX_GRADIENT_NORM)
    optimizer.step()
    optimizer.zero_grad()
    return {"loss": loss.detach(), **losses}


def half_precision(device: torch.device) -> AbstractContextManager[None]:
    """Computes in bf16 where the device has instructions for it."""
    is_quicker = device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()
    return torch.autocast(device.type, torch.bfloat16) if is_quicker else nullcontext()


def save(
    args: PretrainingArguments,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    settings: Schedule,
    state: State,
) -> None:
    """Write checkpoint/ and backbone/, each complete or not at all."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for number, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": value for name, value in values.items()}
    partial = _emptied(args.work_dir / "checkpoint.partial")
    for number, shard in enumerate(_shards(tensors)):
        save_file(shard, partial / f"state-{number:03d}.safetensors")
    run = {"config": args.config, "seed": args.seed, "settings": asdict(settings), "hardware": results.processor_name()}
    (partial / "state.json").write_text(json.dumps(run | asdict(state)), encoding="utf-8")
    _replace(partial, args.work_dir / "checkpoint")
    partial = _emptied(args.work_dir / "backbone.partial")
    export(model.vit, partial)
    (partial / "pretraining.json").write_text(json.dumps(run | asdict(state)), encoding="utf-8")
    _replace(partial, args.work_dir / "backbone")


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _replace(partial: Path, folder: Path) -> None:
    old = folder.with_name(f"{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(partial, folder)
    shutil.rmtree(old, ignore_errors=True)


def _shards(tensors: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """`tensors` in parts of at most MAX_FILE_BYTES; a tensor that is larger by itself is an error of the settings."""
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        n_bytes = tensor.numel() * tensor.element_size()
        if n_bytes > MAX_FILE_BYTES:
            raise UserError(
                f"{name} takes {n_bytes:,} bytes, more than a file of {MAX_FILE_BYTES:,}; use smaller banks."
            )
        if size + n_bytes > MAX_FILE_BYTES:
            shards.append({})
            size = 0
        shards[-1][name] = tensor.detach().cpu().contiguous()
        size += n_bytes
    return shards


def load_checkpoint(work_dir: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """Put the checkpoint of `work_dir` into `model` and `optimizer`; a new state where there is none."""
    folder = next((path for path in (work_dir / "checkpoint", work_dir / "checkpoint.old") if path.exists()), None)
    if folder is None:
        return State()
    tensors = {}
    for path in sorted(folder.glob("state-*.safetensors")):
        tensors |= load_file(path)
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model.")})
    by_parameter: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, number, key = name.split(".")
            by_parameter.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": by_parameter, "param_groups": optimizer.state_dict()["param_groups"]})
    content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return State(step=content["step"], seconds=content["seconds"], losses=content["losses"])


def export(vit: ViTModel, folder: Path) -> None:
    """Write `vit` as a Transformers checkpoint with weights in fp16, with the image processor that belongs to it."""
    size = vit.config.image_size
    # The weights are stored in fp16 and loaded in fp32, for that is what they are trained in.
    config = vit.config.to_dict() | {"architectures": ["ViTModel"], "dtype": "float32"}
    half = {name: value.detach().cpu().to(torch.float16).contiguous() for name, value in vit.state_dict().items()}
    ViTConfig(**config).save_pretrained(folder)
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    ViTImageProcessorPil(
        do_resize=True,
        size={"height": size, "width": size},
        do_normalize=True,
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
        do_convert_rgb=True,
    ).save_pretrained(folder)


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PretrainingArguments, doc=__doc__))
