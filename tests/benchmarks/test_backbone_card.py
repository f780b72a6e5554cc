"""The card of the shipped backbone says what was measured."""

import json
from pathlib import Path

import pytest

from benchmarks import backbone_card
from memevit import cli
from memevit.model.backbone import SHIPPED_BACKBONE


@pytest.mark.parametrize("name", ["README.md", "SOURCES.md"])
def test_the_committed_card_is_what_the_results_give(tmp_path, name):
    folder = tmp_path / SHIPPED_BACKBONE.name
    folder.mkdir()
    (folder / "model.safetensors").symlink_to(SHIPPED_BACKBONE / "model.safetensors")
    argv = ["--backbone", str(folder)]
    assert cli.run(backbone_card.main, backbone_card.CardArguments, doc=None, argv=argv) == 0
    assert (folder / name).read_text() == (SHIPPED_BACKBONE / name).read_text()


def test_no_package_holds_a_game_on_which_the_backbone_is_measured():
    games = ("freedoom", "supertux", "colobot", "unknown-horizons", "wesnoth", "tuxemon", "ancient-beast")
    index = json.loads((backbone_card.RESULTS_DIR / "distillation_images.json").read_text())
    packages = [row["name"] for row in index["packages"]]
    assert len(packages) > 50
    assert not [name for name in packages if any(game in name for game in games)]
    assert not set(packages) & {"tuxpaint-stamps-default", "gcompris-qt-data"}  # Of debian_photographs.py.
    assert set(index["search"]["deleted"].values()) <= {"template", "image"}
    assert Path(backbone_card.__file__).with_name("debian_images.json").is_file()
