"""The README promises only what is there."""

import importlib
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from benchmarks import render_readme
from memevit import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))


def commands():
    """Every command line in a code block or table that calls one of our scripts."""
    names = "|".join(SCRIPTS)
    found = re.findall(rf"(?:python|accelerate launch) ((?:{names})\.py[^`|#\n]*)", README)
    return sorted({line.strip() for line in found})


def flags_of(script):
    """The options of a script, as its parser knows them."""
    from transformers import HfArgumentParser

    return {flag for action in HfArgumentParser(_groups(script))._actions for flag in action.option_strings}


def test_there_are_commands_to_check():
    assert len(commands()) >= 6
    assert SCRIPTS == ["add_class", "app", "data_prep", "diagnose", "finetune_vit", "push_to_hub", "sort_memes"]


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_has_only_options_that_exist(command):
    script, *words = shlex.split(command)
    used = {word for word in words if word.startswith("--")}
    assert used <= flags_of(script.removesuffix(".py"))


def test_every_option_that_the_text_names_exists():
    named = set(re.findall(r"`(--[a-z0-9_]+)", README)) - {"--help"}
    known = set().union(*(flags_of(script) for script in SCRIPTS))
    assert named
    assert named <= known


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_docstring_and_the_flags(script, capsys):
    module = importlib.import_module(script)
    assert module.__doc__.count(f"{script}.py") >= 1
    with pytest.raises(SystemExit) as stopped:
        cli._parse(_groups(script), module.__doc__, ["--help"], getattr(module, "POSITIONAL", None))
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in shown


def _groups(script):
    import memevit.arguments as arguments
    from memevit.model.recipe import FineTuningArguments

    return {
        "app": (arguments.AppArguments,),
        "push_to_hub": (arguments.PushArguments,),
        "diagnose": (arguments.DiagnoseArguments,),
        "add_class": (arguments.ClassArguments, arguments.OpenSetArguments),
        "data_prep": (arguments.SourceArguments, arguments.SplitArguments),
        "finetune_vit": (
            arguments.ModelArguments,
            arguments.RecipeArguments,
            arguments.RunArguments,
            FineTuningArguments,
        ),
        "sort_memes": (arguments.SortArguments,),
    }[script]


@pytest.mark.parametrize("page", render_readme.PAGES)
def test_the_tables_are_those_of_the_committed_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for name in render_readme.PAGES[page]:
        assert text.count(f"<!-- {name} table: python -m benchmarks.render_readme -->") == 1
        assert text.count(f"<!-- end of {name} table -->") == 1
    assert render_readme.rendered(page, text) == text


def test_the_first_two_commands_are_demo_and_test():
    block = README.split("```bash\n", 1)[1].split("```", 1)[0]
    assert [line.split("#")[0].strip() for line in block.strip().splitlines()] == ["make demo", "make test"]


def test_the_job_for_slurm_starts_every_machine_with_its_own_rank(tmp_path):
    """Run with stand-ins for SLURM's commands and for accelerate, which says how it was called."""
    (job,) = [block for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) if "#SBATCH" in block]
    stand_ins = {
        "scontrol": "printf 'first\\nsecond\\n'",
        "srun": 'for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',
        "accelerate": 'echo "$@"',
    }
    for name, body in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[1-2]"}
    done = subprocess.run(["bash", "-c", job], env=environment, capture_output=True, text=True, check=True)
    calls = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [call[call.index("--machine_rank") + 1] for call in calls] == ["0", "1"]
    assert {call[call.index("--main_process_ip") + 1] for call in calls} == {"first"}
    asked = dict(re.findall(r"--(nodes|gpus-per-node)=(\d+)", job))
    n_processes = str(int(asked["nodes"]) * int(asked["gpus-per-node"]))
    assert {call[call.index("--num_processes") + 1] for call in calls} == {n_processes}
    assert {call[call.index("--num_machines") + 1] for call in calls} == {asked["nodes"]}
