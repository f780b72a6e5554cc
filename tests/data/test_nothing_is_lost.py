"""A command never takes away what it did not make."""

import zipfile

import pytest

from tests.conftest import run_data_prep, write_classes


def prepare(source, output_dir, *more):
    return run_data_prep("--source", source, "--output_dir", output_dir, "--num_proc", 1, *more)


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("source_name", ["data.partial", "data"])
def test_a_source_where_the_dataset_would_be_built_stays_whole(tmp_path, capsys, source_name):
    source = write_classes(tmp_path / source_name)
    before = names_in(source)
    assert prepare(source, tmp_path / "data", "--overwrite") == 2
    assert "one contains the other" in capsys.readouterr().err
    assert names_in(source) == before


def test_a_zip_in_the_folder_that_would_be_replaced_stays(tmp_path, capsys):
    source = write_classes(tmp_path / "source")
    (tmp_path / "data").mkdir()
    archive_path = tmp_path / "data" / "photos.zip"
    with zipfile.ZipFile(archive_path, "w") as archive:
        for path in sorted(source.rglob("*.png")):
            archive.write(path, path.relative_to(source))
    assert prepare(archive_path, tmp_path / "data", "--overwrite") == 2
    assert "one contains the other" in capsys.readouterr().err
    assert archive_path.exists()


def test_somebody_elses_folder_beside_the_dataset_stays(tmp_path, capsys):
    source = write_classes(tmp_path / "source")
    (tmp_path / "data.partial").mkdir()
    (tmp_path / "data.partial" / "precious.txt").write_text("mine")
    assert prepare(source, tmp_path / "data") == 2
    assert "precious.txt, which is not of data_prep.py" in capsys.readouterr().err
    assert (tmp_path / "data.partial" / "precious.txt").read_text() == "mine"


def test_what_a_killed_run_left_goes_away_also_when_there_is_nothing_to_do(tmp_path):
    source = write_classes(tmp_path / "source")
    assert prepare(source, tmp_path / "data") == 0
    (tmp_path / "data.partial" / "staging").mkdir(parents=True)
    assert prepare(source, tmp_path / "data") == 0
    assert not (tmp_path / "data.partial").exists()


def test_corrections_that_are_no_utf_8_get_a_sentence(tmp_path, capsys):
    source = write_classes(tmp_path / "source")
    (tmp_path / "corrections.csv").write_bytes("file,action\n\xe9,drop\n".encode("latin-1"))
    assert prepare(source, tmp_path / "data", "--corrections", tmp_path / "corrections.csv") == 2
    assert "no CSV file in UTF-8" in capsys.readouterr().err


def test_a_carriage_return_and_a_long_cell_in_a_csv_can_be_read_again(tmp_path):
    from memevit import manifest

    source = write_classes(tmp_path / "source")
    first = sorted(source.rglob("*.png"))[0]
    (source / "posts.csv").write_bytes(
        f'filename,title\n{first.parent.name}/{first.name},"a\rb{"x" * 200_000}"\n'.encode()
    )
    assert prepare(source, tmp_path / "data") == 0
    titles = [row.extra["title"] for row in manifest.read(tmp_path / "data") if row.extra.get("title")]
    assert titles == ["a\\rb" + "x" * 200_000]
