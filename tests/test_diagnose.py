"""diagnose.py from the command line to the page, on a tiny model."""

import csv
import html
import json
import re
import shutil

import numpy as np
import pytest

import memevit
from memevit import manifest, results
from tests.conftest import draw_image, run_data_prep, run_diagnose, write_classes


def read_corrections(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_report_is_one_page_that_asks_for_nothing_else(diagnosed):
    assert sorted(path.name for path in (diagnosed / "model" / "report").iterdir()) == ["corrections.csv", "index.html"]
    page = (diagnosed / "model" / "report" / "index.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    assert not re.findall(r"url\((?!data:)", page)
    assert len(page) < 2_000_000


def test_under_the_verdict_stands_what_it_is_based_on(diagnosed):
    detail = results.read(diagnosed / "model")["evidence"]["detail"]
    page = (diagnosed / "model" / "report" / "index.html").read_text(encoding="utf-8")
    (lead,) = re.findall(r'<p class="lead">(.*?)</p>', page)
    assert html.unescape(lead) == detail


def test_a_title_stays_text(diagnosed):
    page = (diagnosed / "model" / "report" / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script") == 1


def test_every_number_is_in_results_with_split_and_n(diagnosed):
    found = results.read(diagnosed / "model")
    names = ["evidence", "mistakes", "shortcuts", "confidence", "learning_curve", "comparison"]
    for name in names:
        assert found[name]["summary"], name
        for row in found[name]["measurements"]:
            assert row["split"], (name, row)
            assert row["n"] > 0, (name, row)
    assert "measurements" in found, "what finetune_vit.py wrote is still there"
    json.dumps(found, allow_nan=False)


def test_the_verdict_counts_the_same_images_as_the_confusions(diagnosed):
    found = results.read(diagnosed / "model")
    accuracy = found["evidence"]["measurements"][0]
    n_wrong = sum(cell["n"] for cell in found["classes"]["cells"])
    assert accuracy["value"] == pytest.approx(1 - n_wrong / accuracy["n"])
    errors = {row["split"]: row["n_wrong"] for row in found["mistakes"]["measurements"]}
    assert errors["test"] == n_wrong


def test_all_baselines_are_compared_on_the_same_images(diagnosed):
    rows = [row for row in results.read(diagnosed / "model")["evidence"]["measurements"] if "p_holm" in row]
    assert [row["subject"] for row in rows] == [
        "majority class", "colour histogram", "16-pixel thumbnail", "file properties alone", "linear probe",
    ]  # fmt: skip
    assert len({row["n"] for row in rows}) == 1
    assert all(row["p_holm"] >= row["p"] for row in rows)


def test_a_wrong_label_is_suspected_and_suggested_but_not_applied(diagnosed):
    rows = read_corrections(diagnosed / "model" / "report" / "corrections.csv")
    assert list(rows[0]) == ["file", "action", "class", "reason", "sha256"]
    assert {row["action"] for row in rows} == {"keep"}
    planted = {row.source for row in manifest.read(diagnosed / "data") if row.class_name not in row.file}
    assert len(planted) == 3
    suggested = {row["file"] for row in rows if "relabel" in row["reason"]}
    assert len(planted & suggested) >= 2


@pytest.mark.usefixtures("no_figures")
def test_suggestions_change_nothing_and_decisions_change_the_data(diagnosed, prepared, trained, tmp_path):
    rows = read_corrections(diagnosed / "model" / "report" / "corrections.csv")
    source = prepared.parent / "source"

    def prepare(name, decided):
        with (tmp_path / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(decided)
        options = ("--corrections", tmp_path / f"{name}.csv", "--num_proc", 1)
        assert run_data_prep("--source", source, "--output_dir", tmp_path / name, *options) == 0
        return {row.source: (row.class_name, row.split, row.status) for row in manifest.read(tmp_path / name)}

    before = {row.source: (row.class_name, row.split, row.status) for row in manifest.read(prepared)}
    assert prepare("as_written", rows) == before
    file = rows[0]["file"]
    after = prepare("decided", [rows[0] | {"action": "relabel", "class": "slate"}])
    assert after[file] == ("slate", *before[file][1:])
    options = ("--only", "classes", "--compare", trained, "--num_proc", 1)
    shutil.copytree(trained, tmp_path / "model")
    assert run_diagnose("--model", tmp_path / "model", "--dataset", tmp_path / "decided", *options) == 0
    page = (tmp_path / "model" / "report" / "index.html").read_text(encoding="utf-8")
    assert "The dataset was prepared with 1 correction: the difference is what was corrected" in page


def test_decisions_in_the_file_survive_another_diagnosis(diagnosed, tmp_path):
    shutil.copytree(diagnosed / "model", tmp_path / "model")
    path = tmp_path / "model" / "report" / "corrections.csv"
    rows = read_corrections(path)
    rows[0] |= {"action": "drop", "reason": "=mine"}
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    options = ("--only", "mistakes", "--heat_maps", 0, "--num_proc", 1)
    assert run_diagnose("--model", tmp_path / "model", "--dataset", diagnosed / "data", *options) == 0
    again = {row["file"]: row for row in read_corrections(path)}
    assert again[rows[0]["file"]]["action"] == "drop"
    assert again[rows[0]["file"]]["reason"] == "'=mine"


def test_any_checkpoint_can_be_diagnosed_from_python(trained, prepared, tmp_path):
    for name in ("config.json", "model.safetensors", "preprocessor_config.json"):
        shutil.copy(trained / name, tmp_path / name)
    done = memevit.diagnose(tmp_path, prepared, only="confidence,classes", num_proc=1)
    assert done.page.is_file()
    assert sorted(done.sections) == ["classes", "confidence"]
    assert set(results.read(tmp_path)) == {"format", "classes", "confidence"}


def test_a_pool_is_ranked_with_what_is_unlike_training_first(diagnosed, tmp_path):
    for number in range(6):
        draw_image(900, colour=(220, 90, 70)).save(tmp_path / f"same-{number}.png")
    draw_image(7, colour=(250, 250, 250)).save(tmp_path / "white.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    options = ("--only", "confidence", "--pool", tmp_path, "--num_proc", 1)
    assert run_diagnose("--model", diagnosed / "model", "--dataset", diagnosed / "data", *options) == 0
    with (diagnosed / "model" / "report" / "label_next.csv").open(encoding="utf-8") as file:
        ranked = [row["file"].split("/")[-1] for row in csv.DictReader(file)]
    assert len(ranked) == 7
    assert "white.png" in ranked[:2]
    for name in ("label_next.csv", "label_next.jpg"):
        (diagnosed / "model" / "report" / name).unlink()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--only", "mistakes,luck"), "'luck' is not a section"),
        (("--heat_maps", -1), "--heat_maps must not be negative"),
        (("--backbone", "nowhere"), "--backbone nowhere holds no model"),
        (("--compare", "nowhere"), "--compare nowhere holds no model"),
        (("--pool", "nowhere"), "--pool nowhere is not a folder"),
    ],
)
def test_wrong_arguments_get_a_sentence(diagnosed, capsys, arguments, said):
    assert run_diagnose("--model", diagnosed / "model", "--dataset", diagnosed / "data", *arguments) == 2
    assert said in capsys.readouterr().err


def test_a_dataset_with_other_classes_is_refused(trained, tmp_path, capsys):
    write_classes(tmp_path / "source", n=8, class_names=("coral", "zebra"))
    assert run_data_prep("--source", tmp_path / "source", "--output_dir", tmp_path / "data", "--num_proc", 1) == 0
    assert run_diagnose("--model", trained, "--dataset", tmp_path / "data") == 2
    assert "has the classes ['zebra'], which" in capsys.readouterr().err


def test_the_time_is_said_beforehand(diagnosed, caplog):
    options = ("--only", "classes", "--num_proc", 1)
    with caplog.at_level("INFO"):
        assert run_diagnose("--model", diagnosed / "model", "--dataset", diagnosed / "data", *options) == 0
    assert re.search(r"\d+ train, \d+ validation, \d+ test images; about \d+ s", caplog.messages[0])


def test_leaks_between_splits_are_counted_and_decide_the_verdict(prepared, tmp_path):
    from memevit.data import leaks

    rows = [row for row in manifest.read(prepared) if row.status == manifest.KEPT]
    by_split = {split: [row.file for row in rows if row.split == split] for split in manifest.SPLITS}
    assert leaks.find(prepared, by_split, n_processes=1) == []
    shutil.copytree(prepared, tmp_path / "data")
    copied = f"test/{by_split['train'][0].split('/')[1]}/copy.png"
    shutil.copy(prepared / by_split["train"][0], tmp_path / "data" / copied)
    by_split["test"].append(copied)
    (found,) = leaks.find(tmp_path / "data", by_split, n_processes=1)
    assert {found.file, found.other_file} == {by_split["train"][0], copied}
    assert found.kind == "same"


def test_the_verdict_on_a_dataset_that_was_made_with_leaks_says_so(trained, prepared, tmp_path):
    shutil.copytree(trained, tmp_path / "model")
    shutil.copytree(prepared, tmp_path / "data")
    prep = json.loads((prepared / "prep.json").read_text())
    prep["settings"]["allow_leaks"] = True
    (tmp_path / "data" / "prep.json").write_text(json.dumps(prep))
    options = ("--only", "evidence", "--control", "none", "--num_proc", 1)
    assert run_diagnose("--model", tmp_path / "model", "--dataset", tmp_path / "data", *options) == 0
    found = json.loads((tmp_path / "model" / "results.json").read_text())["evidence"]
    assert found["verdict"] == "leaked"
    assert "made with --allow_leaks: 0 of 18 test images" in found["summary"]


@pytest.mark.usefixtures("no_figures")
def test_retraining_on_shuffled_labels_falls_to_chance_and_fewer_images_are_tried(
    trained, prepared, tiny_backbone, tmp_path, monkeypatch
):
    from memevit.commands import retrain

    monkeypatch.setattr(retrain, "N_SHUFFLES", 2)
    monkeypatch.setattr(retrain, "SHARES", (0.5,))
    shutil.copytree(trained, tmp_path / "model")
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*")}
    options = ("--only", "evidence", "--learning_curve", "--retrain", "--backbone", tiny_backbone, "--num_proc", 1)
    assert run_diagnose("--model", tmp_path / "model", "--dataset", prepared, *options) == 0
    found = json.loads((tmp_path / "model" / "results.json").read_text())
    told, seen = (
        {row["subject"]: row["value"] for row in rows if (row["name"], row["split"]) == ("accuracy", "test")}
        for rows in (found["measurements"], found["evidence"]["measurements"])
    )
    assert {name: seen[name] for name in told} == told  # Baselines are the same as after training.
    control, curve = found["evidence"]["shuffled_labels_retrained"], found["learning_curve"]["retrained"]
    assert (control["n"], control["n_shuffles"], control["is_chance"]) == (18, 2, True)
    half, whole = curve["measurements"]
    assert (half["n_train"], whole["n_train"], whole["value"]) == (
        42,
        84,
        found["evidence"]["measurements"][0]["value"],
    )
    assert half["value"] > control["value"]
    assert {path: path.stat().st_mtime_ns for path in prepared.rglob("*")} == before
    page = (tmp_path / "model" / "report" / "index.html").read_text()
    assert "whole network trained on shuffled labels" in page
    assert "% with 42, " in page


def test_retraining_a_model_without_a_record_is_refused(trained, prepared, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "model")
    (tmp_path / "model" / "run.json").write_text('{"arguments": {"model": "m"}}')
    assert run_diagnose("--model", tmp_path / "model", "--dataset", prepared, "--retrain") == 2
    assert "has no record of one" in capsys.readouterr().err


def test_a_model_that_guesses_is_not_said_to_have_learned():
    from memevit.evaluation import evidence
    from memevit.evaluation.observed import Observed

    random = np.random.default_rng(0)

    def part(split, n):
        labels = random.integers(0, 2, n)
        rows = [manifest.Row(file=f"{split}/{i}") for i in range(n)]
        return Observed(split, [None] * n, rows, labels, random.normal(size=(n, 2)), random.normal(size=(n, 8)))

    train, test = part("train", 200), part("test", 100)
    chance = evidence.chance_tests(train, test, n_permutations=99, seed=0)
    assert evidence.verdict(test, [], chance, 0)[0] == evidence.NOTHING
    assert evidence.verdict(test, [], chance, 2, 2)[0] == evidence.LEAKED
    assert evidence.verdict(test, [], chance, 2)[0] == evidence.NOTHING
    kind, said = evidence.verdict(test, [], chance, 4, 0, 3)
    assert kind == evidence.LEAKED
    assert "3 of 100 test images (3 %) have a near-duplicate in training" in said
    assert evidence.shuffled_label_control(train, test, n_shuffles=5)["is_chance"]
