"""Load a backbone with a new classification head, and the image processor that goes with it."""

import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.image_processing_utils import BaseImageProcessor

from memevit import checkpoint, quiet
from memevit.errors import UserError
from memevit.labels import label_maps
from memevit.model import layers, lora, resolution, sharding

logger = logging.getLogger(__name__)

DEFAULT_BACKBONE = "google/vit-base-patch16-224-in21k"
BACKBONES_DIR = Path(__file__).parents[2] / "backbones"
SHIPPED_BACKBONE = BACKBONES_DIR / "vit-micro-patch12-96"
_N_NAMED = 5  # Names in one line of the log.


def resolve(name_or_path: str | None, *, from_scratch: bool) -> str:
    """The backbone to use: the one that is named, or the usual one.

    Raises:
        UserError: it is named as a folder that does not exist.
    """
    if not name_or_path:
        return str(SHIPPED_BACKBONE) if from_scratch else DEFAULT_BACKBONE
    path = Path(name_or_path)
    is_path = path.is_absolute() or name_or_path.startswith(".") or len(path.parts) > 2
    if not path.is_dir() and (is_path or path.parent.resolve() == BACKBONES_DIR.resolve()):
        neighbours = sorted(str(found.parent) for found in path.parent.glob("*/config.json"))
        hint = f"The same folder has {_listed(neighbours)}." if neighbours else "Check the path."
        raise UserError(f"There is no folder {path} with a backbone. {hint}")
    return name_or_path


def name_without_folders(name_or_path: str) -> str:
    """What results.json calls a backbone: its Hub id, or the last part of its path, with `backbones/` for ours."""
    path = Path(name_or_path)
    if not path.is_dir():
        return name_or_path
    whole = path.resolve()
    return f"{BACKBONES_DIR.name}/{whole.name}" if whole.parent == BACKBONES_DIR.resolve() else whole.name


def width(name_or_path: str, *, trust_remote_code: bool = False) -> int | None:
    """Width of the features that the head of a backbone sees, as its configuration says; None when it does not.

    Raises:
        UserError: there is no such backbone, or it can't be downloaded.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(_explain(name_or_path, error)) from error
    vision = resolution.vision_config(config)
    widths = getattr(vision, "hidden_size", None) or getattr(vision, "hidden_sizes", None)
    return widths[-1] if isinstance(widths, list) else widths


def load_for_training(
    name_or_path: str,
    class_names: list[str],
    *,
    from_scratch: bool,
    image_size: int | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """A model with one logit per class, and its image processor without a centre crop.

    Args:
        name_or_path: a Hub id or a local folder.
        class_names: position is the label.
        from_scratch: random weights; only the configuration is read.
        image_size: image size in pixels; that of the image processor when None.
        trust_remote_code: run the code that comes with the checkpoint.

    Raises:
        UserError: there is no such backbone, it can't be downloaded, or it can't be used with that size.
    """
    options = {"trust_remote_code": trust_remote_code}
    try:
        image_processor = AutoImageProcessor.from_pretrained(name_or_path, **options)
        config = AutoConfig.from_pretrained(name_or_path, **options)
        side = image_size or resolution.side_of(image_processor)
        old_names = list(config.id2label.values())
        _set_classes(config, class_names)
        if from_scratch:
            resolution.set_size(config, side)
            model = AutoModelForImageClassification.from_config(config, dtype=torch.float32, **options)
        else:
            model = _pretrained(name_or_path, config, old_names, options)
            model = resolution.resized(model, side)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(_explain(name_or_path, error)) from error
    return model, resolution.whole_square(image_processor, side)


def load_trained(
    name_or_path: str | Path, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel, BaseImageProcessor]:
    """Model and image processor of an image classification checkpoint.

    Args:
        name_or_path: a folder; or a Hub id, given as text.
        trust_remote_code: run the code that comes with it.

    Raises:
        UserError: there is no trained model.
    """
    path, is_folder = Path(name_or_path), Path(name_or_path).exists() or isinstance(name_or_path, Path)
    if is_folder and not (path / "config.json").is_file():
        raise UserError(f"{path} holds no model (no config.json). finetune_vit.py --output_dir writes one.")
    if is_folder:
        checkpoint.check(path)
    options = {"local_files_only": is_folder, "trust_remote_code": trust_remote_code}
    try:
        with quiet.loading():
            model, found = AutoModelForImageClassification.from_pretrained(
                name_or_path, output_loading_info=True, **options
            )
        image_processor = AutoImageProcessor.from_pretrained(name_or_path, **options)
    except Exception as error:  # A damaged checkpoint can raise anything, from OSError to SafetensorError.
        if not is_folder:
            raise UserError(_explain(str(name_or_path), error)) from error
        raise UserError(f"The model in {path} can't be loaded: {error}. Train again or restore the files.") from error
    if f"{layers.head_name(model)}.weight" in found["missing_keys"]:
        raise UserError(f"{path} holds a backbone without a head for classes. Train it with finetune_vit.py first.")
    return model.eval(), image_processor


def _set_classes(config: PreTrainedConfig, class_names: list[str]) -> None:
    id2label, label2id = label_maps(class_names)
    config.num_labels = len(class_names)
    config.id2label, config.label2id = id2label, label2id
    config.problem_type = "single_label_classification"
    config.architectures = []  # The first class for the task: some checkpoints name one that can't be trained (DeiT).


def _pretrained(
    name_or_path: str, config: PreTrainedConfig, old_names: list[str], options: dict[str, Any]
) -> PreTrainedModel:
    with quiet.loading():
        model, found = AutoModelForImageClassification.from_pretrained(
            name_or_path,
            config=config,
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **options,
        )
    sharding.give_memory(model)
    head = layers.head_name(model)
    mismatched = {each[0] for each in found["mismatched_keys"]}
    absent = {name for name in {*found["missing_keys"], *mismatched} if not name.startswith(f"{head}.")}
    _refuse_or_warn(name_or_path, model, absent)
    new_names = list(config.id2label.values())
    if f"{head}.weight" in found["missing_keys"]:
        logger.info("%s has no head; one for %d classes starts from random weights", name_or_path, len(new_names))
    elif old_names == new_names:
        logger.info("%s was trained on these %d classes; its head is kept", name_or_path, len(new_names))
    else:
        _renew(model.get_submodule(head), getattr(config, "initializer_range", 0.02))
        logger.info(
            "%s has a head for %d classes (%s); it is replaced by a new one for %d (%s)",
            name_or_path, len(old_names), _listed(old_names), len(new_names), _listed(new_names),
        )  # fmt: skip
    return model


def _refuse_or_warn(name_or_path: str, model: PreTrainedModel, absent: set[str]) -> None:
    """A few weights may be new (a pooler, for example); if most are, it is not a checkpoint of this architecture."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    n_absent, n_all = sum(sizes.get(name, 0) for name in absent), sum(sizes.values())
    if n_absent > n_all / 2:
        raise UserError(
            f"{name_or_path} has only {100 * (1 - n_absent / n_all):.0f} % of the weights of a {type(model).__name__}: "
            "it was made for something else. Name an image classification checkpoint, or start with --from_scratch."
        )
    if absent:
        logger.warning(
            "%s lacks weights of the backbone, which start random: %s", name_or_path, _listed(sorted(absent))
        )


