"""What is imported before it is needed: nothing heavy."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "datasets", "pandas", "sklearn", "evaluate", "matplotlib"}
# TrainingArguments brings torch; Trainer, metrics and data sets are for those who train.
ALLOWED = {
    "add_class": set(), "app": set(), "data_prep": set(), "diagnose": set(), "finetune_vit": {"torch"},
    "push_to_hub": set(), "sort_memes": set(),
}  # fmt: skip


def test_every_script_is_looked_at():
    assert {path.stem for path in ROOT.glob("*.py")} == set(ALLOWED)


@pytest.mark.parametrize("script", ALLOWED)
def test_help_imports_nothing_heavy(script):
    code = f"""
import runpy, sys
sys.argv = ["{script}.py", "--help"]
try:
    runpy.run_path("{script}.py", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code == 0
print("loaded:", *({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("loaded:")
    assert set(last.split()[1:]) <= ALLOWED[script]
    assert "usage:" in done.stdout


def test_a_dataset_that_was_not_prepared_is_told_before_anything_heavy_is_imported(tmp_path):
    code = f"""
import runpy, sys
sys.argv = ["finetune_vit.py", "--dataset", {str(tmp_path)!r}, "--output_dir", "unused"]
try:
    runpy.run_path("finetune_vit.py", run_name="__main__")
except SystemExit as stopped:
    assert stopped.code == 2
print("loaded:", *({HEAVY!r} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "loaded:\n"
    assert "has no manifest.csv, so data_prep.py did not write it." in done.stderr
