"""Checks of a model folder that read only its JSON files, before anything is built from them.

A model folder may come from a stranger: its numbers decide how much memory and time a model takes, and some of its
names make libraries fetch code.
"""

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from memevit.errors import UserError

CONFIG_FILE = "config.json"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
MAX_JSON_BYTES = 20_000_000  # A thousand classes with long names take a hundredth of it.
MAX_HEADER_BYTES = 100_000_000  # As in safetensors.
MAX_SIDE_PX = 4096
MAX_LAYERS = 1000
MAX_WIDTH = 65_536
MAX_CLASSES = 1_000_000
MAX_PATCHES = 100_000  # Of one image; 224 x 224 pixels in patches of 8 are 784.
_FIXED_SIZE = frozenset({"vit", "deit"})  # Architectures that take one input size.
_OWN_ATTENTION = frozenset({"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"})
_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "encoder_layers", "decoder_layers", "depths", "n_layer")
_WIDTHS = (
    *("hidden_size", "hidden_sizes", "intermediate_size", "embed_dim", "hidden_dim", "num_attention_heads"),
    *("num_heads", "num_channels", "embedding_size", "mlp_ratio", "expand_ratio"),
)
_SIDES = ("image_size", "patch_size", "input_size")
_PROCESSOR_SIDES = ("size", "crop_size", "pad_size")


def check(model_dir: Path) -> None:
    """Refuse a model folder whose JSON files ask for what no image classifier has.

    Folders without these files pass: whoever loads them says what is missing.

    Raises:
        UserError: in one sentence, what is wrong and in which file.
    """
    config = _read(model_dir / CONFIG_FILE)
    if config is not None:
        for key, value in _walk(config):
            _check_config_value(model_dir, key, value)
        _check_layers(model_dir, config)
        _check_patches(model_dir, config)
    for name in PROCESSOR_FILES:
        processor = _read(model_dir / name)
        for key, value in _walk(processor or {}):
            _check_processor_value(model_dir / name, key, value)
        if config and processor:
            _check_sizes_agree(model_dir / name, processor, config)


def _read(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file, None if there is no such file."""
    if not path.is_file():
        return None
    if (n_bytes := path.stat().st_size) > MAX_JSON_BYTES:
        raise UserError(f"{path} has {n_bytes / 1e6:.0f} MB, at most {MAX_JSON_BYTES / 1e6:.0f} MB are expected.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({str(error)[:200]}). Restore the file or train again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged (no object). Restore the file or train again.")
    return content


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Every key of nested objects with its value."""
    for key, own in value.items():
        yield key, own
        if isinstance(own, dict):
            yield from _walk(own)


def _numbers(value: Any) -> list[Any]:
    """The numbers in a number, a list or an object."""
    if isinstance(value, dict):
        return [number for own in value.values() for number in _numbers(own)]
    if isinstance(value, list):
        return [number for own in value for number in _numbers(own)]
    return [] if value is None or isinstance(value, (bool, str)) else [value]


def _check_config_value(model_dir: Path, key: str, value: Any) -> None:
    path = model_dir / CONFIG_FILE
    if "attn_implementation" in key or "experts_implementation" in key:
        for name in value.values() if isinstance(value, dict) else [value]:
            if name is not None and str(name).removeprefix("paged|") not in _OWN_ATTENTION:
                raise UserError(
                    f"{path} sets {key} to {str(name)[:80]!r}, which is not part of Transformers and would be fetched "
                    "as code. Remove that line."
                )
    if key in _SIDES:
        _require(path, key, value, 1, MAX_SIDE_PX, "pixels")
    elif key in _WIDTHS:
        _require(path, key, value, 0, MAX_WIDTH, "units")
    elif key in ("id2label", "label2id") and isinstance(value, dict) and len(value) > MAX_CLASSES:
        raise UserError(f"{path} names {len(value):,} classes, at most {MAX_CLASSES:,} are expected.")
    elif key in ("num_labels", "_num_labels"):
        _require(path, key, value, 0, MAX_CLASSES, "classes")
    elif key in _LAYERS:
        _require(path, key, value, 0, MAX_LAYERS, "layers")


def _check_layers(model_dir: Path, config: dict[str, Any]) -> None:
    """Refuse more layers than the weights have tensors."""
    n_layers = max((sum(_numbers(own)) for key, own in _walk(config) if key in _LAYERS), default=0)
    weights = model_dir / "model.safetensors"
    n_tensors = n_tensors_in(weights) if weights.is_file() else None
    if n_tensors is not None and n_layers > n_tensors:
        raise UserError(
            f"{model_dir / CONFIG_FILE} asks for {n_layers:,} layers, but {weights.name} holds {n_tensors} tensors. "
            "Restore the files or train again."
        )


def _check_patches(model_dir: Path, config: dict[str, Any]) -> None:
    sides, patches = _numbers(config.get("image_size")), _numbers(config.get("patch_size"))
    if sides and patches and (n := (max(sides) / min(patches)) ** 2) > MAX_PATCHES:
        raise UserError(
            f"{model_dir / CONFIG_FILE} cuts an image into {n:,.0f} patches, at most {MAX_PATCHES:,} are expected. "
            "Restore the file or train again."
        )


def _check_sizes_agree(path: Path, processor: dict[str, Any], config: dict[str, Any]) -> None:
    """Refuse a processor that gives images of another size than the model takes."""
    key = "crop_size" if processor.get("do_center_crop") else "size"
    given = _numbers(processor.get(key)) if processor.get("do_resize", True) else []
    expected = _numbers(config.get("image_size"))
    if config.get("model_type") in _FIXED_SIZE and given and expected and {*given} != {*expected}:
        raise UserError(
            f"{path} makes images of {max(given)} pixels, but {CONFIG_FILE} takes {max(expected)}. Restore the files "
            "or train again."
        )


def n_tensors_in(path: Path) -> int | None:
    """Number of tensors in a safetensors file by its header, None if it has none that can be read."""
    with path.open("rb") as file:
        start = file.read(8)
        if len(start) < 8 or (length := struct.unpack("<Q", start)[0]) > MAX_HEADER_BYTES:
            return None
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return None
    return len(header.keys() - {"__metadata__"}) if isinstance(header, dict) else None


def _check_processor_value(path: Path, key: str, value: Any) -> None:
    if key in _PROCESSOR_SIDES:
        _require(path, key, value, 1, MAX_SIDE_PX, "pixels")
    elif key in ("image_mean", "image_std", "rescale_factor"):
        lowest = -1e6 if key == "image_mean" else 1e-9
        _require(path, key, value, lowest, 1e6, "")


def _require(path: Path, key: str, value: Any, least: float, most: float, unit: str) -> None:
    for number in _numbers(value):
        if not math.isfinite(number) or not least <= number <= most:
            found = f"{number:,}" if isinstance(number, int) and abs(number) < 10**12 else f"{number:.4g}"
            limits = f"{least:,} to {most:,} {unit}".strip() if unit else f"a number from {least:g} to {most:g}"
            raise UserError(f"{path} sets {key} to {found}, expected {limits}. Restore the file or train again.")
