"""ONNX Runtime Web, the library that runs a model in a browser: fetched once by npm, checked, and kept."""

import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from memevit import files
from memevit.errors import UserError

PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
SCRIPT_FILE, WASM_FILE = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT_FILE: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM_FILE: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
_TIMEOUT_S = 300


def folder(given: Path | None = None) -> Path:
    """A folder with the script and the WebAssembly of the runtime.

    Args:
        given: a folder that holds them, or the unpacked npm package; fetched and kept in the user's cache when None.

    Raises:
        UserError: npm is missing or fails, or a file is not the one that was tested.
    """
    if given is not None:
        found = given / "dist" if (given / "dist").is_dir() else given
        _require_intact(found)
        return found
    kept = _cache_dir() / f"{PACKAGE}-{VERSION}"
    if not all((kept / name).is_file() for name in SHA256):
        _fetch(kept)
    _require_intact(kept)
    return kept


def _cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memevit"


def _fetch(target: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError(
            f"The page needs {PACKAGE} {VERSION} inside, which npm fetches once, and npm is not installed. Install "
            f"Node.js, or unpack that package elsewhere and name the folder with --web_runtime."
        )
    with tempfile.TemporaryDirectory() as name:
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", name, "--silent"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, cwd=name, check=False)
        except subprocess.TimeoutExpired:
            raise UserError(f"npm did not fetch {PACKAGE} within {_TIMEOUT_S} s. Check the network.") from None
        archives = list(Path(name).glob("*.tgz"))
        if done.returncode or not archives:
            lines = done.stderr.strip().splitlines() or ["it gave no reason"]
            raise UserError(f"npm could not fetch {PACKAGE} {VERSION}: {lines[0][:200]}. Check the network.")
        target.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archives[0]) as archive:
            for file in SHA256:
                files.write_bytes(target / file, archive.extractfile(f"package/dist/{file}").read())


def _require_intact(found: Path) -> None:
    for name, expected in SHA256.items():
        path = found / name
        if not path.is_file():
            raise UserError(f"{path} does not exist. Name a folder with the dist files of {PACKAGE} {VERSION}.")
        if hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise UserError(f"{path} is not that of {PACKAGE} {VERSION} (other checksum). Delete it and try again.")
