"""push_to_hub.py from a model folder to a page on the Hub that gives the same answers; the client is the real one."""

import json
import re
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from scipy.special import softmax
from transformers import AutoImageProcessor

from memevit import files
from memevit.hub import model_page, model_repo, space_page, web_runtime
from memevit.model import onnx_export
from memevit.model.classifier import Classifier
from memevit.pixels import load_image
from tests.conftest import draw_image, run_data_prep, run_push, write_classes
from tests.hub.conftest import REPO_ID
from tests.hub.hub_server import READER, WRITER, Fault

PAGE = {
    *("README.md", "config.json", "confusion_matrix.png", "learning_curves.png", "model.safetensors"),
    *("predictions.csv", "preprocessor_config.json", "results.json", "run.json"),
}
BY_NAME = f"""
import tempfile
from transformers import pipeline
with tempfile.TemporaryDirectory() as fresh:
    classify = pipeline("image-classification", model={REPO_ID!r}, model_kwargs={{"cache_dir": fresh}})
    result = {{one["label"]: one["score"] for one in classify("meme.jpg")}}
"""


@pytest.fixture
def meme(tmp_path):
    """A folder with meme.jpg, and image.jpg that the card's lines of code read."""
    for name in ("meme.jpg", "image.jpg"):
        draw_image(7).save(tmp_path / name)
    return tmp_path


def pushed(server):
    return server.repos["model", REPO_ID]


def test_a_model_is_published_once_and_anybody_can_use_it_by_its_name(server, client, model_dir, meme):
    for expected in ("Published: ", "Nothing to change, it is there already: "):
        outcome = client.push("--model", model_dir, "--repo_id", REPO_ID)
        assert outcome.code == 0, outcome.said
        assert expected in outcome.said
        assert WRITER not in outcome.said
    repo = pushed(server)
    assert (repo.private, repo.titles_of(), repo.tags) == (True, ["Upload model"], {"v1": repo.refs["main"]})
    assert set(repo.files()) == PAGE | {".gitattributes"}
    assert repo.files()["model.safetensors"] == (model_dir / "model.safetensors").read_bytes()
    assert outcome.said.count("Loaded back, the model says the same") == 2

    by_name = client.run(BY_NAME, token=READER, folder=meme).result
    local = Classifier.load(model_dir)
    expected = local.probabilities([load_image(meme / "meme.jpg")])[0]
    assert np.allclose([by_name[name] for name in local.class_names], expected, atol=1e-4)

    assert f'model="{REPO_ID}", revision="v1")' in repo.files()["README.md"].decode()
    code = re.search(r"```python\n(.*?)```", repo.files()["README.md"].decode(), re.DOTALL)[1]
    assert len(code.splitlines()) == 3
    shown = client.run(code, folder=meme)
    assert shown.code == 0, shown.said
    assert max(by_name, key=by_name.get) in shown.said


def test_it_goes_up_and_comes_back_by_xet(server, xet_client, model_dir):
    outcome = xet_client.push("--model", model_dir, "--repo_id", REPO_ID, "--commit_message", "By Xet", "--tag", "x")
    assert outcome.code == 0, outcome.said
    assert (pushed(server).titles_of(), list(pushed(server).tags)) == (["By Xet"], ["x"])
    assert {"xet-write-token", "xet-read-token"} <= set(server.steps())
    assert not {"put", "storage"} & set(server.steps())


def test_a_flipped_byte_on_the_way_back_is_noticed_and_the_version_gets_no_name(server, client, model_dir):
    server.fail("storage", *[Fault(flip=True)] * 2)
    outcome = client.push("--model", model_dir, "--repo_id", REPO_ID)
    assert outcome.code == 2
    # Large files come in parallel: which two are hit is chance.
    assert re.search(r"other bytes came back in [\w.]+, [\w.]+\. The version", outcome.error)
    assert pushed(server).tags == {}


def test_a_hub_that_stumbles_on_the_way_back_is_asked_again(server, client, model_dir):
    server.fail("storage", Fault(status=503))
    n_of_the_snapshot = 2 * len(PAGE)  # A HEAD and a GET of each of 7 small files, a HEAD of the 2 large ones.
    server.fail("resolve", *[Fault()] * n_of_the_snapshot, Fault(drop=True))
    outcome = client.push("--model", model_dir, "--repo_id", REPO_ID)
    assert outcome.code == 0, outcome.said
    assert pushed(server).tags == {"v1": pushed(server).refs["main"]}
    assert not server.faults["resolve"]


