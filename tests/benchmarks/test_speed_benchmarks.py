"""The speed benchmarks run in miniature and write what they print."""

import json
import sys
import time

import pytest
from transformers import Trainer

from benchmarks import memory, scaling, sort_throughput, time_to_result, timing, train_throughput
from memevit import cli
from memevit.commands import calibrate
from memevit.evaluation import measure
from memevit.model import pixel_cache, runs, training
from tests.conftest import run_data_prep

SMALL = ("--repeats", "1", "--width_px", "64")


def run(module, group, tmp_path, *argv):
    output = tmp_path / "numbers.json"
    given = ["--work_dir", str(tmp_path / "work"), "--output", str(output), *map(str, argv)]
    assert cli.run(module.main, group, doc=module.__doc__, argv=given) == 0
    return json.loads(output.read_text(encoding="utf-8"))


def test_sorting_is_measured_on_three_sides_and_in_its_parts(tmp_path, trained, capsys):
    found = run(
        sort_throughput, sort_throughput.SortBenchmarkArguments, tmp_path,
        "--models", trained, "--n_images", 4, "--batch_size", 2, *SMALL,
    )  # fmt: skip
    ours = ["sort_memes", "sort_memes --into", "sort_memes --fast"]
    sides = [*ours, "pipeline, one by one", "pipeline, batches", "decoding alone", "network alone"]
    assert [row["side"] for row in found["rows"]] == sides
    assert found["rows"][0]["share_of_limit"] > 0
    assert all(row["images_per_s"][0] > 0 for row in found["rows"])
    assert found["rows"][3]["times_the_loop"] == 1.0
    assert "sort_memes" in capsys.readouterr().out


def test_both_runtimes_compute_the_same_network(tmp_path, tiny_backbone):
    pytest.importorskip("onnxscript")
    from benchmarks import onnx_runtime

    found = run(
        onnx_runtime, onnx_runtime.RuntimeArguments, tmp_path,
        "--models", tiny_backbone, "--batch_size", 2, "--n_batches", 1, "--repeats", 1,
    )  # fmt: skip
    (row,) = found["rows"]
    assert row["largest_difference"] < 1e-4
    assert all(rates[0] > 0 for rates in row["images_per_s"].values())


def test_training_is_measured_on_every_side(tmp_path, tiny_backbone, capsys):
    found = run(
        train_throughput, train_throughput.TrainBenchmarkArguments, tmp_path, "--models", tiny_backbone,
        "--n_images", 8, "--batch_size", 2, "--n_steps", 3, "--num_proc", 1, *SMALL,
    )  # fmt: skip
    assert [row["side"][:3] for row in found["rows"]] == ["(a)", "(b)", "(c)", "(d)"]
    assert all(row["images_per_s"][0] > 0 for row in found["rows"])
    assert [row["utilisation"] is None for row in found["rows"]] == [False, False, False, True]
    assert "share of (c)" in capsys.readouterr().out


def test_the_operations_of_a_vit_are_those_counted_by_hand(tiny_backbone):
    from transformers import AutoModelForImageClassification

    model = AutoModelForImageClassification.from_pretrained(tiny_backbone)
    # 16 patches of 8 x 8 x 3 to width 16, then two blocks of 17 tokens: four maps 16 x 16, two 16 x 32, two products.
    patches = 16 * 192 * 16
    block = 17 * (4 * 16 * 16 + 2 * 16 * 32) + 2 * 17 * 17 * 16
    expected = 3 * 2 * (patches + 2 * block + 16 * 2)
    assert train_throughput.training_flops(model, (32, 32)) == pytest.approx(expected, rel=0.01)


def test_a_stage_within_another_is_counted_once():
    class Work:
        def outer(self):
            time.sleep(0.02)
            self.inner()

        def inner(self):
            time.sleep(0.05)

    stages = time_to_result.Stages()
    stages.watch(Work, "outer", "train")
    stages.watch(Work, "inner", "evaluate")
    start = time.perf_counter()
    Work().outer()
    total = time.perf_counter() - start
    assert stages.seconds["evaluate"] >= 0.05
    assert stages.seconds["train"] >= 0.02
    assert sum(stages.seconds.values()) == pytest.approx(total, abs=0.01)


def test_the_way_to_a_model_is_split_into_its_stages(tmp_path, tiny_backbone, prepared, monkeypatch):
    watched = [
        (pixel_cache, "open_or_build_all"), (training, "train"), (runs, "_logits"), (training, "save"),
        (Trainer, "evaluate"), (measure, "record"), (calibrate, "finish"),
    ]  # fmt: skip
    for owner, name in watched:
        monkeypatch.setattr(owner, name, getattr(owner, name))  # So that it is put back after the test.
    stages = tmp_path / "stages.json"
    time_to_result.side(
        "ours", str(stages), "unused", *map(str, (prepared, tiny_backbone, tmp_path / "model", 1, 32, 0))
    )
    found = json.loads(stages.read_text(encoding="utf-8"))
    assert set(found) == {"cache", "train", "evaluate", "calibrate", "save"}
    assert all(seconds > 0 for seconds in found.values())


def test_images_for_scaling_are_all_kept(tmp_path):
    scaling.draw(tmp_path / "source", 12, 64)
    assert run_data_prep("--source", tmp_path / "source", "--output_dir", tmp_path / "data", "--num_proc", 1) == 0
    assert json.loads((tmp_path / "data" / "prep.json").read_text())["n_by_status"]["kept"] == 12


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux's /proc")
def test_memory_is_that_of_a_command_and_its_children_without_the_pages_of_files(tmp_path):
    (tmp_path / "mapped").write_bytes(bytes(50_000_000))
    child = f"""
import mmap, time
with open({str(tmp_path / "mapped")!r}, "r+b") as file:
    x, mapped = b"1" * 80_000_000, mmap.mmap(file.fileno(), 0)
    sum(mapped[::4096])
    time.sleep(0.5)
"""
    parent = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"
    command = [sys.executable, "-c", parent, child]
    own = memory.measured(command, memory.OWN)
    assert 80 < own["peak_mb"] < 120
    assert memory.measured(command, memory.ALL)["peak_mb"] > own["peak_mb"] + 45
    assert own["seconds"] > 0.5


def test_sides_take_turns_and_ratios_are_of_the_same_round():
    order = []
    sides = {name: lambda name=name: order.append(name) or float(len(order)) for name in "ab"}
    found = timing.in_turns(sides, 2)
    assert order == ["a", "b", "a", "b"]
    assert found == {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    assert timing.ratio(found, "b", "a") == round((2 / 1 + 4 / 3) / 2, 2)
