"""A model folder as finetune_vit.py writes it, without the training; a Hub; and a process that talks to it."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from memevit import results
from tests.hub.hub_server import WRITER, HubServer

ROOT = Path(__file__).parents[2]
REPO_ID = "me/tiny-games"
SEND = """
from pathlib import Path
from memevit.hub import publish, remote
hub = remote.Hub.connect()
repo = remote.Repository({repo_id!r}, {repo_type!r}, {revision!r})
plan = publish.prepare(
    hub, repo, publish.files_in(Path({folder!r})), public={public!r}, create_pr={create_pr!r}, tag={tag!r},
    overwrite={overwrite!r}, is_ours=lambda path: path.endswith((".md", ".json", ".safetensors")),
)
publish.create(hub, plan)
pushed = publish.send(hub, plan, message="Upload")
version = None if {create_pr!r} else publish.name_version(hub, repo, pushed, {tag!r})
if {public!r} and not {create_pr!r}:
    publish.open_to_all(hub, repo)
result = {{"version": version, **vars(pushed)}}
"""
HISTORY = [
    {"step": 30, "train_loss": 1.0, "learning_rate": 3e-4}, {"step": 42, "eval_loss": 0.9, "eval_accuracy": 0.5},
    {"step": 84, "eval_loss": 0.8, "eval_accuracy": 0.6},
]  # fmt: skip
USUAL = {
    "repo_id": REPO_ID, "repo_type": "model", "revision": "main", "public": False, "create_pr": False, "tag": None,
    "overwrite": False,
}  # fmt: skip


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory, prepared, tiny_backbone):
    """A tiny model with random weights, measured on `prepared`, with everything that a model folder holds."""
    from memevit.data import dataset as prepared_data
    from memevit.evaluation import measure, plots
    from memevit.hub import model_page
    from memevit.model import backbone, classifier
    from memevit.pixels import load_image

    path = tmp_path_factory.mktemp("models") / "tiny-model"
    dataset = prepared_data.load(prepared)
    model, image_processor = backbone.load_for_training(
        str(tiny_backbone), dataset["train"].features["label"].names, from_scratch=False
    )
    model.save_pretrained(path)
    image_processor.save_pretrained(path)
    loaded = classifier.Classifier.load(path)
    logits = {
        name: np.log(loaded.probabilities([load_image(one) for one in prepared_data.paths_of(dataset[name])]))
        for name in ("validation", "test")
    }
    sections = measure.record(path, dataset, logits, seed=0)
    training = {
        "seconds": 12.3, "hardware": "AMD EPYC, 2 cores", "n_steps": 90, "n_epochs": 15.0, "best_step": 84,
        "n_parameters": 16931, "n_trainable_parameters": 16931, "learning_rate": 3e-4, "batch_size": 16,
        "precision": "fp32", "seed": 0, "from_scratch": False, "base_model": str(tiny_backbone), "image_size": 32,
    }  # fmt: skip
    results.update(path, **sections, training=training, history=HISTORY, data=prepared_data.describe(prepared))
    results.write_run(
        path, {"arguments": {"dataset": prepared.name, "seed": 0}, "environment": results.environment(), "seed": 0}
    )
    plots.draw_figures(path, results.read(path))
    model_page.write(path)
    return path


@dataclass(frozen=True)
class Outcome:
    """Of a job: exit code, what was printed and logged, the pauses that were asked for, and a result of code."""

    code: int
    said: str
    waits: list[float]
    result: object = None

    @property
    def error(self) -> str:
        """The line that says what is wrong."""
        lines = [line for line in self.said.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.said
        assert "Traceback" not in self.said, self.said
        return lines[0]


class Client:
    """A process with the unpatched Hub client, which goes from job to job; see worker.py."""

    def __init__(self, endpoint: str, home: Path) -> None:
        self.log, self.xet = home / "client.log", False
        self._folder = home
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        environment = kept | {
            "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "hf"), "HF_HUB_ETAG_TIMEOUT": "30",
            "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1",
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hub.worker"],
            cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"),
            text=True,
        )  # fmt: skip

    def push(self, *argv: object, token: str = WRITER) -> Outcome:
        """Run push_to_hub.py with these arguments."""
        return self._do({"push": [str(part) for part in argv], "token": token})

    def send(self, folder: Path, *, token: str = WRITER, **options: object) -> Outcome:
        """Publish a folder without a model in it, and name the version; see SEND."""
        return self.run(SEND.format(folder=str(folder), **USUAL | options), token=token)

    def run(self, code: str, *, token: str = WRITER, folder: Path | None = None) -> Outcome:
        """Run Python code, in `folder`."""
        return self._do({"code": code, "token": token}, folder)

    def _do(self, job: dict, folder: Path | None = None) -> Outcome:
        self._process.stdin.write(json.dumps(job | {"folder": str(folder or self._folder), "xet": self.xet}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self.log.read_text()
        return Outcome(**json.loads(answer))

    def close(self) -> None:
        self._process.kill()  # An end in good order takes torch seconds.
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def session_server(tmp_path_factory):
    server = HubServer(tmp_path_factory.mktemp("xet"))
    yield server
    server.close()


@pytest.fixture
def server(session_server):
    """The Hub, with nothing in it."""
    session_server.reset()
    return session_server


@pytest.fixture(scope="session")
def session_client(session_server, tmp_path_factory):
    client = Client(session_server.endpoint, tmp_path_factory.mktemp("client"))
    yield client
    client.close()


@pytest.fixture
def client(server, session_client):
    """The real client, sending large files by plain LFS to the Hub of this test."""
    session_client.xet = False
    return session_client


@pytest.fixture
def xet_client(client, server, model_dir):
    """The real client, sending large files by Xet."""
    for name in ("model.safetensors", "confusion_matrix.png", "learning_curves.png"):
        server.knows_by_xet(model_dir / name)
    client.xet = True
    return client
