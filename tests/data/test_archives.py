import contextlib
import io
import os
import random
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

from memevit.data import archives
from memevit.errors import UserError

MEBIBYTE = 1 << 20


def write_zip(path, contents, compression=zipfile.ZIP_DEFLATED):
    """A zip with `contents`: names or ZipInfos with bytes. The same name may come twice."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents:
            entry = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            entry.compress_type = entry.compress_type or compression
            archive.writestr(entry, content)
    return path


def edited(path, at, value, *, of):
    """Write `value` at byte `at` into what the table of contents says of the entry `of`."""
    content = bytearray(path.read_bytes())
    start = content.rindex(of.encode()) - 46
    assert content[start : start + 4] == b"PK\x01\x02"
    content[start + at : start + at + len(value)] = value
    path.write_bytes(content)
    return path


def refusal(zip_path, target_dir):
    with pytest.raises(UserError) as caught:
        archives.extract_zip(zip_path, target_dir)
    return str(caught.value)


def contents_of(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.fixture
def zip_path(tmp_path):
    return tmp_path / "memes.zip"


@pytest.fixture
def target_dir(tmp_path):
    return tmp_path / "unpacked" / "files"


def test_files_and_empty_folders_come_out_as_they_went_in(zip_path, target_dir):
    image = random.Random(0).randbytes(3 * MEBIBYTE)
    contents = {
        "doom/1.jpg": image,
        "doom/deep/2.jpg": b"",
        "animal crossing/Pokémon ü.jpg": b"x",
        "memes.csv": b"a,b",
    }
    write_zip(zip_path, [*contents.items(), ("empty/", b"")])
    archives.extract_zip(zip_path, target_dir)
    assert contents_of(target_dir) == contents
    assert (target_dir / "empty").is_dir()


def test_progress_goes_to_stderr(zip_path, target_dir, capsys):
    archives.extract_zip(write_zip(zip_path, [("doom/1.jpg", b"x")]), target_dir)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Unpacking: 100%" in shown.err


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpg",
        "doom/../../evil.jpg",
        "doom/..",
        "/etc/evil.jpg",
        "//host/share/evil.jpg",
        "..\\evil.jpg",
        "doom\\..\\..\\evil.jpg",
        "\\\\host\\evil.jpg",
        "C:\\evil.jpg",
        "c:/evil.jpg",
        "C:evil.jpg",
    ],
)
def test_a_name_that_leaves_the_folder_is_refused_before_anything_is_written(zip_path, target_dir, name):
    message = refusal(write_zip(zip_path, [("doom/1.jpg", b"x"), (name, b"evil")]), target_dir)
    assert repr(name.replace("\\", "/")) in message
    assert "outside of its folder" in message
    assert os.listdir(zip_path.parent) == ["memes.zip"]


@pytest.mark.parametrize("destination", ["/etc/passwd", "../../evil", "1.jpg"])
def test_a_link_is_refused_wherever_it_leads(zip_path, target_dir, destination):
    link = zipfile.ZipInfo("doom/link.jpg")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    message = refusal(write_zip(zip_path, [(link, destination), ("doom/link.jpg/x", b"x")]), target_dir)
    assert "holds the link 'doom/link.jpg'" in message
    assert not target_dir.exists()


def test_backslashes_between_folders_are_read_as_slashes(zip_path, target_dir):
    archives.extract_zip(write_zip(zip_path, [("doom\\", b""), ("doom\\1.jpg", b"x")]), target_dir)
    assert contents_of(target_dir) == {"doom/1.jpg": b"x"}


def test_a_folder_without_a_slash_at_its_end_is_known_by_its_attribute(zip_path, target_dir):
    folder = zipfile.ZipInfo("doom")
    folder.external_attr = 0x10
    archives.extract_zip(write_zip(zip_path, [(folder, b""), ("doom/1.jpg", b"x")]), target_dir)
    assert contents_of(target_dir) == {"doom/1.jpg": b"x"}


class Unflagged(zipfile.ZipInfo):
    """An entry whose name is written as these bytes, without a word on their encoding."""

    def __init__(self, raw, extra=b""):
        super().__init__("x")
        self.raw, self.extra = raw, extra

    def _encodeFilenameFlags(self):
        return self.raw, self.flag_bits


def test_utf8_names_without_the_flag_are_read_as_utf8(zip_path, target_dir):
    archives.extract_zip(write_zip(zip_path, [(Unflagged("Pokémon/1.jpg".encode()), b"x")]), target_dir)
    assert contents_of(target_dir) == {"Pokémon/1.jpg": b"x"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        *(
            ("cp932", "ソ連/表.jpg"),
            ("big5", "功能/許.jpg"),
            ("gbk", "乗乣/乗.jpg"),
        ),  # All have letters with the byte 0x5C.
        *(("cp949", "게임/1.jpg"), ("cp437", "café/1.jpg")),
    ],
)
def test_names_in_another_encoding_are_asked_for_and_then_read(zip_path, target_dir, encoding, name):
    write_zip(zip_path, [(Unflagged(name.encode(encoding)), b"x"), (Unflagged(b"plain\\2.jpg"), b"y")])
    said = refusal(zip_path, target_dir)
    assert "neither ASCII nor UTF-8" in said
    assert "--zip_encoding" in said
    if encoding != "gbk":  # Of which gb18030 is a superset.
        assert f"{name} ({encoding})" in said
    assert not target_dir.exists()
    archives.extract_zip(zip_path, target_dir, encoding=encoding)
    assert contents_of(target_dir) == {name: b"x", "plain/2.jpg": b"y"}


def test_a_wrong_encoding_is_refused(zip_path, target_dir):
    write_zip(zip_path, [(Unflagged("ソ連/表.jpg".encode("cp932")), b"x")])
    with pytest.raises(UserError, match="names that are not in ascii"):
        archives.extract_zip(zip_path, target_dir, encoding="ascii")


def test_a_name_in_utf8_beside_the_old_one_is_used(zip_path, target_dir):
    raw = "ソ連/1.jpg".encode("cp932")
    field = b"\1" + struct.pack("<I", zlib.crc32(raw)) + "ソ連/1.jpg".encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    archives.extract_zip(write_zip(zip_path, [(Unflagged(raw, extra), b"x")]), target_dir)
    assert contents_of(target_dir) == {"ソ連/1.jpg": b"x"}


def test_what_windows_and_macos_add_is_left_out(zip_path, target_dir):
    litter = ["__MACOSX/doom/._1.jpg", "doom/.DS_Store", "doom/Thumbs.db", "doom/thumbs.db", "desktop.ini"]
    archives.extract_zip(write_zip(zip_path, [("doom/1.jpg", b"x"), *((name, b"?") for name in litter)]), target_dir)
    assert contents_of(target_dir) == {"doom/1.jpg": b"x"}


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_two_files_of_one_name_both_stay_under_names_that_do_not_depend_on_chance(zip_path, target_dir, tmp_path):
    write_zip(zip_path, [("doom/1.jpg", b"first"), ("doom/1.jpg", b"second"), ("doom/1.jpg", b"third")])
    archives.extract_zip(zip_path, target_dir)
    archives.extract_zip(zip_path, tmp_path / "again")
    found = contents_of(target_dir)
    assert found.pop("doom/1.jpg") == b"first"
    assert sorted(found.values()) == [b"second", b"third"]
    assert all(name.endswith(".jpg") for name in found)
    assert contents_of(tmp_path / "again") == contents_of(target_dir)


def test_names_that_differ_only_by_case_stay_two_files(zip_path, target_dir):
    archives.extract_zip(write_zip(zip_path, [("doom/A.jpg", b"x"), ("doom/a.JPG", b"y")]), target_dir)
    assert sorted(contents_of(target_dir).values()) == [b"x", b"y"]


def test_names_that_differ_only_by_case_are_kept_apart_where_the_file_system_does_not():
    entries = [(zipfile.ZipInfo(name), name) for name in ("doom/A.jpg", "doom/a.jpg", "doom/b.jpg")]
    _, files = archives._planned(Path("memes.zip"), entries, key=str.casefold)
    names = [str(path) for _, _, path in files]
    assert names[::2] == ["doom/A.jpg", "doom/b.jpg"]
    assert len({name.casefold() for name in names}) == 3


def test_very_long_names_are_shortened_and_stay_apart(zip_path, target_dir, caplog):
    names = [f"{'ä' * 200}{end}.jpg" for end in "12"]
    write_zip(zip_path, [(f"doom/{name}", name.encode()) for name in names] + [(f"{'d' * 300}/1.jpg", b"x")])
    archives.extract_zip(zip_path, target_dir)
    assert len(contents_of(target_dir)) == 3
    assert all(len(path.name.encode()) <= 255 for path in target_dir.rglob("*"))
    assert "3 of 3 names are too long or there twice and were changed" in caplog.text


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        ([("doom", b"x"), ("doom/1.jpg", b"x")], "'doom' both as a file and as a folder"),
        ([("doom/1.jpg", b"x"), ("doom", b"x")], "'doom' both as a file and as a folder"),
        ([("a/" * 1000 + "1.jpg", b"x")], "too many folders deep"),
        ([("/".join(["d" * 200] * 30) + "/1.jpg", b"x")], "a name that can't be written"),
        ([(".", b"x")], "has no name"),
    ],
)
def test_a_tree_that_no_file_system_holds_is_refused(zip_path, target_dir, contents, expected):
    assert expected in refusal(write_zip(zip_path, contents), target_dir)


def test_an_encrypted_zip_is_named_as_such(zip_path, target_dir):
    edited(write_zip(zip_path, [("doom/1.jpg", b"x")]), 8, b"\x01", of="doom/1.jpg")
    assert "is encrypted (entry 'doom/1.jpg'). Unpack it by hand" in refusal(zip_path, target_dir)


@pytest.mark.parametrize(
    ("method", "name"), [(zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma"), (9, "deflate64"), (98, "ppmd")]
)
def test_a_compression_that_can_not_be_bounded_or_read_is_named(zip_path, target_dir, method, name):
    write_zip(zip_path, [("doom/1.jpg", b"x" * 100)])
    edited(zip_path, 10, struct.pack("<H", method), of="doom/1.jpg")
    assert f"is packed with {name} (entry 'doom/1.jpg')" in refusal(zip_path, target_dir)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty. Download it again."),
        (b"Rar!\x1a\x07", "is not a zip file but a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c", "is not a zip file but a 7-Zip archive"),
        (b"\n<!doctype html>", "is not a zip file but a web page"),
        (b"\xff\xd8\xff\xe0", "is not a zip file but a JPEG image"),
        (b"hello", "is not a zip file but something else"),
    ],
)
def test_what_is_not_a_zip_is_named(zip_path, target_dir, content, expected):
    zip_path.write_bytes(content)
    assert expected in refusal(zip_path, target_dir)


def test_a_truncated_zip_is_named_as_such(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.jpg", random.Random(0).randbytes(10_000))])
    zip_path.write_bytes(zip_path.read_bytes()[:5000])
    assert "whose end is missing, as after an interrupted download" in refusal(zip_path, target_dir)


def test_a_wrong_checksum_names_the_entry(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.jpg", b"fine"), ("doom/2.jpg", b"spoiled")], zipfile.ZIP_STORED)
    zip_path.write_bytes(zip_path.read_bytes().replace(b"spoiled", b"SPOILED"))
    message = refusal(zip_path, target_dir)
    assert "is damaged at 'doom/2.jpg' (Bad CRC-32" in message


def test_damage_anywhere_gives_a_sentence_or_files_and_never_a_traceback(zip_path, target_dir, tmp_path):
    rng = random.Random(0)
    original = write_zip(zip_path, [(f"doom/é{n}.jpg", rng.randbytes(40) * 5) for n in range(3)]).read_bytes()
    for _ in range(300):
        damaged = bytearray(original)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] = rng.choice([0, 255, rng.randrange(256)])
        zip_path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            archives.extract_zip(zip_path, target_dir)
        archives.remove_tree(target_dir)
        assert sorted(os.listdir(tmp_path)) in (["memes.zip"], ["memes.zip", "unpacked"])


def test_a_declared_bomb_is_refused_before_anything_is_written(zip_path, target_dir):
    write_zip(zip_path, [(f"doom/{n}.bmp", b"0" * 1000) for n in range(2)])
    for n in range(2):
        edited(zip_path, 24, struct.pack("<I", 3 << 30), of=f"doom/{n}.bmp")
    assert "to 6,442,450,944 bytes, which no collection of images does" in refusal(zip_path, target_dir)
    assert not target_dir.exists()


def test_an_honest_bomb_is_refused_before_anything_is_written(zip_path, target_dir, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", MEBIBYTE)
    write_zip(zip_path, [("doom/1.bmp", bytes(20 * MEBIBYTE))])
    assert "to 20,971,520 bytes, which no collection of images does" in refusal(zip_path, target_dir)
    assert not target_dir.exists()


def test_a_bomb_that_declares_too_little_writes_no_more_than_it_declared(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.bmp", bytes(20 * MEBIBYTE))])
    edited(zip_path, 24, struct.pack("<I", 1000), of="doom/1.bmp")
    assert "is damaged at 'doom/1.bmp'" in refusal(zip_path, target_dir)
    assert sum(map(len, contents_of(target_dir).values())) <= 1000


def test_a_file_shorter_than_declared_is_damage_even_with_the_right_checksum(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.bmp", b"x" * 1000)])
    edited(zip_path, 24, struct.pack("<I", 2000), of="doom/1.bmp")
    assert "(2,000 bytes declared, 1,000 found)" in refusal(zip_path, target_dir)


def test_entries_that_share_their_bytes_are_refused(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.bmp", bytes(MEBIBYTE)), ("doom/2.bmp", bytes(MEBIBYTE))])
    edited(zip_path, 42, struct.pack("<I", 0), of="doom/2.bmp")
    assert "shares its bytes with another entry" in refusal(zip_path, target_dir)
    assert not target_dir.exists()


def test_tables_that_shrink_a_hundredfold_are_no_bomb(zip_path, target_dir, monkeypatch):
    monkeypatch.setattr(archives, "RATIO_COUNTS_FROM_BYTES", 0)
    table = b"".join(b"doom,%05d,meme,1\n" % (n // 50) for n in range(60_000))
    write_zip(zip_path, [("memes.csv", table)])
    assert len(table) > 100 * zip_path.stat().st_size
    archives.extract_zip(zip_path, target_dir)
    assert contents_of(target_dir) == {"memes.csv": table}


def test_small_files_may_shrink_as_they_like(zip_path, target_dir):
    write_zip(zip_path, [("doom/black.bmp", bytes(50 * MEBIBYTE))])
    archives.extract_zip(zip_path, target_dir)
    assert (target_dir / "doom" / "black.bmp").stat().st_size == 50 * MEBIBYTE


def test_what_does_not_fit_on_the_disk_is_refused_before_anything_is_written(zip_path, target_dir, monkeypatch):
    monkeypatch.setattr(archives, "MAX_RATIO", 1 << 60)
    monkeypatch.setattr(archives, "MAX_UNPACKED_BYTES", 1 << 60)
    with zipfile.ZipFile(zip_path, "w") as archive:
        archive.writestr("doom/1.bmp", b"x")
        archive.infolist()[0].file_size = 1 << 58
    assert "MB are needed" in refusal(zip_path, target_dir)
    assert not target_dir.exists()


def test_a_zip_within_the_zip_stays_a_zip(zip_path, target_dir):
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("../evil.jpg", b"evil")
    archives.extract_zip(write_zip(zip_path, [("doom/more.zip", inner.getvalue())]), target_dir)
    assert contents_of(target_dir) == {"doom/more.zip": inner.getvalue()}


def test_a_zip_after_other_bytes_is_read(zip_path, target_dir):
    write_zip(zip_path, [("doom/1.jpg", b"x")])
    zip_path.write_bytes(b"#!/bin/sh self-extracting\n" + zip_path.read_bytes())
    archives.extract_zip(zip_path, target_dir)
    assert contents_of(target_dir) == {"doom/1.jpg": b"x"}


def test_an_unreadable_file_is_one_sentence(tmp_path, target_dir):
    assert "can't be read (No such file or directory)" in refusal(tmp_path / "gone.zip", target_dir)
