"""Datasets of the Hub through the unpatched `datasets`, against a Hub on this machine."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
from PIL import Image

from memevit import manifest
from tests.conftest import COLOURS, draw_image
from tests.hub.conftest import Client
from tests.hub.hub_server import Fault, HubServer

ROOT = Path(__file__).parents[2]
NAMES = ["cat", "n01/test", ".NET"]
GATED = Fault(status=403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})


def png(seed, label):
    content = io.BytesIO()
    draw_image(seed, colour=list(COLOURS.values())[label % 3]).save(content, "PNG")
    return content.getvalue()


def parquet(first_seed, labels, **columns):
    """A Parquet file of drawn images with these labels."""
    features = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=NAMES),
        "author": datasets.Value("string"),
    }
    rows = {
        "image": [{"bytes": png(first_seed + n, label), "path": None} for n, label in enumerate(labels)],
        "label": labels,
        "author": [f"=author {first_seed + n}" for n in range(len(labels))],
    }
    features |= {name: datasets.Value("string") for name in columns}
    content = io.BytesIO()
    datasets.Dataset.from_dict(rows | columns, features=datasets.Features(features)).to_parquet(content)
    return content.getvalue()


IMAGES = {"data.parquet": parquet(0, [0, 1])}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    hub = HubServer(tmp_path_factory.mktemp("xet"))
    hub.has_xet = False
    yield hub
    hub.close()


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    client = Client(server.endpoint, tmp_path_factory.mktemp("client"))
    yield client
    client.close()


def put(server, *, name="me/animals", **contents):
    """A public dataset with these files."""
    server.reset()
    repo = server.add_repo(name, "dataset", private=False)
    tree = {path: (content, False) for path, content in contents.items()}
    return repo.add("main", tree, "data")


def prepare(server, tmp_path, *argv, source="hub:me/animals"):
    """data_prep.py in a process of its own, since the Hub's address is read once."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    environment = kept | {
        "HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1", "OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    command = ["data_prep.py", "--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1, *argv]
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def refusal(client, folder, source, *argv):
    """What data_prep.py says in a process that several tests share, each with a dataset of its own; without pauses."""
    given = ["--source", source, "--output_dir", str(folder / "data"), "--num_proc", 1, *argv]
    unhurried = "import time\ntime.sleep = lambda seconds: None\nfrom tests.conftest import run_data_prep\n"
    done = client.run(f"{unhurried}result = run_data_prep(*{given})")
    assert done.result == 2, done.said
    return done.error


def test_splits_labels_and_columns_are_those_of_the_dataset_and_leaks_are_reported(server, tmp_path):
    leak = parquet(0, [0, 1, 2] * 8)
    sha = put(
        server,
        **{
            "data/train-00000.parquet": leak,
            "data/test-00000.parquet": parquet(18, [0, 1, 2] * 6 + [-1]),
        },
    )
    done = prepare(server, tmp_path, "--group_column", "author")
    assert done.returncode == 0, done.stderr
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    assert prep["source"] == f"hub:me/animals@{sha}"
    assert list(prep["classes"]) == ["_NET", "cat", "n01_Test"]
    assert prep["split_made_by"] == {"train": "source", "validation": "seed", "test": "source"}
    assert prep["n_moved_between_splits"] >= 6  # Rows 18 to 23 of train are the first six of test.
    rows = manifest.read(tmp_path / "data")
    assert sum(row.source.startswith("test/") and row.status == "duplicate" for row in rows) == 6
    assert "1 of 19 rows of the split test have no label" in done.stderr
    first = next(row for row in rows if row.source == "train/cat/train-00000000.png")
    assert first.extra["author"] == "=author 0"
    stored = Image.open(tmp_path / "data" / first.file)
    assert stored.tobytes() == draw_image(0, colour=COLOURS["coral"]).tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "hf"]


@pytest.mark.parametrize(
    ("name", "files", "source", "argv", "said"),
    [
        ("me/one", {}, "hub:me/nowhere", (), "There is no dataset me/nowhere on the Hub"),
        ("me/two", {}, "hub:me/two@gone", (), "has no revision 'gone'"),
        ("me/three", {}, "hub:a b", (), "is not a dataset on the Hub"),
        ("me/four", {"notes.txt": b"x"}, "hub:me/four", (), "me/four has no column of images"),
        ("me/five", {"data.csv": b"text,label\na,0\n"}, "hub:me/five", (), "has no column of images"),
        ("me/six", IMAGES, "hub:me/six", ("--label_column", "nope"), "can't be a label"),
        ("me/seven", IMAGES, "hub:me/seven", ("--image_column", "label"), "holds no images"),
        ("me/eight", IMAGES, "hub:me/eight", ("--config_name", "nope"), "--config_name: ['default']"),
    ],
)
def test_what_can_not_be_used_is_one_sentence(server, client, tmp_path, name, files, source, argv, said):
    put(server, name=name, **files)
    assert said in refusal(client, tmp_path, source, *argv)


def test_a_gated_dataset_is_one_sentence(server, client, tmp_path):
    put(server, name="me/gated", **IMAGES)
    server.fail("info", *[GATED] * 9)
    server.fail("resolve", *[GATED] * 9)
    said = refusal(client, tmp_path, "hub:me/gated")
    assert "me/gated is gated: open https://huggingface.co/datasets/me/gated" in said


def test_without_a_network_it_says_so(tmp_path):
    client = Client("http://127.0.0.1:9", tmp_path)
    assert "can't be reached" in refusal(client, tmp_path, "hub:me/animals")
    client.close()
