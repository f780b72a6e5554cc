"""A model as an ONNX graph, for browsers and other runtimes, and how its image processor is written in JSON."""

import contextlib
import copy
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.image_processing_utils import BaseImageProcessor

from memevit.errors import UserError
from memevit.model.processor import Processor
from memevit.portable import open_set
from memevit.portable.features import FeatureTap
from memevit.portable.open_set import OpenSet

OPSET = 20
INPUT, LOGITS, KNOWN_SCORE = "pixel_values", "logits", "known_score"
_MAX_DEVIATION = 1e-4  # In probability, between PyTorch and ONNX Runtime.
_BROWSER_FILTERS = {1: "Lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "Hamming"}


def require_packages() -> None:
    """Check that what exporting needs is installed.

    Raises:
        UserError: a package is missing.
    """
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"Exporting needs {', '.join(missing)}. Run: pip install -r requirements-web.txt")


class _Graph(nn.Module):
    """The part of a model that an ONNX graph holds: pixel values in, logits and perhaps a known score out."""

    def __init__(self, model: PreTrainedModel, known: OpenSet | None) -> None:
        super().__init__()
        self.model = model
        self.terms = known.settings["score"] if known else []
        self._tap = FeatureTap(model, known.layers) if known else None
        for name, value in known.arrays.items() if known else ():
            if name.startswith("mean."):
                value = value[np.isfinite(value).all(axis=1)]  # Rows of classes without images are left out.
            if name.startswith(("mean.", "whitening.", "standard.", "others.")):
                self.register_buffer(_buffer(name), torch.from_numpy(value.astype(np.float32)))

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        logits = self.model(pixel_values=pixel_values).logits
        if self._tap is None:
            return (logits,)
        features = self._tap.take()
        terms = torch.stack([self._term(name, logits, features) for name in self.terms], dim=1)
        median, scale = self.get_buffer(_buffer("standard.median")), self.get_buffer(_buffer("standard.scale"))
        return logits, ((terms - median) / scale).mean(dim=1)

    def _term(self, name: str, logits: torch.Tensor, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """[B] the same as `open_set.raw_terms`, in operators that ONNX has."""
        if name == open_set.MAX_LOGIT:
            return logits.amax(dim=1)
        if name == open_set.LOG_ODDS:
            ordered = logits.sort(dim=1, descending=True).values
            return ordered[:, 0] - ordered[:, 1:].logsumexp(dim=1)
        if name == open_set.OTHERS:
            rows = [self._whitened(layer, features) for layer in sorted(features)]
            return torch.cat(rows, dim=1) @ self.get_buffer(_buffer("others.weight"))
        layer = name.removeprefix(open_set.MAHALANOBIS)
        centres = self.get_buffer(_buffer(f"mean.{layer}")) @ self.get_buffer(_buffer(f"whitening.{layer}")).T
        # Differences first: the square of a sum would cancel in single precision.
        return -((self._whitened(layer, features)[:, None] - centres[None]) ** 2).sum(dim=2).amin(dim=1)

    def _whitened(self, layer: str, features: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return nn.functional.normalize(features[layer], dim=1) @ self.get_buffer(_buffer(f"whitening.{layer}")).T

    def close(self) -> None:
        if self._tap:
            self._tap.close()


def _buffer(name: str) -> str:
    return name.replace(".", "_")


def export(model: PreTrainedModel, path: Path, *, image_size: tuple[int, int], known: OpenSet | None = None) -> None:
    """Write `model` as an ONNX graph with single-precision weights inside, for any number of images at once.

    torch's exporter is the one based on torch.export: the older one is deprecated. Attention is computed without fused
    kernels, for BEiT and Swin cannot be exported with them.

    Args:
        model: an image classification model; it is back in its place afterwards.
        path: the .onnx file.
        image_size: (height, width) in pixels that the model sees.
        known: statistics with which the graph also gives the known score [n].

    Raises:
        UserError: a package is missing, or the architecture cannot be exported.
    """
    require_packages()
    outputs = [LOGITS, KNOWN_SCORE] if known else [LOGITS]
    example = torch.zeros(2, 3, *image_size, device=model.device, dtype=model.dtype)
    with _prepared(model) as ready, _quiet():
        graph = _Graph(ready, known)
        try:
            torch.onnx.export(
                graph, (example,), str(path), input_names=[INPUT], output_names=outputs, dynamo=True,
                external_data=False, opset_version=OPSET, verbose=False,
                dynamic_shapes={INPUT: {0: torch.export.Dim("n_images", min=1, max=4096)}},
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise UserError(
                f"{type(model).__name__} can't be exported to ONNX: {_first_line(error)}. Choose another architecture."
            ) from error
        finally:
            graph.close()
    _remove_notes(path)


def _remove_notes(path: Path) -> None:
    """Remove what the exporter notes about each node: the names of its source files, with local folders."""
    import onnx

    model = onnx.load(path)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    onnx.save(model, path)


@contextlib.contextmanager
def _prepared(model: PreTrainedModel) -> Iterator[PreTrainedModel]:
    """`model` for export: evaluation, single precision, unfused attention."""
    attention, dtype, was_training = model.config._attn_implementation, model.dtype, model.training
    model.eval().float().set_attn_implementation("eager")
    try:
        yield model
    finally:
        model.set_attn_implementation(attention)
        model.to(dtype).train(was_training)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter speaks of operators and initializers that no user needs to know about."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def write_half(source: Path, target: Path) -> None:
    """Write the logits of the graph in `source` with weights and activations in half precision, at half the size.

    Inputs and outputs stay in single precision. 8-bit weights would halve the size again, but change some labels.
    """
    import onnx.utils
    from onnxruntime.transformers.float16 import convert_float_to_float16

    onnx.utils.extract_model(str(source), str(target), [INPUT], [LOGITS])  # The known score needs single precision.
    with _quiet():
        half = convert_float_to_float16(onnx.load(target), keep_io_types=True)
    onnx.save(half, target)


def run(path: Path, values: np.ndarray, *, batch_size: int = 32) -> dict[str, np.ndarray]:
    """Outputs by name of the graph in `path` for [n, 3, H, W] pixel values, by ONNX Runtime on the processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {INPUT: values[start : start + batch_size].astype(np.float32)})
        for start in range(0, len(values), batch_size)
    ]
    return {name: np.concatenate([part[number] for part in parts]) for number, name in enumerate(names)}


def overflows_in_half(model: PreTrainedModel, inputs: np.ndarray) -> bool:
    """Whether a model gives logits that are no numbers for images [n, 3, H, W] when it computes in half precision.

    By PyTorch, for ONNX Runtime computes a graph in half precision on a processor in single precision.
    """
    half = copy.deepcopy(model).half()
    with torch.no_grad():
        logits = [half(pixel_values=part.half()).logits for part in torch.from_numpy(inputs).split(32)]
    return not bool(torch.cat(logits).isfinite().all())


def agreement(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """How close probabilities [n, C] of a graph come to those of PyTorch: same labels, and the largest difference."""
    return {
        "n": len(expected),
        "n_same": int((expected.argmax(axis=1) == found.argmax(axis=1)).sum()),
        "largest_difference": float(np.abs(expected - found).max()),
    }


def require_equal(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """`agreement`, which must be within 1e-4.

    Raises:
        UserError: the graph says something else than the model.
    """
    measured = agreement(expected, found)
    if not measured["largest_difference"] <= _MAX_DEVIATION:  # False for NaN, too.
        raise UserError(
            f"The exported graph differs from the model by {measured['largest_difference']:.1e} in probability, more "
            f"than {_MAX_DEVIATION:.0e}. Update onnx, onnxscript and torch, or choose another architecture."
        )
    return measured


def processor_json(image_processor: BaseImageProcessor) -> dict[str, Any]:
    """What a browser must know to make the same pixel values: filter, sizes, and the line from level to value.

    Raises:
        UserError: the image processor does more than resize, crop and normalise.
    """
    processor = Processor.of(image_processor)
    geometry = processor.geometry
    if geometry is None or geometry.resample not in _BROWSER_FILTERS:
        filters = ", ".join(_BROWSER_FILTERS.values())
        raise UserError(
            f"What {type(image_processor).__name__} does to images can't be repeated in a browser. Expected a resize "
            f"by a filter of Pillow ({filters}), perhaps a centre crop, and a normalisation."
        )
    return {
        "resample": geometry.resample, "size": list(geometry.size),
        "scale": list(processor.normalise.scale), "offset": list(processor.normalise.offset),
    }  # fmt: skip


def open_set_json(known: OpenSet) -> dict[str, Any]:
    """What a browser must know to decide by the known score: thresholds and validation scores by predicted class."""
    thresholds = known.thresholds().tolist()
    references = []
    for label in range(len(known.class_names)):
        own, weights = known.reference(label)
        references.append({"scores": own.round(5).tolist(), "weights": weights.round(5).tolist()})
    if all(reference == references[0] for reference in references):
        references = references[:1]  # Small for 1,000 classes.
    return {"thresholds": thresholds, "references": references}
