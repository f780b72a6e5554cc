"""A page whose browser runs the model: as one HTML file for offline use, or as a folder for a web server."""

import base64
import gzip
import html
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memevit import files
from memevit.hub import web_runtime

SOURCE_DIR = Path(__file__).parents[1] / "portable" / "web"
SCRIPTS = ("resize.js", "answer.js", "zip.js", "page.js")  # One after the other: each may use those before it.
MODEL, RUNTIME, WASM = "model", "runtime", "runtime-wasm"
INDEX_FILE, MODEL_FILE = "index.html", "model.onnx"
BESIDE = {RUNTIME: web_runtime.SCRIPT_FILE, WASM: web_runtime.WASM_FILE, MODEL: MODEL_FILE}


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    `graph` is the exported model, `runtime_dir` as `web_runtime.folder` gives it. The position in `class_names` is the
    label. `processor` and `open_set` are as `model.onnx_export` gives them; the latter is None where the graph gives no
    known score. `about` is a sentence below the title.
    """

    graph: Path
    runtime_dir: Path
    class_names: Sequence[str]
    processor: Mapping[str, Any]
    open_set: Mapping[str, Any] | None
    title: str
    about: str

    def write(self, path: Path) -> int:
        """Write one HTML file with model and runtime inside, and return its size in bytes."""
        embedded = {id_: _packed(source) for id_, source in self._sources().items()}
        text = render(self._info(), embedded=embedded, title=self.title, about=self.about)
        files.write_text(path, text)
        return len(text.encode())

    def write_folder(self, folder: Path) -> None:
        """Write index.html into `folder`, with model and runtime as files of their own."""
        for id_, source in self._sources().items():
            shutil.copyfile(source, folder / BESIDE[id_])
        text = render(self._info() | {"files": BESIDE}, title=self.title, about=self.about)
        files.write_text(folder / INDEX_FILE, text)

    def _sources(self) -> dict[str, Path]:
        runtime = {id_: self.runtime_dir / BESIDE[id_] for id_ in (RUNTIME, WASM)}
        return runtime | {MODEL: self.graph}

    def _info(self) -> dict[str, Any]:
        return {
            "class_names": list(self.class_names), "processor": dict(self.processor), "open_set": self.open_set,
        }  # fmt: skip


def render(info: Mapping[str, Any], *, embedded: Mapping[str, str] | None = None, title: str, about: str) -> str:
    """The page as HTML.

    Args:
        info: what the scripts read: `class_names`, `processor`, `open_set`, and `files` beside the page by id.
        embedded: gzipped and base64-encoded content by id, where there are no such files.
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
        embedded=embedded or {},
        is_hosted=bool(info.get("files")),
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
