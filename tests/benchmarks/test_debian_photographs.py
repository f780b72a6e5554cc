"""Photographs of Debian's packages: resource files of Qt, and which images are taken."""

import csv
import struct
import zlib

import pytest

from benchmarks import debian_photographs
from memevit.errors import UserError


def packed(files, *, version):
    """A resource file of Qt with one folder `images`, as `rcc --binary` writes it."""
    names, nodes, data = b"", b"", b""
    end = b"\0" * 8 if version > 1 else b""

    def name_of(text):
        nonlocal names
        start = len(names)
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
        return start

    nodes += struct.pack(">IHII", 0, 2, 1, 1) + end
    nodes += struct.pack(">IHII", name_of("images"), 2, len(files), 2) + end
    for name, content, is_compressed in files:
        stored = struct.pack(">I", len(content)) + zlib.compress(content) if is_compressed else content
        nodes += struct.pack(">IHII", name_of(name), int(is_compressed), 0, len(data)) + end
        data += struct.pack(">I", len(stored)) + stored
    start = 20
    header = struct.pack(">4s4I", b"qres", version, start, start + len(nodes), start + len(nodes) + len(data))
    return header + nodes + data + names


@pytest.mark.parametrize("version", [1, 2])
def test_files_of_a_qt_resource_file_come_out_as_they_went_in(version):
    content = packed([("crane.webp", b"first", False), ("tern.jpg", b"second" * 9, True)], version=version)
    assert list(debian_photographs.resources_in(content)) == [
        ("images/crane.webp", b"first"), ("images/tern.jpg", b"second" * 9)
    ]  # fmt: skip


def test_another_file_is_refused():
    with pytest.raises(UserError, match="begins with `qres`"):
        list(debian_photographs.resources_in(b"RIFF" + b"\0" * 40))


def test_drawings_mirrored_stamps_and_other_subjects_are_left_out_and_numbers_are_one_group(tmp_path):
    found = [
        ("animals/birds/crane1.png", b"a"), ("animals/birds/crane_2.png", b"b"), ("animals/birds/x_mirror.png", b"c"),
        ("animals/birds/cartoon/owl.png", b"d"), ("symbols/math/plus.png", b"e"), ("animals/birds/crane.txt", b"f"),
        ("explore_monuments/india/fort.webp", b"g"),
    ]  # fmt: skip
    n_of = debian_photographs.write(found, tmp_path / "out")
    assert {name: n for name, n in n_of.items() if n} == {"buildings": 1, "other_animals": 2}
    with (tmp_path / "out" / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["group"] for row in rows] == ["animals/birds/crane"] * 2 + ["explore_monuments/india/fort"]
    assert (tmp_path / "out" / rows[2]["class"] / rows[2]["file"]).read_bytes() == b"g"


def test_packages_without_known_images_are_refused(tmp_path):
    with pytest.raises(UserError, match="none of the images"):
        debian_photographs.write([("symbols/plus.png", b"")], tmp_path / "out")
