"""A model as one HTML file for any browser: export, comparison with PyTorch, and the page."""

import contextlib
import http.server
import logging
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import scipy.special
import torch

from memevit import pixels, results
from memevit.errors import UserError
from memevit.hub import checks, description, html_page, web_runtime
from memevit.model import backbone, onnx_export
from memevit.model.classifier import Classifier
from memevit.model.processor import pixel_values

logger = logging.getLogger(__name__)

_MAX_SCORE_DIFFERENCE = 0.02  # Of known scores, whose unit is the spread of validation images.


def write_html(
    model_dir: Path, path: Path, *, title: str | None = None, sentence: str | None = None, runtime: Path | None = None
) -> int:
    """Write a page that classifies and sorts images without a server, and return its size in bytes.

    Args:
        model_dir: a model folder.
        path: the .html file.
        title: of the page; by default that of the data.
        sentence: what the page says about the model; by default which classes it tells apart.
        runtime: folder with ONNX Runtime Web; fetched by npm once when None.

    Raises:
        UserError: a package is missing, the model can't be exported, or the page would answer differently.
    """
    onnx_export.require_packages()
    if path.is_dir():
        raise UserError(f"{path} is a folder. Name a file for --html, for example images.html.")
    runtime_dir = web_runtime.folder(runtime)
    classifier = Classifier.load(model_dir, device=torch.device("cpu"))  # Also checks the statistics.
    model, image_processor = backbone.load_trained(model_dir)
    processor, known = onnx_export.processor_json(image_processor), classifier.open_set
    found = results.read(model_dir) if (model_dir / results.RESULTS_FILE).is_file() else {}
    data = dict(found.get("data") or {}) | {"classes": classifier.class_names}
    words = description.describe({"data": data}, name=model_dir.resolve().name, title=title, sentence=sentence)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / "model.onnx"
        onnx_export.export(model, graph, image_size=tuple(processor["size"]), known=known)
        _require_same_answers(graph, classifier, image_processor, Path(folder))
        return html_page.write(
            path,
            graph,
            runtime_dir,
            class_names=classifier.class_names,
            processor=processor,
            open_set=onnx_export.open_set_json(known) if known else None,
            title=words.title,
            about=words.sentence,
        )


def _require_same_answers(graph: Path, classifier: Classifier, image_processor: object, folder: Path) -> None:
    """Compare the exported graph with the model on drawn images."""
    images = [pixels.load_image(path) for path in checks.drawn_images(folder)]
    outputs = onnx_export.run(graph, pixel_values(images, image_processor).numpy())
    measured = onnx_export.require_equal(
        classifier.probabilities(images), scipy.special.softmax(outputs[onnx_export.LOGITS].astype(np.float64), axis=1)
    )
    if classifier.open_set:
        expected = np.array([one.known_score for one in classifier.classify_images(images)])
        apart = float(np.abs(expected - outputs[onnx_export.KNOWN_SCORE]).max() / max(1.0, np.abs(expected).max()))
        if apart > _MAX_SCORE_DIFFERENCE:
            raise UserError(f"The exported graph's known scores differ by {apart:.1%}; the page would reject others.")
    logger.info(
        "The exported graph agrees with the model to %.0e in probability (n %d)",
        measured["largest_difference"],
        measured["n"],
    )


@contextlib.contextmanager
def served(path: Path, *, host: str, port: int) -> Iterator[str]:
    """Serve one HTML file at the address that is given while the context lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802, the name that the library calls
            is_page = self.path.split("?")[0] in ("/", f"/{path.name}")
            self.send_response(200 if is_page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(path.stat().st_size if is_page else 0))
            self.end_headers()
            if is_page:
                self.wfile.write(path.read_bytes())

        def log_message(self, *_: object) -> None:
            """Say nothing: the address of the page was logged already."""

    with http.server.ThreadingHTTPServer((host, port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://{host}:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
