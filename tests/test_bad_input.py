"""What the reader can get wrong: one sentence on stderr and exit code 2, never a traceback."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import draw_image, run_data_prep, run_finetune, run_sort, write_classes

ROOT = Path(__file__).parents[1]


def said(capsys):
    """The error lines of a command."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "is neither a folder nor a zip file"),
        (lambda root: root.mkdir(), "Need at least 2 class folders"),
        (lambda root: write_classes(root, class_names=("one",)), "Need at least 2 class folders"),
        (lambda root: (write_classes(root), (root / "empty").mkdir()), "['empty'] in"),
        (lambda root: write_classes(root, n=2), "need at least 3 groups"),
        (lambda root: root.write_text("no zip"), "is not a zip file"),
    ],
)
def test_a_source_that_is_no_dataset(tmp_path, capsys, make, message):
    make(tmp_path / "source")
    assert run_data_prep("--source", tmp_path / "source", "--output_dir", tmp_path / "data", "--num_proc", 1) == 2
    errors = said(capsys)
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob("*.partial"))


def test_too_many_broken_files_stop_the_preparation(tmp_path, capsys):
    source = write_classes(tmp_path / "source", n=6)
    for index in range(6):
        (source / "moss" / f"broken_{index}.jpg").write_bytes(b"no image")
    assert run_data_prep("--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1) == 2
    (error,) = said(capsys)
    assert "6 of 24 images can't be used" in error
    assert "--max_reject_fraction 0.2" in error
    allowed = ("--max_reject_fraction", 0.3)
    assert run_data_prep("--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1, *allowed) == 0


def test_a_folder_of_somebody_else_is_not_written_into(tmp_path, capsys):
    source = write_classes(tmp_path / "source", n=5)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.txt").write_text("years of work")
    argv = ("--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1)
    assert run_data_prep(*argv) == 2
    assert "was not made by data_prep.py" in said(capsys)[0]
    assert (tmp_path / "data" / "thesis.txt").read_text() == "years of work"
    assert run_data_prep(*argv, "--overwrite") == 0
    (tmp_path / "data" / "train" / "notes.txt").write_text("mine")
    assert run_data_prep(*argv, "--seed", 3) == 2
    assert "train/notes.txt" in said(capsys)[0]


def test_the_dataset_may_not_lie_in_its_source(tmp_path, capsys):
    source = write_classes(tmp_path / "source", n=5)
    assert run_data_prep("--source", source, "--output_dir", source / "data", "--num_proc", 1) == 2
    assert "one contains the other" in said(capsys)[0]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--test_fracton", "0.2"), "unknown option --test_fracton. Did you mean --test_fraction?"),
        (("--test_fraction", "1.5"), "--test_fraction must lie strictly between 0 and 1, got 1.5"),
        (("--test_fraction", "0.6", "--validation_fraction", "0.6"), "leave nothing to train on"),
        (("--group_column", "author"), "--group_column author is in no CSV"),
        (("--split_by", "time"), "needs a column created_utc"),
        (("--folds", "1"), "--folds must be at least 2"),
        (("--corrections", "nowhere.csv"), "nowhere.csv does not exist"),
        (("--folds", "9"), "9 folds need at least 9 groups"),
        (("--license", "CC BY 4.0"), "'CC BY 4.0' is not a licence identifier"),
        (("--source", ""), "--source is empty"),
        (("--output_dir", "."), "has no name of its own"),
        (("--output_dir", "/"), "has no name of its own"),
        (("--output_dir", "data/.."), "has no name of its own"),
        (("--num_proc", "0"), "--num_proc must be at least 1"),
        (("--max_reject_fraction", "nan"), "must lie between 0 and 1"),
    ],
)
def test_wrong_options_of_data_prep(tmp_path, capsys, argv, message):
    source = write_classes(tmp_path / "source", n=5)
    assert run_data_prep("--source", source, "--output_dir", tmp_path / "data", "--num_proc", 1, *argv) == 2
    assert message in said(capsys)[0]


def test_a_missing_required_option_exits_with_2(capsys):
    with pytest.raises(SystemExit) as stopped:
        run_data_prep("--source", "x")
    assert stopped.value.code == 2
    assert "--output_dir" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--dataset", "nowhere"), "nowhere does not exist. Check the path"),
        (("--learning_rte", "1"), "Did you mean --learning_rate?"),
        (("--model_name_or_path", "no-such/backbone"), "Could not download the backbone no-such/backbone"),
        (("--model_name_or_path", "./backbones/gone"), "The same folder has backbones/vit-micro-patch12-96."),
        (("--model_name_or_path", "backbones/vit-mikro"), "There is no folder backbones/vit-mikro"),
        (("--model_name_or_path", "/nowhere/at/all"), "There is no folder /nowhere/at/all with a backbone. Check"),
        (("--eval_strategy", "no"), "don't go together"),
        (("--num_train_epochs", "-3"), "--num_train_epochs must be larger than 0, got -3"),
        (("--num_train_epochs", "0"), "--num_train_epochs must be larger than 0"),
        (("--max_steps", "0"), "--max_steps must be at least 1"),
        (("--learning_rate", "-1"), "--learning_rate must be larger than 0"),
        (("--learning_rate", "nan"), "--learning_rate must be larger than 0"),
        (("--per_device_train_batch_size", "0"), "--per_device_train_batch_size must be at least 1"),
        (("--gradient_accumulation_steps", "0"), "--gradient_accumulation_steps must be at least 1"),
        (("--weight_decay", "-0.1"), "--weight_decay must be at least 0"),
        (("--seed", "-1"), "--seed must be at least 0, got -1"),
        (("--seeds", "4294967296"), "--seeds must lie between 0 and 4294967295"),
        (
            ("--metric_for_best_model", "f1"),
            "--metric_for_best_model takes loss, calibrated_loss, accuracy, balanced_accuracy or macro_f1",
        ),
        (("--dataloader_drop_last", "True"), "--dataloader_drop_last would leave images out"),
        (("--prediction_loss_only", "True"), "--prediction_loss_only would leave"),
        (("--optim", "stable_adamw"), "--optim stable_adamw can't be used"),
    ],
)
def test_wrong_options_of_finetune(tmp_path, capsys, prepared, monkeypatch, argv, message):
    monkeypatch.chdir(ROOT)
    usual = {"--dataset": prepared, "--output_dir": tmp_path / "model"}
    given = usual | dict(zip(argv[::2], argv[1::2], strict=True))
    assert run_finetune(*(part for pair in given.items() for part in pair), "--use_cpu") == 2
    assert message in said(capsys)[0]
    assert not (tmp_path / "model").exists()