def test_a_pull_request_is_opened_and_has_no_version(server, client, model_dir):
    repo = server.add_repo(REPO_ID)
    outcome = client.push("--model", model_dir, "--repo_id", REPO_ID, "--create_pr")
    assert outcome.code == 0, outcome.said
    assert f"Published: {server.endpoint}/{REPO_ID}/discussions/1" in outcome.said
    assert (set(repo.files()), repo.tags) == ({".gitattributes"}, {})
    assert set(repo.files("refs/pr/1")) > PAGE


def test_data_and_space_go_along_when_asked(server, client, model_dir, prepared):
    outcome = client.push(
        *("--model", model_dir, "--repo_id", REPO_ID, "--dataset", prepared, "--public"),
        *("--push_dataset", "--dataset_license", "cc-by-4.0", "--space"),
    )
    assert outcome.code == 0, outcome.said
    data, space = server.repos["dataset", f"{REPO_ID}-data"], server.repos["space", f"{REPO_ID}-demo"]
    assert [repo.private for repo in (data, space, pushed(server))] == [False] * 3
    assert [repo.titles_of() for repo in (data, space)] == [["Upload dataset"], ["Upload Space"]]
    assert "license: cc-by-4.0" in data.files()["README.md"].decode()
    images = {path.relative_to(prepared).as_posix() for path in prepared.glob("*/*/*")}
    assert set(data.files()) == images | {".gitattributes", "README.md", "manifest.csv", "prep.json"}
    assert len(images) == 120
    page = pushed(server).files()["README.md"].decode()
    assert f"datasets:\n- {REPO_ID}-data" in page
    assert "cc-by-4.0." in page
    assert space.sdk == "gradio"
    assert space.files()["model.txt"].decode() == f"{REPO_ID}\n"


FOR_BROWSERS = """
from unittest import mock
from memevit.hub import web_runtime
from tests.conftest import run_push
with mock.patch.dict(web_runtime.SHA256, {sums!r}):
    result = run_push(*{argv!r})
"""


@pytest.fixture
def runtime(tmp_path):
    """A folder that takes the place of the runtime, and the checksums of its files."""
    (tmp_path / "dist").mkdir()
    sums = {}
    for name in web_runtime.SHA256:
        (tmp_path / "dist" / name).write_text("built in /home/web_user")
        sums[name] = files.sha256_of(tmp_path / "dist" / name)
    return tmp_path, sums


def test_a_model_for_javascript_and_a_static_space_go_along_when_asked(
    server, client, trained, prepared, runtime, tmp_path
):
    pytest.importorskip("onnxscript")
    argv = ["--model", trained, "--repo_id", REPO_ID, "--dataset", prepared, "--onnx", "--space", "static"]
    argv = [str(one) for one in (*argv, "--web_runtime", runtime[0])]
    outcome = client.run(FOR_BROWSERS.format(sums=runtime[1], argv=argv))
    assert outcome.result == 0, outcome.said

    found, space = pushed(server).files(), server.repos["space", f"{REPO_ID}-demo"]
    assert {name for name in found if name.startswith("onnx/")} == {model_repo.ONNX_FULL, model_repo.ONNX_HALF,
                                                                   model_repo.ONNX_RESIZE}  # fmt: skip
    (tmp_path / "fetched.onnx").write_bytes(found[model_repo.ONNX_FULL])
    images = [load_image(path) for path in (prepared / "test" / "moss").iterdir()]
    values = AutoImageProcessor.from_pretrained(trained)(images=images, return_tensors="np")["pixel_values"]
    outputs = onnx_export.run(tmp_path / "fetched.onnx", values)
    expected = Classifier.load(trained).probabilities(images)
    assert np.allclose(softmax(outputs["logits"], axis=1), expected, atol=1e-4)
    assert outputs["known_score"].shape == (len(images),)
    section = json.loads(found["results.json"])["onnx"]
    assert (section["n"], section["images"]) == (18, "test images")
    assert [(file["name"], file["n_same"]) for file in section["files"]] == [
        (model_repo.ONNX_FULL, 18), (model_repo.ONNX_HALF, 18),
    ]  # fmt: skip
    card = found["README.md"].decode()
    assert "- transformers.js\n" in card
    assert f'"{REPO_ID}", {{ revision: "v1", dtype: "fp32" }})' in card
    assert "| `onnx/model_fp16.onnx` | `fp16` |" in card

    assert space.sdk == "static"
    assert set(space.files()) == {".gitattributes", "README.md", "index.html", "model.onnx", *web_runtime.SHA256}
    assert space.files()["model.onnx"] == found[model_repo.ONNX_FULL]

    ours = [model_repo.is_ours(name) for name in found] + [space_page.is_ours(name) for name in space.files()]
    assert ours.count(False) == 2  # .gitattributes; the others go when they are no longer asked for.