def _renew(head: nn.Linear, std: float) -> None:
    nn.init.normal_(head.weight, std=std)
    if head.bias is not None:
        nn.init.zeros_(head.bias)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_N_NAMED]) + (", ..." if len(names) > _N_NAMED else "")


def _explain(name_or_path: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0]
    if Path(name_or_path).is_dir():
        return (
            f"{name_or_path} is not a backbone that can be trained ({reason}). It needs config.json, "
            "preprocessor_config.json and model.safetensors, of an image classification architecture."
        )
    return (
        f"Could not download the backbone {name_or_path} ({reason}). Without a network, use the small one of this "
        f"project (--model_name_or_path {os.path.relpath(SHIPPED_BACKBONE)}), name another local folder, or train "
        f"that small one from random weights with --from_scratch."
    )


def restrict(
    model: PreTrainedModel, *, only_head: bool = False, n_frozen_blocks: int | None = None, lora_rank: int | None = None
) -> None:
    """Freeze weights that training does not change; none when nothing is asked for.

    Args:
        model: to be changed.
        only_head: freeze the whole backbone.
        n_frozen_blocks: freeze the embeddings and this many of the lower blocks.
        lora_rank: freeze the backbone and train adapters of this rank.

    Raises:
        UserError: there are fewer blocks.
    """
    if lora_rank:
        lora.add(model, rank=lora_rank)
        return
    if not only_head and n_frozen_blocks is None:
        return
    n_blocks = len(layers.block_names(model))
    if n_frozen_blocks is not None and n_frozen_blocks > n_blocks:
        raise UserError(f"--freeze {n_frozen_blocks} is too much: the backbone has {n_blocks} blocks.")
    limit = n_blocks if only_head else n_frozen_blocks
    found = layers.depths(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(found[name] == layers.HEAD or found[name] > limit)


def n_parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Number of parameters, and of those that training changes."""
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def save_checkpoint(
    model: PreTrainedModel, image_processor: BaseImageProcessor, model_dir: Path, **options: Any
) -> None:
    """Write an ordinary Transformers checkpoint whose files have the same permissions.

    Args:
        model: whose weights and config.json are written.
        image_processor: of the model.
        model_dir: the folder; made if it is missing.
        options: of `save_pretrained`.
    """
    with quiet.loading():
        model.save_pretrained(model_dir, **options)
    image_processor.save_pretrained(model_dir)
    for path in model_dir.glob("*.safetensors"):  # safetensors lets only the owner read them.
        shutil.copymode(model_dir / "config.json", path)
