"""Imports point one way: scripts, rooms, bottom."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("data", "model", "evaluation", "sorting", "hub")
WIRING = "commands"  # What the scripts do: it may import every room, and none may import it.
TORCH = {"torch", "torchvision"}


def imported(path):
    """Modules that a file imports anywhere, and those that it imports when it is itself imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    at_once = set(ast.walk(tree)) - {
        inner for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) for inner in ast.walk(node)
    }
    found = {"anywhere": set(), "at once": set()}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            continue
        found["anywhere"] |= names
        if node in at_once:
            found["at once"] |= names
    return found


def files_of(room):
    return sorted((ROOT / "memevit" / room).rglob("*.py"))


BOTTOM = sorted(path for path in (ROOT / "memevit").glob("*.py"))


def test_every_room_has_files():
    assert [path.name for path in BOTTOM] == [
        "__init__.py", "arguments.py", "checkpoint.py", "cli.py", "cores.py", "decoding.py", "errors.py",
        "escape.py", "files.py", "frames.py", "http.py", "labels.py", "manifest.py", "pixels.py", "quiet.py",
        "ranges.py", "results.py", "rows.py",
    ]  # fmt: skip
    for room in ROOMS:
        assert len(files_of(room)) >= 4, room


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_do_not_import_one_another_nor_the_command_line(room):
    forbidden = [f"memevit.{other}" for other in ROOMS if other != room] + [
        "memevit.cli",
        "memevit.arguments",
        f"memevit.{WIRING}",
    ]
    for path in files_of(room):
        for name in imported(path)["anywhere"]:
            assert not any(name == other or name.startswith(f"{other}.") for other in forbidden), (path, name)


def test_commands_leave_the_command_line_to_the_scripts():
    paths = files_of(WIRING)
    assert {"finetune.py", "prepare.py"} <= {path.name for path in paths}
    for path in paths:
        assert "memevit.cli" not in imported(path)["anywhere"], path


def test_the_bottom_imports_no_room():
    for path in BOTTOM:
        for name in imported(path)["anywhere"]:
            assert not any(name.startswith(f"memevit.{room}") for room in (*ROOMS, WIRING)), (path, name)


@pytest.mark.parametrize("room", ["data", "evaluation", "sorting", "hub", ""])
def test_only_the_model_room_imports_torch(room):
    paths = files_of(room) if room else BOTTOM
    for path in paths:
        assert not {name.split(".")[0] for name in imported(path)["at once"]} & TORCH, path


def test_evaluation_imports_no_transformers():
    for path in files_of("evaluation"):
        assert not any(name.split(".")[0] == "transformers" for name in imported(path)["anywhere"]), path


def test_what_runs_in_a_space_imports_nothing_of_ours():
    paths = [*files_of("portable"), ROOT / "memevit" / "pixels.py"]
    assert [path.name for path in paths] == [
        "__init__.py", "features.py", "open_set.py", "page.py", "pipeline.py", "space_app.py", "pixels.py",
    ]  # fmt: skip
    for path in paths:
        assert not any(name.split(".")[0] == "memevit" for name in imported(path)["anywhere"]), path
