"""A model as one HTML file for any browser, and a server for it."""

import contextlib
import http.server
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import torch

from memevit.commands import onnx_graphs
from memevit.errors import UserError
from memevit.hub import checks, description, web_runtime
from memevit.model import onnx_export
from memevit.model.classifier import Classifier


def write_html(
    model_dir: Path, path: Path, *, title: str | None = None, sentence: str | None = None, runtime: Path | None = None
) -> int:
    """Write a page that classifies and sorts images without a server, and return its size in bytes.

    Args:
        model_dir: a model folder.
        path: the .html file.
        title: of the page; a question that names the classes when None.
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
    words = description.of_page(model_dir, classifier.class_names, title=title, sentence=sentence)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = checks.Reference.of(classifier.class_names, list(classifier.classify(checks.drawn_images(folder))))
        graph = onnx_graphs.export(model_dir, folder, classifier, drawn)
        return graph.page(runtime_dir, words).write(path)


@contextlib.contextmanager
def served(path: Path, *, host: str, port: int) -> Iterator[str]:
    """Serve one HTML file at the address that is given while the context lasts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> bool:  # noqa: N802, the name that the library calls
            is_page = self.path.split("?")[0] in ("/", f"/{path.name}")
            self.send_response(200 if is_page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(path.stat().st_size if is_page else 0))
            self.end_headers()
            return is_page

        def do_GET(self) -> None:  # noqa: N802
            if self.do_HEAD():
                with contextlib.suppress(ConnectionError):  # Somebody closed the page while it loaded.
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
