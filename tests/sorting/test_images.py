"""Contact sheets, and zips of sorted images."""

import io
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from memevit.sorting import archive, contact_sheet
from memevit.sorting.contact_sheet import ContactSheets
from memevit.sorting.rows import row_of
from tests.conftest import draw_image


def test_a_sheet_shows_the_least_certain_images_first_and_a_sample_of_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "N_LEAST_CERTAIN", 3)
    monkeypatch.setattr(contact_sheet, "N_OTHERS", 2)
    sheets, drawn = ContactSheets(), []
    for number in range(50):
        share = 0.99 - 0.009 * ((number * 17) % 50)
        sheets.add(row_of("", ["doom", "b/c"], [share, 1 - share]), Path(f"{number}.png"))
    monkeypatch.setattr(contact_sheet, "_draw_tile", lambda *given: drawn.append(given[-1]))
    assert sheets.write(tmp_path / "sheets") == [tmp_path / "sheets" / "doom.jpg"]
    assert drawn[:3] == pytest.approx([0.99 - 0.009 * rank for rank in (49, 48, 47)])
    assert len(drawn) == 5


def test_sheets_are_images_with_a_tile_per_file_also_for_one_that_has_gone(tmp_path):
    sheets = ContactSheets()
    draw_image(1).save(tmp_path / "a.png")
    for name, shares in (("gone.png", [0.1, 0.9]), ("a.png", [0.2, 0.8])):
        sheets.add(row_of("", ["doom", "b/c\x1b"], shares), tmp_path / name)
    sheets.add(row_of("", ["doom", "b/c\x1b"], None, "broken"), tmp_path / "x")
    (path,) = sheets.write(tmp_path / "sheets")
    assert path.name == "b_c_.jpg"
    with Image.open(path) as sheet:
        left = sheet.crop((8, 40, 168, 200)).convert("L")
        right = sheet.crop((176, 40, 336, 200)).convert("L")
    darkest, brightest = left.getextrema()
    assert brightest - darkest > 100  # The drawn image; beside it, an empty tile.
    assert right.getextrema()[0] > 200


def test_a_zip_holds_every_image_in_the_folder_of_its_label_and_a_table(tmp_path):
    names = ["a.jpg", "a.jpg", "../../evil\n.png", "A.JPG", "b.png"]
    given = []
    for number, name in enumerate(names):
        shares = [0.1, 0.9] if number < 4 else None
        accepted = number != 2
        (tmp_path / str(number)).write_bytes(b"%d" % number)
        row = row_of(name, ["doom", "AC/DC"], shares, "broken", accepted=accepted, is_filed=True)
        given.append((tmp_path / str(number), row))
    output = io.BytesIO()
    archive.write_sorted_zip(output, given, ["doom", "AC/DC"])
    with zipfile.ZipFile(output) as found:
        contents = {name: found.read(name) for name in found.namelist()}
    lines = contents.pop("answers.csv").decode().splitlines()
    assert contents == {
        "AC_DC/a.jpg": b"0", "AC_DC/a_2.jpg": b"1", "unknown/evil_.png": b"2", "AC_DC/A_3.JPG": b"3",
        "unreadable/b.png": b"4",
    }  # fmt: skip
    assert lines[0] == "file,label,predicted,confidence,known_score,accepted,reason,placed,p_doom,p_AC/DC"
    assert lines[2] == "a.jpg,AC/DC,AC/DC,0.9,,true,,AC_DC/a_2.jpg,0.1,0.9"
    assert lines[5] == "b.png,unreadable,,,,,broken,unreadable/b.png,,"
