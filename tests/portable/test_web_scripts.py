"""The scripts of the page, run by Node.js without a browser."""

import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

WEB = Path(__file__).parents[2] / "memevit" / "portable" / "web"

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")


def node(script, *modules, cwd):
    """What `script` prints, after importing everything from `modules`."""
    imports = "".join(f"import * as {Path(name).stem} from {json.dumps((WEB / name).as_uri())};\n" for name in modules)
    path = cwd / "script.mjs"
    path.write_text(f'import fs from "node:fs";\n{imports}{script}')
    return subprocess.run(["node", path], cwd=cwd, capture_output=True, text=True, check=True).stdout


def rgba(image):
    return {"width": image.width, "height": image.height, "data": np.asarray(image.convert("RGBA")).ravel().tolist()}


@pytest.mark.parametrize("resample", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("size", "target"), [((97, 53), (32, 32)), ((20, 31), (64, 64)), ((64, 64), (64, 17))])
def test_images_are_resized_as_pillow_resizes_them(tmp_path, resample, size, target):
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    (tmp_path / "image.json").write_text(json.dumps(rgba(image)))
    script = f"""
        const image = JSON.parse(fs.readFileSync("image.json"));
        console.log(JSON.stringify(Array.from(resize.resize(image, {target[0]}, {target[1]}, {resample}).data)));
    """
    found = np.array(json.loads(node(script, "resize.js", cwd=tmp_path))).reshape(target[1], target[0], 4)[..., :3]
    np.testing.assert_array_equal(found, np.asarray(image.resize(target, Image.Resampling(resample))))


def test_an_archive_opens_with_its_names_and_contents(tmp_path):
    script = """
        const time = Date.UTC(2024, 4, 6, 7, 8, 10);
        const given = [["doom/é.png", "one"], ["unknown/b.png", ""]];
        const entries = given.map(([path, text]) => ({ path, blob: new Blob([text]), time }));
        fs.writeFileSync("made.zip", Buffer.from(await (await zip.zip(entries)).arrayBuffer()));
    """
    node(script, "zip.js", cwd=tmp_path)
    with zipfile.ZipFile(tmp_path / "made.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == {"doom/é.png": b"one", "unknown/b.png": b""}


def test_names_are_safe_free_and_never_lost(tmp_path):
    names = ["a/b.png", "con.txt", "..", "x\u202egnp.exe", "a\nb", "ok.png", "OK.PNG", "dot. "]
    script = f"""
        const taken = new Set();
        const made = {json.dumps(names)}.map((name) => answer.freeName(answer.safeName(name), taken));
        console.log(JSON.stringify(made));
    """
    assert json.loads(node(script, "answer.js", cwd=tmp_path)) == [
        "a_b.png", "_con.txt", "_", "x_gnp.exe", "a_b", "ok.png", "OK (2).PNG", "dot_",
    ]  # fmt: skip


def test_cells_that_a_spreadsheet_would_run_are_text(tmp_path):
    script = 'console.log(answer.csv([["=1+1", "-0.5", -0.5, null, \'a,"b\']]))'
    assert node(script, "answer.js", cwd=tmp_path).strip().lstrip("\ufeff") == """'=1+1,-0.5,-0.5,,"a,""b\""""


def test_an_image_below_the_threshold_is_unknown_with_the_reason(tmp_path):
    script = """
        const references = [{ scores: [-1, 1, 2, 3], weights: [1, 1, 1, 1] }];
        const model = { class_names: ["a", "b"], open_set: { thresholds: [0, 0], references } };
        console.log(JSON.stringify([0.5, -0.5, null].map((score) => answer.decide([2, 0], score, model))));
    """
    known, unknown, without = json.loads(node(script, "answer.js", cwd=tmp_path))
    assert (known["label"], known["accepted"], known["reason"]) == ("a", True, "")
    assert (unknown["label"], unknown["predicted"], unknown["accepted"]) == ("unknown", "a", False)
    assert unknown["reason"] == "less like the training images than 75 % of the validation images"
    assert (without["label"], without["accepted"]) == ("a", None)
    assert known["confidence"] == pytest.approx(1 / (1 + np.exp(-2)))
