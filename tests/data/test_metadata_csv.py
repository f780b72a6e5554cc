"""Tables as spreadsheets and data sets have them."""

import pytest

from memevit.data import layout, metadata_csv


def joined(root, **tables):
    """The metadata of each file after joining these tables (bytes by file name) in a source of two classes."""
    for name in ("a/1.jpg", "a/x y.png", "b/2.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    for name, content in tables.items():
        (root / name.replace("__", ".")).write_bytes(content)
    found = layout.read(root)
    metadata_csv.join(found.around, found.files)
    return {file.name: file.metadata for file in found.files if not file.name.endswith(("csv", "tsv"))}


TABLE = "filename,author\n1.jpg,M\u00fcller\n2.jpg,M\u00f6ller\n"


@pytest.mark.parametrize(
    "content",
    [
        TABLE.encode(),
        TABLE.encode("utf-8-sig"),
        TABLE.encode("utf-16"),
        TABLE.encode("utf-16-le"),
        TABLE.encode("cp1252"),
        TABLE.replace(",", ";").encode(),
        TABLE.replace(",", "\t").encode("utf-16"),
        TABLE.replace("\n", "\r\n").encode(),
        ("sep=;\n" + TABLE.replace(",", ";")).encode(),
        ('"sep=|"\r\n' + TABLE.replace(",", "|")).encode("utf-8-sig"),
        TABLE.replace("filename", "Image").encode(),
        TABLE.replace("filename", "image_id").replace(".jpg", "").encode(),
        TABLE.replace("filename", "id").replace("1.jpg", "a/1").replace("2.jpg", "b\\2").encode(),
        TABLE.replace("filename", " image_path ").replace("1.jpg", "C:\\memes\\a\\1.jpg").encode(),
    ],
)
def test_what_spreadsheets_write_is_read(tmp_path, content):
    found = joined(tmp_path, posts__csv=content)
    assert [found[name].get("author") for name in ("a/1.jpg", "b/2.jpg")] == ["M\u00fcller", "M\u00f6ller"]


def test_the_column_whose_values_are_files_names_them(tmp_path):
    found = joined(tmp_path, posts__csv=b"id,image,author\n17,1.jpg,ann\n18,2.jpg,ben\n")
    assert found["a/1.jpg"] == {"id": "17", "image": "1.jpg", "author": "ann"}


def test_an_old_encoding_is_said(tmp_path, caplog):
    joined(tmp_path, posts__csv=TABLE.encode("cp1252"))
    assert "posts.csv is joined by its column 'filename': 2 of 2 rows" in caplog.text
    assert "read as Windows-1252" in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"title,ups\nx,1\n", "no column names the files. It has ['title', 'ups']"),
        (b"filename,ups\nz.jpg,1\n", "none of the 1 values of its column 'filename' names one file"),
        (b"\x81\x8d\n", "not a table in UTF-8, UTF-16 or Windows-1252"),
    ],
)
def test_a_table_that_is_not_used_is_named_with_the_reason(tmp_path, caplog, content, reason):
    joined(tmp_path, posts__csv=content)
    (said,) = caplog.messages
    assert said.startswith("posts.csv was not used: ")
    assert reason in said


def test_a_table_in_a_class_folder_is_named(tmp_path, caplog):
    joined(tmp_path)
    (tmp_path / "a" / "posts.csv").write_bytes(TABLE.encode())
    joined(tmp_path)
    assert "a/posts.csv was not used: it lies in a class folder. Move it beside those." in caplog.text