def test_without_the_packages_for_onnx_it_says_what_to_install(model_dir, capsys, monkeypatch):
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    assert run_push("--model", model_dir, "--repo_id", REPO_ID, "--dry_run", "--onnx") == 2
    assert "pip install -r requirements-web.txt" in capsys.readouterr().err


def test_only_the_columns_that_are_asked_for_are_published(server, client, model_dir, prepared, tmp_path):
    from memevit import manifest
    from memevit.hub import dataset_page

    data = shutil.copytree(prepared, tmp_path / "data")
    rows = manifest.read(data)
    for row in rows:
        row.extra, row.source = {"author": "=jane", "score": "7"}, "jane_private.png"
    manifest.write(data, rows)
    dataset_page.write_records(data, tmp_path, columns=["score"])
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert lines[0].split(",") == [*dataset_page.PUBLIC_COLUMNS, "score"]
    assert len(lines) == 1 + 120
    assert "jane" not in "".join(path.read_text() for path in (tmp_path / "manifest.csv", tmp_path / "prep.json"))
    outcome = client.push(
        *("--model", model_dir, "--repo_id", REPO_ID, "--dataset", data, "--push_dataset"),
        *("--dataset_license", "mit", "--dataset_columns", "nobody"),
    )
    assert "has no column 'nobody'. --dataset_columns may name: author, score." in outcome.error
    assert not server.repos


def test_nothing_is_published_when_one_of_the_repositories_is_not_ours(server, client, model_dir, prepared):
    space = server.add_repo(f"{REPO_ID}-demo", "space")
    space.add(
        "main", {"README.md": (b"---\nsdk: gradio\n---\n# My own page", False), "app.py": (b"mine", False)}, "by hand"
    )
    outcome = client.push("--model", model_dir, "--repo_id", REPO_ID, "--space")
    assert outcome.code == 2
    assert f"Nothing was published: in {REPO_ID}-demo" in outcome.error
    assert "Published" not in outcome.said
    assert list(server.repos) == [("space", f"{REPO_ID}-demo")]


def test_what_comes_back_changed_is_never_public(server, client, model_dir):
    server.fail("storage", *[Fault(flip=True)] * 3)
    assert client.push("--model", model_dir, "--repo_id", REPO_ID, "--public").code == 2
    assert pushed(server).private


def test_a_published_dataset_loads_by_its_name(server, client, tmp_path):
    write_classes(tmp_path / "source", n=6, class_names=("coral", "moss"))
    prepared = tmp_path / "data"
    assert run_data_prep("--source", tmp_path / "source", "--output_dir", prepared, "--num_proc", 1) == 0
    outcome = client.run(
        "import datasets, tempfile\nfrom pathlib import Path\nfrom memevit.hub import dataset_page, publish, remote\n"
        f"folder, repo = Path({str(prepared)!r}), remote.Repository('me/games-data', 'dataset')\n"
        "contents, hub = dataset_page.collect(folder, folder), remote.Hub.connect()\n"
        "plan = publish.prepare(hub, repo, contents, public=False, is_ours=dataset_page.is_ours)\n"
        "publish.create(hub, plan)\n"
        "publish.send(hub, plan, message='Upload dataset')\n"
        "with tempfile.TemporaryDirectory() as fresh:\n"
        "    found = datasets.load_dataset('me/games-data', cache_dir=fresh)\n"
        "    result = {name: len(rows) for name, rows in found.items()}, found['test'].features['label'].names"
    )
    assert outcome.code == 0, outcome.said
    n = {name: len(list((prepared / name).glob("*/*"))) for name in ("train", "validation", "test")}
    assert outcome.result == [n, ["coral", "moss"]]
    assert sum(n.values()) == 12


def test_a_dry_run_needs_neither_token_nor_network_and_leaves_what_would_go_up(tmp_path, model_dir, prepared, caplog):
    model = shutil.copytree(model_dir, tmp_path / "model")
    caplog.set_level("INFO")
    argv = ("--model", model, "--repo_id", REPO_ID, "--dataset", prepared, "--dry_run", "--space")
    assert run_push(*argv) == 0
    assert {path.name for path in (tmp_path / "model.upload").iterdir()} == PAGE
    assert f'model="{REPO_ID}"' in (tmp_path / "model.upload" / "README.md").read_text()
    assert (tmp_path / "model.upload-demo" / "app.py").is_file()
    assert "nothing was sent" in caplog.text
    assert "the same about 18 images" in caplog.text
    assert {path.name for path in tmp_path.iterdir()} == {"model", "model.upload", "model.upload-demo"}
    (tmp_path / "model.upload" / "config.json").write_text("old")
    assert run_push(*argv[:4], "--dry_run") == 0
    assert (tmp_path / "model.upload" / "config.json").read_text() != "old"


