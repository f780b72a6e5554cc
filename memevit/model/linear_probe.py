"""A linear probe: a head fitted to features that the frozen backbone computes once for every picture."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, Trainer
from transformers.image_processing_utils import BaseImageProcessor

from memevit import files, pixels
from memevit.model import layers
from memevit.model.balance import class_weights
from memevit.model.image_dataset import pixel_values

logger = logging.getLogger(__name__)

# Strengths of the pull to zero, per picture; the one with the lowest loss on validation is taken.
PENALTIES = (1.0, 0.1, 0.01, 0.001, 0.0001)
_MAX_ITERATIONS = 100


@dataclass(frozen=True)
class Store:
    """Features that were computed before, in one file for each backbone and state of the data.

    `folder` lies beside the dataset, `fingerprint` is that of the dataset.
    """

    folder: Path
    fingerprint: str

    @classmethod
    def beside(cls, dataset_dir: Path, fingerprint: str) -> "Store":
        """The store of a dataset folder."""
        whole = dataset_dir.resolve()
        return cls(whole.with_name(f"{whole.name}.features"), fingerprint)

    def path(self, model: PreTrainedModel, image_processor: BaseImageProcessor) -> Path:
        """The file for one backbone: its weights, its pixels and the data make the name."""
        digest = hashlib.sha256(self.fingerprint.encode())
        # Type and pixels, for two networks can have equal weights and see another size.
        digest.update(
            json.dumps([type(model).__name__, image_processor.to_dict()], sort_keys=True, default=str).encode()
        )
        head = f"{layers.head_name(model)}."
        for name, tensor in sorted(model.state_dict().items()):
            if not name.startswith(head):
                digest.update(name.encode())
                digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return self.folder / f"{digest.hexdigest()[:32]}.safetensors"


def read(path: Path) -> dict[str, torch.Tensor]:
    """[D] features by picture from a file of the store; none when there is no such file or it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            names = json.loads(file.metadata()["pictures"])
            rows = file.get_tensor("features")
    except FileNotFoundError:
        return {}
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        logger.warning("%s can't be read (%s); the features are computed again", path, error)
        return {}
    return dict(zip(names, rows, strict=True))


def write(path: Path, features: dict[str, torch.Tensor]) -> None:
    """Keep features for the next run; a folder that can't be written only costs time."""
    content = save({"features": torch.stack(list(features.values()))}, {"pictures": json.dumps(list(features))})
    try:
        path.parent.mkdir(exist_ok=True)
        files.write_bytes(path, content)
    except OSError as error:
        logger.warning("Features are not kept for the next run: %s can't be written (%s)", path, error.strerror)


class _Files(Dataset):
    """`pixel_values` [3, H, W] of files, as in evaluation."""

    def __init__(self, paths: Sequence[Path], image_processor: BaseImageProcessor) -> None:
        self._paths = paths
        self._image_processor = image_processor

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: int) -> torch.Tensor:
        return pixel_values([pixels.load_image(self._paths[position])], self._image_processor)[0]


def compute(
    model: PreTrainedModel, image_processor: BaseImageProcessor, paths: Sequence[Path], *, store: Store,
    device: torch.device, batch_size: int = 64, num_workers: int = 0,
) -> torch.Tensor:  # fmt: skip
    """[n, D] what the head sees of every picture, in the order of `paths`.

    Args:
        model: with its backbone as it will stay.
        image_processor: of the model.
        paths: n pictures of a prepared dataset.
        store: where features of earlier runs are.
        device: where to compute.
        batch_size: pictures that the model sees at once.
        num_workers: processes that decode.
    """
    kept_in = store.path(model, image_processor)
    names = ["/".join(path.parts[-3:]) for path in paths]  # split/class/file
    known = read(kept_in)
    missing = [position for position, name in enumerate(names) if name not in known]
    if missing:
        unseen = _Files([paths[position] for position in missing], image_processor)
        # A generator of its own: training must see the same random numbers when nothing is missing.
        loader = DataLoader(unseen, batch_size, num_workers=num_workers, generator=torch.Generator())
        rows = _forward(model.to(device).eval(), loader, device)
        known |= {names[position]: row for position, row in zip(missing, rows, strict=True)}
        write(kept_in, known)
    logger.info("Features of %d pictures: %d computed, %d from %s", len(names), len(missing),
                len(names) - len(missing), kept_in.parent)  # fmt: skip
    return torch.stack([known[name] for name in names])


