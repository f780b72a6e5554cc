"""A model as one HTML file that classifies and sorts images in any browser, without a server and without a network."""

import base64
import gzip
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from memevit import files
from memevit.hub import web_runtime

SOURCE_DIR = Path(__file__).parents[1] / "portable" / "web"
SCRIPTS = ("resize.js", "answer.js", "zip.js", "page.js")  # One after the other: each may use those before it.
MODEL, RUNTIME, WASM = "model", "runtime", "runtime-wasm"


def write(
    path: Path,
    onnx_path: Path,
    runtime_dir: Path,
    *,
    class_names: Sequence[str],
    processor: Mapping[str, Any],
    open_set: Mapping[str, Any] | None = None,
    title: str,
    about: str,
) -> int:
    """Write the page with model and runtime inside, and return its size in bytes.

    Args:
        path: the .html file.
        onnx_path: the exported graph.
        runtime_dir: as `web_runtime.folder` gives it.
        class_names: position is the label.
        processor: as `onnx_export.processor_json` gives it.
        open_set: `threshold` and `scores` of validation images, where the graph gives a known score.
        title: of the page.
        about: a sentence below the title.
    """
    embedded = {
        RUNTIME: _packed(runtime_dir / web_runtime.SCRIPT_FILE),
        WASM: _packed(runtime_dir / web_runtime.WASM_FILE),
        MODEL: _packed(onnx_path),
    }
    info = {"class_names": list(class_names), "processor": dict(processor), "open_set": open_set}
    text = render(info, embedded=embedded, title=title, about=about)
    files.write_text(path, text)
    return len(text.encode())


def render(info: Mapping[str, Any], *, embedded: Mapping[str, str], title: str, about: str) -> str:
    """The page.

    Args:
        info: what the scripts read: `class_names`, `processor` and `open_set`.
        embedded: gzipped and base64-encoded content by id.
        title: of the page.
        about: a sentence below the title.
    """
    import jinja2

    unknown = " Images of anything else are called unknown." if info.get("open_set") else ""
    template = jinja2.Template(
        (SOURCE_DIR / "page.html.j2").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined, autoescape=False
    )
    return template.render(
        title=html.escape(title),
        about=html.escape(about + unknown),
        css=(SOURCE_DIR / "page.css").read_text(encoding="utf-8"),
        footer=html.escape(
            "Made from a fine-tuned image classification model. A probability says how sure the model is, not that "
            "it is right."
        ),
        licences=html.escape((SOURCE_DIR / "runtime-licence.txt").read_text(encoding="utf-8")),
        model_json=_json_in_html(info),
        embedded=embedded,
        script=script(),
    )


def script() -> str:
    """All scripts of the page as one, without the words that only files need."""
    parts = [(SOURCE_DIR / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "\n".join(part.replace("\nexport ", "\n") for part in parts)


def _packed(path: Path) -> str:
    return base64.b64encode(gzip.compress(path.read_bytes(), compresslevel=9, mtime=0)).decode()


def _json_in_html(content: Mapping[str, Any]) -> str:
    """JSON that ends no element, whatever class names say."""
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