def test_two_precisions_are_one_too_many(tmp_path, capsys, prepared, tiny_backbone):
    argv = (
        "--dataset",
        prepared,
        "--model_name_or_path",
        tiny_backbone,
        "--output_dir",
        tmp_path / "model",
        "--use_cpu",
    )
    assert run_finetune(*argv, "--bf16", "--precision", "fp32") == 2
    assert "--precision fp32 and bf16 contradict each other" in said(capsys)[0]


def test_rows_do_not_take_the_place_of_a_folder(tmp_path, capsys):
    (tmp_path / "rows").mkdir()
    draw_image(1).save(tmp_path / "meme.png")
    assert run_sort("--model", tmp_path, "--output", tmp_path / "rows", tmp_path / "meme.png") == 2
    assert "rows is a folder. Name a file for --output" in said(capsys)[0]


def test_the_default_backbone_without_a_network_says_what_to_do(tmp_path, capsys, prepared, monkeypatch):
    assert run_finetune("--dataset", prepared, "--output_dir", tmp_path / "model", "--use_cpu") == 2
    (error,) = said(capsys)
    assert "Could not download the backbone google/vit-base-patch16-224-in21k" in error
    assert "--model_name_or_path backbones/vit-micro-patch12-96" in error
    assert "--from_scratch" in error


def test_a_folder_that_data_prep_did_not_write_is_no_dataset(tmp_path, capsys):
    source = write_classes(tmp_path / "source", n=5)
    assert run_finetune("--dataset", source, "--output_dir", tmp_path / "model", "--use_cpu") == 2
    assert "python data_prep.py --source" in said(capsys)[0]


def test_an_image_that_has_gone_is_named(tmp_path, capsys, prepared, tiny_backbone):
    shutil.copytree(prepared, tmp_path / "data")
    next((tmp_path / "data" / "test" / "moss").iterdir()).unlink()
    argv = ("--dataset", tmp_path / "data", "--output_dir", tmp_path / "model", "--use_cpu")
    assert run_finetune(*argv, "--model_name_or_path", tiny_backbone) == 2
    assert "1 of 120 images are missing" in said(capsys)[0]


def test_a_finished_model_is_not_trained_over(trained, capsys, prepared, tiny_backbone):
    before = (trained / "model.safetensors").read_bytes()
    argv = ("--dataset", prepared, "--output_dir", trained, "--use_cpu")
    assert run_finetune(*argv, "--model_name_or_path", tiny_backbone) == 2
    assert "already holds a finished model" in said(capsys)[0]
    assert (trained / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(("path", "message"), [("nowhere", "holds no model"), (".", "holds no model")])
def test_sorting_needs_a_model_folder(tmp_path, capsys, path, message):
    draw_image(1).save(tmp_path / "meme.png")
    assert run_sort("--model", tmp_path / path, tmp_path / "meme.png") == 2
    assert message in said(capsys)[0]


def test_a_backbone_without_a_head_sorts_nothing(tmp_path, capsys):
    draw_image(1).save(tmp_path / "meme.png")
    assert run_sort("--model", ROOT / "backbones" / "vit-micro-patch12-96", tmp_path / "meme.png") == 2
    assert "holds a backbone without a head" in said(capsys)[0]


def test_a_damaged_model_is_named(tmp_path, capsys, trained):
    shutil.copytree(trained, tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    draw_image(1).save(tmp_path / "meme.png")
    assert run_sort("--model", tmp_path / "model", tmp_path / "meme.png") == 2
    assert "can't be loaded" in said(capsys)[0]


def test_sorting_a_path_that_is_not_there_says_so_before_the_model_is_loaded(tmp_path, capsys):
    assert run_sort("--model", tmp_path, tmp_path / "gone.jpg") == 2
    assert "gone.jpg does not exist (1 of 1 paths)" in said(capsys)[0]


def test_a_mistake_on_a_real_command_line_leaves_no_traceback(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    command = [sys.executable, "data_prep.py", "--source", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
