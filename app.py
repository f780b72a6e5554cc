"""Serve a page to try a model: drop or paste images and read the class and the probabilities.

    python app.py --model model/
    python app.py --model model/ --port 8000 --open_browser
    python app.py --model model/ --static

The page is for this machine only unless --host says otherwise. It stores no uploads and makes no outgoing connections;
a zip of sorted images, if you ask for one, is deleted after ten minutes.
Needs Gradio: pip install -r requirements-app.txt. With --static the browser runs the model, and Gradio is not needed;
that needs pip install -r requirements-web.txt.
"""

import importlib.util
import logging
import socket
import tempfile
import webbrowser
from pathlib import Path

from memevit import cli, escape
from memevit.arguments import AppArguments
from memevit.data.sample import examples
from memevit.errors import UserError
from memevit.hub import description
from memevit.portable import page

logger = logging.getLogger(__name__)


def main(args: AppArguments) -> None:
    """Load the model and serve the page until Ctrl-C."""
    if args.static:
        _serve_static(args)
        return
    if importlib.util.find_spec("gradio") is None:
        raise UserError("The page needs Gradio, which is not installed. Run: pip install -r requirements-app.txt")

    from memevit.commands import app_answers  # Takes seconds to import.
    from memevit.model.classifier import Classifier

    classifier = Classifier.load(args.model, answers_unknown=args.unknown)
    words = description.of_page(args.model, classifier.class_names)
    with tempfile.TemporaryDirectory(prefix="examples-") as folder:
        served = page.served(
            app_answers.by(classifier),
            title=words.title,
            about=escape.markdown_text(words.sentence),
            examples=examples.draw_examples(Path(folder)) if examples.fits(classifier.class_names) else (),
            write_zip=app_answers.zip_writer(classifier),
            max_file_bytes=args.max_file_mb * 1_000_000,
            server_name=args.host,
            server_port=_free_port(args.host, args.port),
            inbrowser=args.open_browser,
        )
        with served as url:
            logger.info("The page is at %s; stop it with Ctrl-C", url)
            page.wait()


def _serve_static(args: AppArguments) -> None:
    """Serve the page whose model runs in the browser."""
    from memevit.commands import web_page

    with tempfile.TemporaryDirectory(prefix="page-") as folder:
        path = Path(folder) / "index.html"
        web_page.write_html(args.model, path)
        with web_page.served(path, host=args.host, port=_free_port(args.host, args.port)) as url:
            logger.info("The page is at %s; stop it with Ctrl-C", url)
            if args.open_browser:
                webbrowser.open(url)
            page.wait()


def _free_port(host: str, port: int) -> int:
    """`port` if nothing else is served there, any free one when it is 0."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"Can't serve on {host}:{port} ({error.strerror}). Choose another --port.") from error
        return probe.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(cli.run(main, AppArguments, doc=__doc__))
