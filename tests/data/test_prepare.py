"""data_prep.py from source to dataset folder."""

import csv
import json
import os
import random
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from memevit import manifest
from memevit.data import dataset as prepared_dataset
from tests.conftest import draw_image, run_data_prep, write_classes


def prepare(source, output_dir, *argv):
    return run_data_prep("--source", source, "--output_dir", output_dir, "--num_proc", 1, *argv)


def content_of(folder):
    """Every file below `folder` with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_by_source(folder):
    return {row.source: row for row in manifest.read(folder)}


def jpeg_copy(path, target, *, scale=1.0, crop=0.0, quality=60):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    image = image.crop((int(crop * width), int(crop * height), int((1 - crop) * width), int((1 - crop) * height)))
    image.resize((int(image.width * scale), int(image.height * scale))).save(target, "JPEG", quality=quality)


def test_a_dataset_has_every_class_in_every_split_at_the_asked_shares(prepared):
    data = prepared_dataset.load(prepared)
    assert data["train"].features["label"].names == ["coral", "moss", "slate"]
    for split, expected in (("train", 28), ("validation", 6), ("test", 6)):
        assert np.bincount(data[split]["label"][:]).tolist() == [expected] * 3
    assert {path.name for path in prepared.iterdir()} == {
        *("train", "validation", "test", "manifest.csv", "prep.json", "README.md", "contact_sheet.jpg")
    }


@pytest.mark.usefixtures("decoder_processes")
def test_the_same_source_gives_the_same_bytes_whatever_the_order_of_its_files(tmp_path, prepared):
    source = prepared.parent / "source"
    shuffled = tmp_path / "elsewhere"
    paths = sorted(path for path in source.rglob("*") if path.is_file())
    random.Random(1).shuffle(paths)
    for path in paths:
        target = shuffled / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    assert prepare(shuffled, tmp_path / "data", "--num_proc", 2) == 0
    assert content_of(tmp_path / "data") == content_of(prepared)


def test_another_seed_gives_another_split(tmp_path, prepared):
    assert prepare(prepared.parent / "source", tmp_path / "data", "--seed", 1) == 0
    assert {row.file for row in manifest.read(tmp_path / "data")} != {row.file for row in manifest.read(prepared)}


def test_a_second_run_on_unchanged_input_changes_nothing(tmp_path, caplog):
    source = write_classes(tmp_path / "source")
    assert prepare(source, tmp_path / "data") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    with caplog.at_level("INFO"):
        assert prepare(source, tmp_path / "data") == 0
    assert "up to date" in caplog.text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")} == before


def test_a_changed_source_is_prepared_again_without_asking(tmp_path):
    source = write_classes(tmp_path / "source")
    assert prepare(source, tmp_path / "data") == 0
    draw_image(99).save(source / "moss" / "new.png")
    assert prepare(source, tmp_path / "data") == 0
    assert "moss/new.png" in rows_by_source(tmp_path / "data")


@pytest.mark.parametrize("where", ["", "deeper", "deeper/still"])
def test_class_folders_are_found_below_lone_folders_and_in_zips(tmp_path, where):
    source = write_classes(tmp_path / "source" / where, n=6)
    with zipfile.ZipFile(tmp_path / "memes.zip", "w") as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "source"))
    assert prepare(tmp_path / "source", tmp_path / "a") == 0
    assert prepare(tmp_path / "memes.zip", tmp_path / "b") == 0
    files = [{row.file for row in manifest.read(tmp_path / name)} for name in "ab"]
    assert files[0] == files[1]
    assert len(files[0]) == 18
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "memes.zip", "source"]


def test_large_images_are_stored_small_and_small_clean_ones_byte_for_byte(tmp_path):
    source = write_classes(tmp_path / "source", n=5, suffix="jpg")
    draw_image(7, size=(1600, 900)).save(source / "moss" / "large.jpg")
    draw_image(8, size=(90, 60)).convert("P").save(source / "moss" / "palette.png")
    assert prepare(source, tmp_path / "data", "--max_side", 320) == 0
    rows = rows_by_source(tmp_path / "data")
    large = Image.open(tmp_path / "data" / rows["moss/large.jpg"].file)
    assert large.size == (320, 180)
    assert (rows["moss/large.jpg"].width_px, rows["moss/large.jpg"].height_px) == (1600, 900)
    copied = rows["moss/moss_001.jpg"]
    assert (tmp_path / "data" / copied.file).read_bytes() == (source / copied.source).read_bytes()
    palette = Image.open(tmp_path / "data" / rows["moss/palette.png"].file)
    assert palette.mode == "RGB"
    expected = np.asarray(Image.open(source / "moss" / "palette.png").convert("RGB"))
    assert np.array_equal(np.asarray(palette), expected)


def test_metadata_of_a_photo_is_not_stored(tmp_path):
    source = write_classes(tmp_path / "source", n=5, suffix="jpg")
    exif = Image.Exif()
    exif[0x010F] = "a maker's name"
    draw_image(7).save(source / "moss" / "photo.jpg", exif=exif)
    assert prepare(source, tmp_path / "data") == 0
    stored = tmp_path / "data" / rows_by_source(tmp_path / "data")["moss/photo.jpg"].file
    assert b"a maker's name" not in stored.read_bytes()


def test_files_that_are_no_images_are_rows_with_a_reason_and_the_source_is_left_alone(tmp_path):
    source = write_classes(tmp_path / "source", n=20)
    (source / "moss" / "page.jpg").write_text("<html>404</html>")
    (source / "moss" / "empty.png").write_bytes(b"")
    whole = (source / "moss" / "moss_000.png").read_bytes()
    (source / "moss" / "half.png").write_bytes(whole[: len(whole) // 2])
    (source / "moss" / "notes.txt").write_text("not an image, and not called one")
    Image.new("RGB", (1, 1)).save(source / "moss" / "dot.png")
    Image.new("RGB", (1, 20_000), "red").save(source / "moss" / "line.png")
    draw_image(5).save(source / "stray.png")
    os.symlink("/etc/hostname", source / "moss" / "outside.jpg")
    os.symlink("nowhere", source / "moss" / "dangling.jpg")
    os.mkfifo(source / "moss" / "pipe.jpg")
    before = {path.relative_to(source) for path in source.rglob("*")}
    assert prepare(source, tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    reasons = {name: row.reason for name, row in rows.items() if row.status == manifest.REJECTED}
    assert reasons["moss/page.jpg"] == reasons["moss/notes.txt"] == "not an image"
    assert reasons["moss/empty.png"] == "an empty file"
    assert reasons["moss/half.png"].startswith("damaged")
    assert "1x1" in reasons["moss/dot.png"]
    assert "1x20000" in reasons["moss/line.png"]
    assert reasons["stray.png"] == "in no class folder"
    assert reasons["moss/outside.jpg"] == "a link that leaves the source"
    assert reasons["moss/dangling.jpg"] == "a link that leads nowhere"
    assert reasons["moss/pipe.jpg"] == "not a regular file"
    assert len(reasons) == 10
    assert sum(row.status == manifest.KEPT for row in rows.values()) == 60
    assert {path.relative_to(source) for path in source.rglob("*")} == before


def test_odd_names_are_kept_with_their_rows(tmp_path):
    source = write_classes(tmp_path / "source", n=6)
    names = ["train test val.png", "sprüche 😀.PNG", "x" * 240 + ".png", "test-train_1.JPG", "no_suffix"]
    for seed, name in enumerate(names):
        image_format = "JPEG" if name.endswith("JPG") else "PNG"
        draw_image(500 + seed).save(source / "moss" / name, image_format)
    assert prepare(source, tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    assert all(rows[f"moss/{name}"].status == manifest.KEPT for name in names)


def write_reposts(source):
    """Classes of 20 images, and in one of them 6 more, each with a smaller copy and a copy with a caption."""
    write_classes(source, n=20)
    for index in range(6):
        image = draw_image(300 + index, size=(320, 240))
        image.save(source / "moss" / f"original_{index}.png")
        jpeg_copy(source / "moss" / f"original_{index}.png", source / "moss" / f"again_{index}.jpg", scale=0.6)
        barred = Image.new("RGB", (320, 290), "white")
        barred.paste(image, (0, 50))
        for line in range(4):
            barred.paste((0, 0, 0), (20 + 30 * line, 12, 40 + 30 * line, 36))
        barred.save(source / "moss" / f"caption_{index}.png")
    return source


def test_reposts_are_dropped_and_new_captions_stay_on_one_side(tmp_path):
    assert prepare(write_reposts(tmp_path / "source"), tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    for index in range(6):
        original, again = rows[f"moss/original_{index}.png"], rows[f"moss/again_{index}.jpg"]
        caption = rows[f"moss/caption_{index}.png"]
        assert (again.status, again.duplicate_of) == (manifest.DUPLICATE, original.source)
        assert (caption.status, caption.group, caption.split) == (manifest.KEPT, original.group, original.split)
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    assert prep["near_duplicates"]["n_kept_pairs_across_splits"] == 0
    assert prep["near_duplicates"]["n_related_pairs"] >= 12


def test_leaks_that_are_allowed_are_divided_counted_and_told(tmp_path, caplog):
    assert prepare(write_reposts(tmp_path / "source"), tmp_path / "data", "--allow_leaks") == 0
    rows = rows_by_source(tmp_path / "data")
    pairs = [(rows[f"moss/original_{n}.png"], rows[f"moss/caption_{n}.png"]) for n in range(6)]
    assert all(original.group != caption.group for original, caption in pairs)
    assert all(rows[f"moss/again_{n}.jpg"].status == manifest.DUPLICATE for n in range(6))
    n_across = sum(original.split != caption.split for original, caption in pairs)
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    assert prep["settings"]["allow_leaks"] is True
    assert prep["near_duplicates"]["n_kept_pairs_across_splits"] == n_across > 0
    assert f"{n_across} of" in caplog.text
    assert "flatter a model" in caplog.text
    assert "NEAR-DUPLICATES ARE DIVIDED" in (tmp_path / "data" / "README.md").read_text()


def test_flat_and_dark_images_are_not_taken_for_one_another(tmp_path):
    source = write_classes(tmp_path / "source", n=6)
    for index in range(8):
        random_ = np.random.default_rng(index)
        dark = random_.integers(0, 14, (60, 80, 3)).astype(np.uint8)
        Image.fromarray(dark).save(source / "moss" / f"dark_{index}.png")
        Image.new("RGB", (80, 60), (index * 30, 40, 200 - index * 20)).save(source / "slate" / f"flat_{index}.png")
    assert prepare(source, tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    assert all(row.status == manifest.KEPT for name, row in rows.items() if "dark" in name or "flat" in name)


@pytest.mark.parametrize(
    ("policy", "kept"), [("drop", []), ("keep_first", ["coral"]), ("train_only", ["coral", "moss"])]
)
def test_the_same_image_in_two_classes_is_a_conflict(tmp_path, policy, kept):
    source = write_classes(tmp_path / "source", n=10)
    draw_image(77, size=(200, 150)).save(source / "coral" / "both.png")
    jpeg_copy(source / "coral" / "both.png", source / "moss" / "both_too.jpg", quality=90)
    assert prepare(source, tmp_path / "data", "--conflicts", policy) == 0
    rows = rows_by_source(tmp_path / "data")
    both = [rows["coral/both.png"], rows["moss/both_too.jpg"]]
    assert [row.class_name for row in both if row.status == manifest.KEPT] == kept
    if policy == "train_only":
        assert {row.split for row in both} == {"train"}
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    assert prep["n_conflicts"] == 1
    assert [file["source"] for file in prep["conflicts"][0]["files"]] == ["coral/both.png", "moss/both_too.jpg"]
    assert all(row.reason == "the same image in coral and moss" for row in both)
    with Image.open(tmp_path / "data" / "contact_sheet.jpg") as sheet:
        assert sheet.height > 3 * (34 + 118) + 118  # Three classes, and the conflict under every policy.


def write_csv(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_csv_columns_travel_with_their_images_and_a_group_column_keeps_images_together(tmp_path):
    source = write_classes(tmp_path / "source", n=12)
    for name in ("coral", "moss", "slate"):
        write_csv(
            source / f"{name}_dataset.csv",
            [{"filename": f"{name}_{i:03}.png", "author": f"{name}-{i // 3}", "status": "hot"} for i in range(12)],
        )
    assert prepare(source, tmp_path / "data", "--group_column", "author") == 0
    rows = manifest.read(tmp_path / "data")
    assert {row.extra["csv_status"] for row in rows} == {"hot"}
    splits = {}
    for row in rows:
        splits.setdefault(row.extra["author"], set()).add(row.split)
    assert len(splits) == 12
    assert all(len(found) == 1 for found in splits.values())


def test_a_csv_with_a_class_column_tells_files_of_one_name_apart(tmp_path):
    source = tmp_path / "source"
    for number, name in enumerate(("coral", "moss")):
        (source / name).mkdir(parents=True)
        for index in range(8):
            draw_image(100 * number + index).save(source / name / f"{index}.png")
    write_csv(
        source / "posts.csv",
        [{"file": f"{i}.png", "class": name, "post": f"{name} {i}"} for name in ("coral", "moss") for i in range(8)],
    )
    assert prepare(source, tmp_path / "data") == 0
    for row in manifest.read(tmp_path / "data"):
        assert row.extra["post"] == f"{row.class_name} {row.source.split('/')[1][0]}"


def test_a_conflict_is_listed_with_the_posts_of_both_images(tmp_path):
    source = write_classes(tmp_path / "source", n=8)
    draw_image(77, size=(200, 150)).save(source / "coral" / "both.png")
    shutil.copyfile(source / "coral" / "both.png", source / "moss" / "both.png")
    post = {"filename": "both.png", "subreddit": "reefs", "id": "abc123"}
    write_csv(source / "coral_dataset.csv", [post])
    write_csv(source / "moss_dataset.csv", [post | {"permalink": "/r/moss/comments/xyz/_/"}])
    assert prepare(source, tmp_path / "data") == 0
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    links = [file["permalink"] for file in prep["conflicts"][0]["files"]]
    assert links == ["/r/reefs/comments/abc123/", "/r/moss/comments/xyz/_/"]


def test_a_changed_csv_is_not_up_to_date(tmp_path):
    source = write_classes(tmp_path / "source", n=8)
    write_csv(source / "posts.csv", [{"filename": "moss_001.png", "author": "ann"}])
    assert prepare(source, tmp_path / "data", "--group_column", "author") == 0
    write_csv(source / "posts.csv", [{"filename": f"moss_00{i}.png", "author": "ann"} for i in (1, 2, 3)])
    assert prepare(source, tmp_path / "data", "--group_column", "author") == 0
    rows = rows_by_source(tmp_path / "data")
    assert len({rows[f"moss/moss_00{i}.png"].group for i in (1, 2, 3)}) == 1


def test_names_that_are_no_utf8_and_odd_bytes_in_names_are_written_to_every_file(tmp_path):
    source = write_classes(tmp_path / "source", n=8)
    for name in (b"caf\xe9.png", b'line\nbreak, "quoted".png'):
        draw_image(77, size=(200, 150)).save(source / "coral" / os.fsdecode(name))
        draw_image(77, size=(200, 150)).save(source / "moss" / os.fsdecode(name))
    (source / "moss" / os.fsdecode(b"bro\xffken.jpg")).write_bytes(b"x")
    assert prepare(source, tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    assert rows["coral/caf\\xe9.png"].status == manifest.CONFLICT
    assert rows['moss/line\nbreak, "quoted".png'].status == manifest.CONFLICT
    assert rows["moss/bro\\xffken.jpg"].reason == "not an image"
    assert len(rows) == 29


def test_an_image_that_would_be_stored_too_thin_to_be_seen_is_rejected(tmp_path):
    source = write_classes(tmp_path / "source", n=8)
    draw_image(5, size=(8000, 40)).save(source / "moss" / "ribbon.png")
    assert prepare(source, tmp_path / "data") == 0
    row = rows_by_source(tmp_path / "data")["moss/ribbon.png"]
    assert row.reason == "8000x40 pixels: a side is shorter than 8 at 512x3"


def test_a_link_as_output_stays_a_link(tmp_path):
    source = write_classes(tmp_path / "source", n=6)
    (tmp_path / "disk" / "data").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "data")
    for seed in (0, 1):
        assert prepare(source, tmp_path / "data", "--seed", seed) == 0
    assert (tmp_path / "data").is_symlink()
    assert os.listdir(tmp_path / "disk") == ["data"]
    assert len(prepared_dataset.load(tmp_path / "data")["train"].features["label"].names) == 3


def test_many_small_files_do_not_ask_for_the_space_of_large_ones(tmp_path, monkeypatch, capsys):
    source = write_classes(tmp_path / "source", n=6)
    n_bytes = sum(path.stat().st_size for path in source.rglob("*.png"))
    usage = shutil.disk_usage(tmp_path)
    for n_free, code in ((18 * 4096 + 3 * n_bytes, 0), (18 * 4096, 2)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, n_free=n_free: usage._replace(free=n_free))
        assert prepare(source, tmp_path / "data", "--seed", code) == code
    assert "MB are needed" in capsys.readouterr().err


def test_time_splits_train_on_older_posts(tmp_path):
    source = write_classes(tmp_path / "source", n=20)
    rows = [{"filename": f"{name}_{i:03}.png", "created_utc": 1_600_000_000 + 97 * ((7 * i) % 20)}
            for name in ("coral", "moss", "slate") for i in range(20)]  # fmt: skip
    write_csv(source / "posts.csv", rows)
    assert prepare(source, tmp_path / "data", "--split_by", "time") == 0
    times = {}
    for row in manifest.read(tmp_path / "data"):
        times.setdefault((row.class_name, row.split), []).append(int(row.extra["created_utc"]))
    for name in ("coral", "moss", "slate"):
        assert max(times[name, "train"]) < min(times[name, "validation"])
        assert max(times[name, "validation"]) < min(times[name, "test"])


def test_folds_number_every_image_and_keep_groups_whole(tmp_path):
    source = write_classes(tmp_path / "source", n=20)
    for index in range(5):
        jpeg_copy(source / "moss" / f"moss_00{index}.png", source / "moss" / f"copy_{index}.jpg", crop=0.02, quality=80)
    assert prepare(source, tmp_path / "data", "--folds", 4) == 0
    rows = manifest.kept(manifest.read(tmp_path / "data"))
    assert {row.fold for row in rows} == {"0", "1", "2", "3"}
    folds = {}
    for row in rows:
        folds.setdefault(row.group, set()).add(row.fold)
    assert all(len(found) == 1 for found in folds.values())


def test_splits_of_the_source_are_kept_and_leaks_leave_the_test(tmp_path):
    source = tmp_path / "source"
    for number, split in enumerate(("train", "val", "test")):
        write_classes(source / split, n=8, first_seed=10_000 * number)
    shutil.copyfile(source / "train" / "moss" / "moss_000.png", source / "test" / "moss" / "leak.png")
    assert prepare(source, tmp_path / "data") == 0
    rows = rows_by_source(tmp_path / "data")
    assert rows["test/moss/leak.png"].status == manifest.DUPLICATE
    assert rows["train/moss/moss_000.png"].split == "train"
    assert rows["val/coral/coral_003.png"].split == "validation"
    assert sum(row.split == "test" for row in rows.values()) == 24
    prep = json.loads((tmp_path / "data" / "prep.json").read_text())
    assert prep["moved_between_splits"] == [{"source": "test/moss/leak.png", "now": "duplicate"}]


def test_a_split_that_the_source_lacks_is_taken_out_of_its_training_images(tmp_path):
    source = tmp_path / "source"
    for number, split in enumerate(("train", "test")):
        write_classes(source / split, n=12, first_seed=10_000 * number)
    assert prepare(source, tmp_path / "data") == 0
    rows = manifest.read(tmp_path / "data")
    assert all(row.split == "test" for row in rows if row.source.startswith("test/"))
    assert {row.split for row in rows if row.source.startswith("train/")} == {"train", "validation"}


def test_corrections_are_found_by_content_and_move_no_other_image(tmp_path):
    source = write_classes(tmp_path / "source", n=20)
    assert prepare(source, tmp_path / "data") == 0
    before = rows_by_source(tmp_path / "data")
    relabel, drop = before["moss/moss_003.png"], before["slate/slate_005.png"]
    write_csv(
        tmp_path / "corrections.csv",
        [
            {"file": relabel.file, "action": "relabel", "class": "coral", "reason": "is coral"},
            {"file": drop.file, "action": "drop", "class": "", "reason": "blurred"},
        ],
    )
    (source / "moss" / "moss_003.png").rename(source / "moss" / "renamed.png")
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "corrections.csv") == 0
    after = rows_by_source(tmp_path / "data")
    assert after["moss/renamed.png"].class_name == "coral"
    assert after["moss/renamed.png"].file == relabel.file.replace("/moss/", "/coral/")
    assert (after[drop.source].status, after[drop.source].reason) == (manifest.DROPPED, "correction: blurred")
    untouched = set(before) - {relabel.source, drop.source}
    assert all(after[name].file == before[name].file for name in untouched)


def test_a_correction_can_settle_a_conflict(tmp_path):
    source = write_classes(tmp_path / "source", n=10)
    draw_image(77, size=(200, 150)).save(source / "coral" / "both.png")
    shutil.copyfile(source / "coral" / "both.png", source / "moss" / "both.png")
    write_csv(tmp_path / "c.csv", [{"file": "moss/both.png", "action": "keep", "class": "", "reason": "looked"}])
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "c.csv") == 0
    rows = rows_by_source(tmp_path / "data")
    assert rows["moss/both.png"].status == manifest.KEPT
    assert (rows["coral/both.png"].status, rows["coral/both.png"].duplicate_of) == ("duplicate", "moss/both.png")


def test_a_correction_can_keep_images_that_only_look_the_same(tmp_path):
    source = write_classes(tmp_path / "source", n=10)
    draw_image(77, size=(200, 150)).save(source / "moss" / "first.png")
    jpeg_copy(source / "moss" / "first.png", source / "moss" / "again.jpg", quality=90)
    orders = [{"file": name, "action": "keep"} for name in ("moss/again.jpg", "moss/first.png")]
    write_csv(tmp_path / "c.csv", orders)
    assert prepare(source, tmp_path / "plain") == 0
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "c.csv") == 0
    before, after = rows_by_source(tmp_path / "plain"), rows_by_source(tmp_path / "data")
    assert before["moss/first.png"].status == manifest.DUPLICATE
    both = [after["moss/again.jpg"], after["moss/first.png"]]
    assert [row.status for row in both] == [manifest.KEPT] * 2
    assert both[0].split == both[1].split == before["moss/again.jpg"].split
    assert all(after[name].file == row.file for name, row in before.items() if name != "moss/first.png")


def test_two_corrections_can_not_keep_one_image_in_two_classes(tmp_path, capsys):
    source = write_classes(tmp_path / "source", n=10)
    shutil.copyfile(source / "coral" / "coral_001.png", source / "moss" / "both.png")
    write_csv(tmp_path / "c.csv", [{"file": n, "action": "keep"} for n in ("moss/both.png", "coral/coral_001.png")])
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "c.csv") == 2
    assert "coral/coral_001.png in coral and moss/both.png in moss" in capsys.readouterr().err


def test_a_correction_by_hash_means_the_file_of_that_name_where_two_have_one_content(tmp_path):
    source = write_classes(tmp_path / "source", n=10)
    shutil.copyfile(source / "coral" / "coral_001.png", source / "moss" / "both.png")
    assert prepare(source, tmp_path / "data") == 0
    sha256 = rows_by_source(tmp_path / "data")["moss/both.png"].sha256
    write_csv(tmp_path / "c.csv", [{"file": "moss/both.png", "action": "drop", "sha256": sha256}])
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "c.csv") == 0
    rows = rows_by_source(tmp_path / "data")
    assert rows["moss/both.png"].status == manifest.DROPPED
    assert rows["coral/coral_001.png"].status == manifest.KEPT


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file": "moss/gone.png", "action": "drop"}, "moss/gone.png matches no usable image"),
        ({"file": "moss/moss_000.png", "action": "delete"}, "must be one of relabel, drop, keep"),
        ({"file": "moss/moss_000.png", "action": "relabel", "class": "plum"}, "'plum'"),
        ({"file": "moss/moss_000.png", "action": "relabel"}, "needs the new class"),
    ],
)
def test_a_correction_that_can_not_be_applied_is_named(tmp_path, capsys, row, message):
    source = write_classes(tmp_path / "source", n=5)
    write_csv(tmp_path / "c.csv", [{"class": "", "reason": ""} | row])
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "c.csv") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_conflicts_that_are_dropped_fill_no_split(tmp_path):
    source = write_classes(tmp_path / "source", n=3)
    for index in range(3):
        draw_image(900 + index).save(source / "coral" / f"both_{index}.png")
        draw_image(900 + index).save(source / "moss" / f"both_{index}.png")
    for seed in range(4):
        assert prepare(source, tmp_path / "data", "--seed", seed) == 0
        rows = manifest.kept(manifest.read(tmp_path / "data"))
        assert sorted((row.class_name, row.split) for row in rows) == sorted(
            (name, split) for name in ("coral", "moss", "slate") for split in manifest.SPLITS
        )


def test_what_was_done_about_the_splits_is_recorded(tmp_path):
    source = tmp_path / "source"
    for number, split in enumerate(("train", "test")):
        write_classes(source / split, n=8, first_seed=10_000 * number)
    for argv, made_by in (
        ((), {"train": "source", "validation": "seed", "test": "source"}),
        (("--resplit",), {"train": "seed", "validation": "seed", "test": "seed"}),
    ):
        assert prepare(source, tmp_path / "data", *argv) == 0
        assert json.loads((tmp_path / "data" / "prep.json").read_text())["split_made_by"] == made_by
    rows = manifest.kept(manifest.read(tmp_path / "data"))
    assert len({row.split for row in rows if row.source.startswith("test/")}) > 1
