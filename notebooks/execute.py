"""Run finetune_vit.py, the text form of the notebook, and write finetune_vit.ipynb with its outputs.

    python notebooks/execute.py
    python notebooks/execute.py --output /tmp/finetune_vit.ipynb

Takes minutes and needs no network. Edit the text form, then run this, so that both stay in step.
"""

import argparse
import os
import re
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient

TEXT_FORM = Path(__file__).with_name("finetune_vit.py")
_BAR = re.compile(r"\d+%\|.*\| *[\d.,kM]+/[\d.,kM]+|\d+image \[")
TIMEOUT_S = 1800  # Of one cell.


def execute(output: Path, *, timeout_s: int = TIMEOUT_S) -> nbformat.NotebookNode:
    """Run every cell of the text form in its folder, and write the notebook with outputs to `output`.

    Args:
        output: notebook to write.
        timeout_s: for one cell.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails.
    """
    notebook = jupytext.read(TEXT_FORM)
    os.environ["HF_HUB_OFFLINE"] = "1"
    client = NotebookClient(
        notebook, timeout=timeout_s, resources={"metadata": {"path": str(TEXT_FORM.parent)}}, record_timing=False
    )
    client.execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _holds_only_progress(output)]
    notebook.metadata.pop("language_info", None)  # The version of Python would differ between machines.
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # Otherwise random, so that every run would change every cell.
    nbformat.validate(notebook)
    nbformat.write(notebook, output)
    return notebook


def _holds_only_progress(output: nbformat.NotebookNode) -> bool:
    """Take progress bars, such as ` 40%|████      | 4/10`, out of the error stream; whether nothing else is left."""
    if output.get("name") != "stderr":
        return False
    lines = output.text.replace("\r", "\n").split("\n")
    output.text = "\n".join(line for line in lines if line.strip() and not _BAR.search(line))
    return not output.text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=TEXT_FORM.with_suffix(".ipynb"))
    execute(parser.parse_args().output)