@torch.inference_mode()
def _forward(model: PreTrainedModel, loader: DataLoader, device: torch.device) -> torch.Tensor:
    seen: list[torch.Tensor] = []
    # The input of the head, whatever the architecture does before it.
    hook = layers.head_of(model).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].float().cpu()))
    try:
        for batch in tqdm(loader, desc="Features", unit="batch"):
            model(pixel_values=batch.to(device, model.dtype))
    finally:
        hook.remove()
    return torch.cat(seen)


def fit_head(trainer: Trainer, store: Store, *, weighted: bool) -> None:
    """Fit the head of the trainer's model to frozen features of its training pictures, without augmentation.

    Args:
        trainer: its model is changed; datasets and device are its own.
        store: where features of earlier runs are.
        weighted: whether every class counts the same.
    """
    args, image_processor = trainer.args, trainer.processing_class
    model = trainer.accelerator.unwrap_model(trainer.model)
    train, validation = trainer.train_dataset, trainer.eval_dataset
    with args.main_process_first(local=False, desc="features"):
        every = compute(
            model, image_processor, [*train.paths, *validation.paths], store=store, device=args.device,
            batch_size=args.eval_batch_size, num_workers=args.dataloader_num_workers,
        )  # fmt: skip
    n_classes = model.config.num_labels
    weights = class_weights(train.labels, n_classes=n_classes) if weighted else None
    weight, bias = fit(
        every[: len(train)], train.labels, every[len(train) :], validation.labels, n_classes=n_classes, weights=weights
    )
    put_into_head(model, weight, bias)


def fit(
    features: torch.Tensor, labels: Sequence[int], validation_features: torch.Tensor,
    validation_labels: Sequence[int], *, n_classes: int, weights: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Weight [C, D] and bias [C] of a logistic regression, its penalty chosen on validation.

    Args:
        features: [n, D] of training pictures.
        labels: their n class ids.
        validation_features: [m, D].
        validation_labels: their m class ids.
        n_classes: number of classes.
        weights: [C] of each class in the loss.
    """
    features, validation_features = features.double(), validation_features.double()
    mean, scale = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
    inputs, validation = (features - mean) / scale, (validation_features - mean) / scale
    targets, validation_targets = torch.as_tensor(labels), torch.as_tensor(validation_labels)
    class_weights = None if weights is None else weights.double()
    layer = nn.Linear(features.shape[1], n_classes, dtype=torch.float64)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    best = (float("inf"), layer.weight, layer.bias)
    for penalty in PENALTIES:  # From strong to weak, each starting where the one before ended.
        _minimise(layer, inputs, targets, class_weights, penalty)
        with torch.no_grad():
            loss = float(functional.cross_entropy(layer(validation), validation_targets, class_weights))
        if loss < best[0]:
            best = (loss, layer.weight.detach().clone(), layer.bias.detach().clone())
    _, weight, bias = best
    weight = weight / scale  # The head of the checkpoint sees features as they are.
    return weight.float(), (bias - weight @ mean).float()


def _minimise(
    layer: nn.Linear, inputs: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor | None, penalty: float
) -> None:
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=_MAX_ITERATIONS, line_search_fn="strong_wolfe", tolerance_grad=1e-6
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(layer(inputs), targets, weights) + penalty / 2 * layer.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)


def put_into_head(model: PreTrainedModel, weight: torch.Tensor, bias: torch.Tensor) -> None:
    """Make [C, D] `weight` and [C] `bias` those of the head."""
    head = layers.head_of(model)
    with torch.no_grad():
        head.weight.copy_(weight)
        if head.bias is not None:
            head.bias.copy_(bias)
