"""A model as ONNX graphs that were compared with it: for pages that run in the browser, and for transformers.js."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
from transformers import PreTrainedModel

from memevit import pixels
from memevit.errors import UserError
from memevit.evaluation.significance import wilson_interval
from memevit.hub import checks, model_repo
from memevit.hub.description import Description
from memevit.hub.html_page import SOURCE_DIR, Page
from memevit.model import backbone, onnx_export
from memevit.model.classifier import Classifier
from memevit.model.processor import pixel_values

logger = logging.getLogger(__name__)

_MAX_SCORE_DIFFERENCE = 0.02  # Of known scores, whose unit is the spread of validation images.


@dataclass(frozen=True)
class Graph:
    """A model as an ONNX graph in single precision.

    `processor` and `open_set` are what a browser must know beside it, and `inputs` [n, 3, H, W] the images of
    `reference`, with which it was compared to `model`.
    """

    path: Path
    model: PreTrainedModel
    class_names: list[str]
    processor: dict[str, Any]
    open_set: dict[str, Any] | None
    reference: checks.Reference
    inputs: np.ndarray

    def page(self, runtime_dir: Path, words: Description) -> Page:
        """The page that runs this graph."""
        return Page(
            self.path, runtime_dir, self.class_names, self.processor, self.open_set, words.title, words.sentence
        )


def export(model_dir: Path, folder: Path, classifier: Classifier, reference: checks.Reference) -> Graph:
    """Write the model as a graph into `folder`, and compare the two.

    Args:
        model_dir: a model folder.
        folder: an empty one.
        classifier: the same model.
        reference: what it says about some images.

    Raises:
        UserError: a package is missing, the model can't be exported, or the graph answers differently.
    """
    model, image_processor = backbone.load_trained(model_dir)
    processor, known = onnx_export.processor_json(image_processor), classifier.open_set
    path = folder / "model.onnx"
    onnx_export.export(model, path, image_size=tuple(processor["size"]), known=known)
    inputs = np.concatenate(
        [pixel_values([pixels.load_image(one)], image_processor).numpy() for one in reference.paths]
    )
    _require_same_answers(path, inputs, reference)
    described = onnx_export.open_set_json(known) if known else None
    return Graph(path, model, classifier.class_names, processor, described, reference, inputs)


def _require_same_answers(path: Path, inputs: np.ndarray, reference: checks.Reference) -> None:
    """Compare a graph with the model."""
    outputs = onnx_export.run(path, inputs)
    measured = onnx_export.require_equal(reference.probabilities, _probabilities(outputs))
    if reference.known_scores is not None:
        expected = reference.known_scores
        apart = float(np.abs(expected - outputs[onnx_export.KNOWN_SCORE]).max() / max(1.0, np.abs(expected).max()))
        if not apart <= _MAX_SCORE_DIFFERENCE:
            raise UserError(f"The exported graph's known scores differ by {apart:.1%}; the page would reject others.")
    logger.info(
        "The exported graph agrees with the model to %.0e in probability (n %d)",
        measured["largest_difference"],
        measured["n"],
    )


def _probabilities(outputs: dict[str, np.ndarray]) -> np.ndarray:
    return scipy.special.softmax(outputs[onnx_export.LOGITS].astype(np.float64), axis=1)


def for_transformers_js(graph: Graph, *, images: str) -> model_repo.OnnxFiles:
    """The files that transformers.js loads from a model page: the graph, a smaller one, and the resampling of Python.

    Args:
        graph: of the model; the smaller one is written beside it.
        images: what the images of `graph.reference` are, for the card.

    Raises:
        UserError: in half precision the model gives no numbers.
    """
    half = graph.path.with_name("half.onnx")
    onnx_export.write_half(graph.path, half)
    paths = {model_repo.ONNX_FULL: graph.path, model_repo.ONNX_HALF: half}
    written = [
        {"name": name, "dtype": dtype, "bytes": path.stat().st_size, **_agreement(path, graph)}
        for (name, path), dtype in zip(paths.items(), ("fp32", "fp16"), strict=True)
    ]
    is_finite = all(np.isfinite(one["largest_difference"]) for one in written)
    if not is_finite or onnx_export.overflows_in_half(graph.model, graph.inputs):
        raise UserError("In half precision the values of this model overflow. Publish it without --onnx.")
    section = {
        "images": images,
        "n": len(graph.inputs),
        "files": written,
        "processor": graph.processor,
        "gives_known_score": graph.open_set is not None,
    }
    return model_repo.OnnxFiles(paths | {model_repo.ONNX_RESIZE: SOURCE_DIR / "resize.js"}, section)


def _agreement(path: Path, graph: Graph) -> dict[str, Any]:
    found = onnx_export.agreement(graph.reference.probabilities, _probabilities(onnx_export.run(path, graph.inputs)))
    low, high = wilson_interval(found["n_same"], found.pop("n"))
    return found | {"ci_low": low, "ci_high": high}