@pytest.mark.parametrize("name", ["model.upload", "model.upload.partial"])
def test_a_folder_of_somebody_else_is_not_replaced_by_a_dry_run(tmp_path, model_dir, capsys, name):
    model = shutil.copytree(model_dir, tmp_path / "model")
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").write_text("years of work")
    assert run_push("--model", model, "--repo_id", REPO_ID, "--dry_run") == 2
    assert "thesis.txt" in capsys.readouterr().err
    assert (tmp_path / name / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--repo_id", "games"), "Expected USER/NAME"),
        (("--repo_id", "me/a--b"), "is not a valid name on the Hub"),
        (("--repo_id", "me/" + "a" * 90), "at most 91 are allowed"),
        (("--create_pr", "--revision", "dev"), "leave --revision out"),
        (("--create_pr", "--tag", "v9"), "can't set a --tag"),
        (("--create_pr", "--space"), "are about the model alone"),
        (("--push_dataset",), "needs --dataset"),
        (("--license", "My Licence"), "is not a licence identifier"),
        (("--dataset_license", "mit"), "has no effect without --push_dataset"),
        (("--tag", "main"), "names a branch"),
        (("--tag", "HEAD"), "names a branch"),
        (("--revision", "HEAD"), "names a branch"),
        (("--tag", "v1.lock"), "is not a valid name"),
        (("--tags", "Big Cats"), "is not a tag"),
        (("--source_url", "https://x) [y](z"), "is not a web address"),
        (("--dataset_columns", "author"), "has no effect without --push_dataset"),
        (("--revision", "0" * 40), "is not a valid name"),
        (("--commit_message", " "), "--commit_message is empty"),
        (("--model", "nowhere"), "is nowhere a model folder"),
        (("--dataset", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options_are_told_in_a_sentence(model_dir, capsys, argv, message):
    given = ["--model", model_dir, "--repo_id", REPO_ID, "--dry_run", *argv]
    assert run_push(*given) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_dataset_without_a_licence_is_refused(model_dir, prepared, capsys):
    argv = ("--model", model_dir, "--repo_id", REPO_ID, "--dataset", prepared, "--push_dataset", "--dry_run")
    assert run_push(*argv) == 2
    assert "Images belong to the people who made them" in capsys.readouterr().err


def test_without_a_network_the_sentence_says_so(model_dir, capsys, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", WRITER)
    assert run_push("--model", model_dir, "--repo_id", REPO_ID) == 2
    assert "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def spoil_weights(model):
    weights = load_file(model / "model.safetensors")
    save_file(weights | {"classifier.bias": np.float32([9, 0, 0])}, model / "model.safetensors", {"format": "pt"})


def spoil_config(model, **changes):
    path = model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_weights, "the numbers on the card are not about these weights"),
        (lambda model: (model / "preprocessor_config.json").unlink(), "can't be loaded"),
        (lambda model: spoil_config(model, id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}), "knows nothing"),
        (lambda model: (model / "results.json").write_text("{"), "is damaged"),
    ],
)
def test_a_model_that_is_not_what_it_says_is_not_published(tmp_path, model_dir, prepared, capsys, spoil, message):
    model = shutil.copytree(model_dir, tmp_path / "model")
    spoil(model)
    assert run_push("--model", model, "--repo_id", REPO_ID, "--dataset", prepared, "--dry_run") == 2
    assert message in capsys.readouterr().err


def test_another_dataset_is_not_that_of_the_model(tmp_path, model_dir, prepared, capsys):
    data = shutil.copytree(prepared, tmp_path / "data")
    prep = json.loads((data / "prep.json").read_text())
    (data / "prep.json").write_text(json.dumps(prep | {"fingerprint": "0"}))
    assert run_push("--model", model_dir, "--repo_id", REPO_ID, "--dataset", data, "--dry_run") == 2
    assert "was trained on other data" in capsys.readouterr().err


def test_the_local_card_names_the_folder(model_dir):
    assert f'model="{model_dir.name}"' in (model_dir / model_page.CARD_FILE).read_text()
