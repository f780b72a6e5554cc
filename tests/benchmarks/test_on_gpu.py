"""benchmarks/on_gpu.sh: its steps, their limits and its summary, and what it measures, in miniature."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from torch.autograd import DeviceType
from transformers import HfArgumentParser

from benchmarks import gpu_goals, profile_training, render_readme, sort_throughput, time_to_result, train_throughput

ROOT = Path(__file__).parents[2]
needs_timeout = pytest.mark.skipif(shutil.which("timeout") is None, reason="macOS has no coreutils")
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
STEPS = [
    "tests", "train_throughput", "train_throughput_compiled", "train_throughput_small", "time_to_result",
    "sort_throughput", "profile_training",
]  # fmt: skip
GROUPS = {
    "benchmarks.train_throughput": train_throughput.TrainBenchmarkArguments,
    "benchmarks.time_to_result": time_to_result.ResultBenchmarkArguments,
    "benchmarks.sort_throughput": sort_throughput.SortBenchmarkArguments,
    "benchmarks.profile_training": profile_training.ProfileArguments,
}


def run(tmp_path, python, **environment):
    options = {"PYTHON": str(python), "RESULTS_DIR": str(tmp_path / "out"), "WORK": str(tmp_path / "work")}
    options |= environment
    return subprocess.run(["bash", SCRIPT], env=os.environ | options, capture_output=True, text=True, check=False)


@pytest.fixture
def stub(tmp_path):
    """A Python that notes what it is asked to run; the tests fail, and sorting takes for ever."""
    path = tmp_path / "python"
    path.write_text(f"""#!/bin/bash
if [ "$1" = -c ]; then echo cuda; exit; fi
echo "$@" >> {tmp_path}/calls
case "$*" in *"-m gpu"*) exit 1 ;; *sort_throughput*) exec sleep 60 ;; esac
""")
    path.chmod(0o755)
    return path


def summary_of(output):
    """How each step ended, by name."""
    lines = [line.split(maxsplit=3) for line in output.splitlines()]
    return {line[0]: line[3] for line in lines if len(line) == 4 and line[0] in STEPS and line[2] == "s"}


@needs_timeout
def test_every_step_runs_and_is_summed_up_whatever_happens_to_others(tmp_path, stub):
    done = run(tmp_path, stub, LIMIT_S="3")
    assert done.returncode == 1
    ended = summary_of(done.stdout)
    assert list(ended) == STEPS
    assert ended.pop("tests") == "failed with 1"
    assert ended.pop("sort_throughput").startswith("stopped after ")
    assert ended.pop("profile_training") == "left out"
    assert set(ended.values()) == {"ok"}


@needs_timeout
@pytest.mark.parametrize("toy", ["", "1"])
def test_every_command_has_the_arguments_of_its_module(tmp_path, stub, toy):
    run(tmp_path, stub, LIMIT_S="2", TOY=toy)
    calls = [line.split() for line in (tmp_path / "calls").read_text().splitlines()]
    asked = [(module, arguments) for _, module, *arguments in calls if module in GROUPS]
    assert len(asked) == 5  # Profiling is left out, because sorting took for ever.
    for module, arguments in asked:
        (parsed,) = HfArgumentParser(GROUPS[module]).parse_args_into_dataclasses(arguments)
        assert parsed.output.name.endswith("_cuda.json")


def test_without_a_gpu_it_says_what_it_needs(tmp_path, stub):
    stub.write_text("#!/bin/bash\necho cpu\n")
    done = run(tmp_path, stub, TOY="")
    assert (done.returncode, done.stdout) == (2, "")
    assert "TOY=1" in done.stderr


def event(name, start, end, stream=7, *, on_gpu=True, is_annotation=False):
    return SimpleNamespace(
        name=name, time_range=SimpleNamespace(start=start, end=end), device_resource_id=stream,
        device_type=DeviceType.CUDA if on_gpu else DeviceType.CPU, is_user_annotation=is_annotation,
        self_cpu_time_total=end - start,
    )  # fmt: skip


def test_the_device_is_idle_where_no_stream_works():
    events = [
        event("gemm", 0, 40), event("gemm", 50, 60), event("Memcpy HtoD", 30, 45, stream=13),
        event("aten::mm", 0, 90, on_gpu=False), event("ProfilerStep#1", 0, 100, is_annotation=True),
    ]  # fmt: skip
    found = profile_training.summary(events, 100e-6, is_on_gpu=True)
    assert found["idle_share"] == 0.45  # 45 to 50, and 60 to 100.
    assert found["busy_share_by_stream"] == {"7": 0.5, "13": 0.15}
    assert [(row["name"], row["n"], row["share"]) for row in found["rows"]] == [
        ("gemm", 2, 0.5), ("Memcpy HtoD", 1, 0.15)
    ]  # fmt: skip


def test_goals_are_compared_with_what_was_found(tmp_path, monkeypatch, capsys):
    ours = {"side": "(a) our path", "utilisation": 0.55, "share_of_limit": 0.9, "times_plain": 7.0}
    (tmp_path / "train_throughput_cuda.json").write_text(json.dumps({"rows": [ours]}))
    runs = {time_to_result.OURS: [{"start": 10.0, "train": 30.5}]}
    (tmp_path / "time_to_result_cuda.json").write_text(json.dumps({"runs": runs}))
    monkeypatch.setattr(sys, "argv", ["gpu_goals", str(tmp_path)])
    gpu_goals.main()
    ends = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert ends == ["met", "NOT MET", "met", "met", "not measured (at most 0.05 is wanted)"]


def test_what_was_found_on_a_gpu_is_in_the_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(render_readme, "RESULTS", tmp_path)
    rows = [
        {"model": "vit-b", "side": side, "images_per_s": [rate], "times_plain": 6.0, "share_of_limit": 0.97,
         "utilisation": 0.5}
        for side, rate in zip(train_throughput.SIDES.values(), (1000.0, 166.0, 1030.0, 9000.0), strict=True)
    ]  # fmt: skip
    for name, is_compiled in (("train_throughput", False), ("train_throughput_compiled", True)):
        found = {"settings": {"torch_compile": is_compiled}, "rows": rows, "device": "H100"}
        (tmp_path / f"{name}_cuda.json").write_text(json.dumps(found))
    profiled = {"settings": {"model": "vit-b", "n_steps": 20}, "rows": [{"name": "gemm", "share": 0.6}],
                "device": "H100", "seconds": 2.5, "idle_share": 0.031}  # fmt: skip
    (tmp_path / "profile_training_cuda.json").write_text(json.dumps(profiled))
    speed = [line for line in render_readme.speed_table().splitlines() if "H100" in line]
    assert speed == [
        "| training, images/s | vit-b | H100 | 1000.0 | 166.0 | 6.00 |",
        "| training, images/s | vit-b, compiled | H100 | 1000.0 | 166.0 | 6.00 |",
    ]
    limits = render_readme.limits_table()
    assert "| vit-b, compiled | H100 | 1000.0 | 9000.0 | 1030.0 | 0.97 | 50% |" in limits
    assert (
        "20 training steps of vit-b took 2.50 s under the profiler (H100), without work for 3.1% of the time" in limits
    )


@needs_timeout
@pytest.mark.slow
def test_all_steps_in_miniature(tmp_path):
    done = run(tmp_path, sys.executable, TOY="1", LIMIT_S="900")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert set(summary_of(done.stdout).values()) == {"ok"}
    written = {path.stem.rpartition("_")[0] for path in (tmp_path / "out").iterdir()}
    assert written == set(STEPS) - {"tests"}
