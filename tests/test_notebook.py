"""The committed notebook is in step with its text form, complete, and runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest

import memevit

FOLDER = Path(__file__).parents[1] / "notebooks"
TEXT_FORM, NOTEBOOK = FOLDER / "finetune_vit.py", FOLDER / "finetune_vit.ipynb"
MAX_BYTES = 2_000_000
# Folders of somebody's machine; those of a web address do not count.
MACHINE_PATH = re.compile(r"(?<![\w./:-])/(?:home|Users|root|tmp|work|mnt|opt|usr|var|content|kaggle)/[\w.]")


@pytest.fixture(scope="module")
def notebook():
    return nbformat.read(NOTEBOOK, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts_of(output):
    """Everything in an output that is text."""
    yield output.get("text", "")
    yield from (value for kind, value in output.get("data", {}).items() if not kind.startswith("image/"))


def test_notebook_and_text_form_have_the_same_cells(notebook):
    own = [(cell.cell_type, cell.source) for cell in notebook.cells]
    assert len(own) > 20
    assert own == [(cell.cell_type, cell.source) for cell in jupytext.read(TEXT_FORM).cells]


def test_every_code_cell_was_executed_in_order_without_an_error(notebook):
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
    assert not [output for cell in cells for output in cell.outputs if output.get("name") == "stderr"]
    # The Trainer's own table of progress; everything that is shown on purpose is text, Markdown or an image.
    assert not [output for cell in cells for output in cell.outputs if "text/html" in output.get("data", {})]


def test_each_of_the_four_questions_is_answered_with_an_image(notebook):
    question, answered = "", []
    for cell in notebook.cells:
        if title := re.search(r"^## (.*)", cell.source, re.MULTILINE):
            question = title[1]
        outputs = cell.get("outputs", [])
        has_image = any(kind.startswith("image/") for one in outputs for kind in one.get("data", {}))
        if has_image and "**Answer" in "".join(text for one in outputs for text in texts_of(one)):
            answered.append(question)
    assert [re.search(r"Question (\w+)", one)[1] for one in answered] == ["one", "two", "three", "four"]


def test_outputs_name_no_folder_of_the_machine_and_the_file_is_small(notebook):
    assert MACHINE_PATH.search("saved in /home/me/model")
    assert not MACHINE_PATH.search("https://host/srv/main and runs/tmp/x")
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert not [text for text in texts_of(output) if MACHINE_PATH.search(text)]
    assert NOTEBOOK.stat().st_size < MAX_BYTES


def test_text_cells_hold_no_typed_results(notebook):
    """Percentages and decimal numbers in prose come from code; the text cells have none."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert re.findall(r"\d+(?:\.\d+)? ?%|\b0\.\d+", prose) == []


def test_the_address_of_the_project_is_that_of_the_package(notebook):
    (address,) = re.findall(r'^PROJECT = "(.*?)"', "\n".join(cell.source for cell in notebook.cells), re.MULTILINE)
    assert address == (memevit.PROJECT_URL or "")


@pytest.mark.slow
def test_notebook_runs_from_top_to_bottom(tmp_path):
    command = [sys.executable, FOLDER / "execute.py", "--output", tmp_path / "executed.ipynb"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    subprocess.run(command, check=True, env=environment)
    executed = nbformat.read(tmp_path / "executed.ipynb", as_version=4)
    assert all(cell.execution_count for cell in code_cells(executed))
