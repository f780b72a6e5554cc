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
from tests.conftest import COLOURS, draw_picture
from tests.hub.hub_server import Fault, HubServer

ROOT = Path(__file__).parents[2]
NAMES = ["cat", "n01/test", ".NET"]
GATED = Fault(status=403, headers={"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."})


def png(seed, label):
    content = io.BytesIO()
    draw_picture(seed, colour=list(COLOURS.values())[label % 3]).save(content, "PNG")
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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    hub = HubServer(tmp_path_factory.mktemp("xet"))
    hub.has_xet = False
    yield hub
    hub.close()


def put(server, **contents):
    """A public dataset me/animals with these files."""
    server.reset()
    repo = server.add_repo("me/animals", "dataset", private=False)
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


def refusal(done):
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    return line


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
    assert stored.tobytes() == draw_picture(0, colour=COLOURS["coral"]).tobytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "hf"]


@pytest.mark.parametrize(
    ("files", "source", "argv", "said"),
    [
        ({}, "hub:me/nowhere", (), "There is no dataset me/nowhere on the Hub"),
        ({}, "hub:me/animals@gone", (), "has no revision 'gone'"),
        ({}, "hub:a b", (), "is not a dataset on the Hub"),
        ({"notes.txt": b"x"}, "hub:me/animals", (), "me/animals has no column of images"),
        ({"data.csv": b"text,label\na,0\n"}, "hub:me/animals", (), "has no column of images"),
        ({"data.parquet": parquet(0, [0, 1])}, "hub:me/animals", ("--label_column", "nope"), "can't be a label"),
        ({"data.parquet": parquet(0, [0, 1])}, "hub:me/animals", ("--image_column", "label"), "holds no images"),
        (
            {"data.parquet": parquet(0, [0, 1])},
            "hub:me/animals",
            ("--config_name", "nope"),
            "--config_name: ['default']",
        ),
    ],
)
def test_what_can_not_be_used_is_one_sentence(server, tmp_path, files, source, argv, said):
    put(server, **files)
    assert said in refusal(prepare(server, tmp_path, *argv, source=source))


def test_a_gated_dataset_is_one_sentence(server, tmp_path):
    put(server, **{"data.parquet": parquet(0, [0, 1])})
    server.fail("info", *[GATED] * 9)
    server.fail("resolve", *[GATED] * 9)
    assert "me/animals is gated: open https://huggingface.co/datasets/me/animals" in refusal(prepare(server, tmp_path))


def test_without_a_network_it_says_so(server, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "endpoint", "http://127.0.0.1:9")
    assert "can't be reached" in refusal(prepare(server, tmp_path))
