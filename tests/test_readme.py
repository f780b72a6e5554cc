"""README and docs promise only what is there."""

import dataclasses
import importlib
import re
import shlex
import subprocess
import typing
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

import memevit
from benchmarks import render_readme
from memevit import cli
from memevit.errors import UserError

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = sorted(path.stem for path in ROOT.glob("*.py"))
MAX_README_LINES = 200
# Flags that the text names and that belong to other programs.
OF_OTHERS = {"--help", "--quiet", "--index-strategy"}


def groups_of(script):
    """The argument groups of a script: those that its `main` takes."""
    module = importlib.import_module(script)
    if hasattr(module, "argument_groups"):
        return module.argument_groups()
    return tuple(kind for kind in typing.get_type_hints(module.main).values() if dataclasses.is_dataclass(kind))


def flags_of(script):
    """The options of a script, as its parser knows them."""
    from transformers import HfArgumentParser

    return {flag for action in HfArgumentParser(groups_of(script))._actions for flag in action.option_strings}


def commands(page):
    """Every call of one of our scripts in code blocks, code spans and tables of a page: script, and its words."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.findall(r"(?:python|accelerate launch[^`|\n]*?) (\w+)\.py\b([^`|\n]*)", text)
    return [(script, _words(rest)) for script, rest in found]


def _words(rest):
    words = shlex.split(rest.rstrip("'"), comments=True)
    return words[: words.index(";")] if ";" in words else words


def is_template(words):
    """Whether a command stands for others: it has an ellipsis, or none of the arguments that it needs."""
    return "..." in words or not words


CALLS = sorted(
    {(script, *words) for page in PAGES for script, words in commands(page) if not is_template(words)}
)  # fmt: skip


def links(page):
    """Targets of links and images of a page."""
    tokens = MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))
    inline = [child for token in tokens for child in token.children or ()]
    return [child.attrGet("href") or child.attrGet("src") for child in inline if child.type in ("link_open", "image")]


def anchors(page):
    """What links to a heading of a page may end with."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_commands_to_check():
    assert SCRIPTS == ["add_class", "app", "data_prep", "diagnose", "finetune_vit", "push_to_hub", "sort_memes"]
    assert {script for script, *_ in CALLS} == set(SCRIPTS)
    assert len(CALLS) >= 30


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_every_command_of_the_documentation_is_accepted_by_its_parser(call, monkeypatch, tmp_path):
    script, *words = call
    monkeypatch.setattr(cli, "value_of", lambda *_: None)  # Its dataset need not exist to be parsed.
    for option in ("--watch",):  # Must exist.
        if option in words:
            words[words.index(option) + 1] = str(tmp_path)
    module = importlib.import_module(script)
    cli._parse(groups_of(script), module.__doc__, words, getattr(module, "POSITIONAL", None))


def test_a_command_with_a_misspelt_option_is_not_accepted():
    with pytest.raises(UserError, match="Did you mean --output_dir"):
        cli._parse(groups_of("data_prep"), "", ["--source", "a", "--output_dir", "b", "--output_dri", "c"], None)


def test_every_option_that_the_text_names_exists():
    named = {flag for page in PAGES for flag in re.findall(r"`(--[a-z0-9_]+)", page.read_text(encoding="utf-8"))}
    known = set().union(*(flags_of(script) for script in SCRIPTS)) | OF_OTHERS
    assert len(named) > 50
    assert sorted(named - known) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_inside_the_project_leads_somewhere(page):
    for target in links(page):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_function_that_the_text_names_exists():
    named = {name for page in PAGES for name in re.findall(r"\bmemevit\.(\w+)[(`.]", page.read_text(encoding="utf-8"))}
    assert named >= {"add_class", "diagnose", "prepare", "finetune", "Classifier"}
    assert [name for name in named if not hasattr(memevit, name)] == []


def test_every_command_and_its_page_are_in_the_readme():
    assert [script for script in SCRIPTS if f"{script}.py" not in README] == []
    assert [script for script in SCRIPTS if not (ROOT / "docs" / f"{script}.md").is_file()] == []
    linked = {target.partition("#")[0] for page in PAGES for target in links(page)}
    pages = [page.name for page in PAGES[2:]]
    assert [page for page in pages if page not in linked and f"docs/{page}" not in linked] == []


def test_the_readme_is_short():
    assert len(README.splitlines()) <= MAX_README_LINES


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_docstring_and_the_flags(script, capsys):
    module = importlib.import_module(script)
    assert module.__doc__.count(f"{script}.py") >= 1
    with pytest.raises(SystemExit) as stopped:
        cli._parse(groups_of(script), module.__doc__, ["--help"], getattr(module, "POSITIONAL", None))
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert module.__doc__.splitlines()[0] in shown


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
    text = (ROOT / "docs" / "devices.md").read_text(encoding="utf-8")
    (job,) = [block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "#SBATCH" in block]
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
