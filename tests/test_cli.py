"""What --help says about a flag."""

import dataclasses
import subprocess
import sys
from dataclasses import field

import pytest

from memevit import cli


@dataclasses.dataclass
class Arguments:
    """Flags of every kind."""

    some_file: str = field(metadata={"help": "A file."})
    n_items: int = field(default=0, metadata={"help": "How many."})
    other: str | None = field(default=None, metadata={"help": "Another file."})
    usual: str | None = field(default=None, metadata={"help": "By default that of the model."})
    dry_run: bool = field(default=False, metadata={"help": "Only say so."})
    cache: bool = field(default=True, metadata={"help": "Keep 100 %% of it."})


@pytest.fixture
def shown(capsys):
    with pytest.raises(SystemExit):
        cli.run(lambda *_: None, Arguments, doc="Do it.\n\n    as here", argv=["--help"])
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "--some_file SOME_FILE A file. (required)",
        "--n_items N_ITEMS How many. (default: 0)",
        "--other OTHER Another file.",
        "--usual USUAL By default that of the model.",
        "--dry_run Only say so.",
        "--cache Keep 100 % of it. (on by default)",
        "--no_cache Turn --cache off.",
    ],
)
def test_help_shows_a_flag_once_and_its_default_if_it_has_one(line, shown):
    found = " ".join(shown)
    assert f" {line} " in f"{found} "
    assert "some-file" not in found


def test_both_spellings_of_a_flag_are_accepted():
    seen = []
    assert cli.run(seen.append, Arguments, doc="", argv=["--some-file", "a", "--dry-run"]) == 0
    assert (seen[0].some_file, seen[0].dry_run) == ("a", True)


def test_help_begins_with_one_line_of_what_must_be_given(shown):
    assert shown[0].startswith("usage: ")
    assert shown[0].endswith(" --some_file SOME_FILE [options]")
    assert shown[1:3] == ["", "Do it."]


def test_messages_of_the_client_of_the_hub_are_shown_once():
    code = (
        "import logging, sys\n"
        "from memevit import cli\n"
        "logger = logging.getLogger('huggingface_hub.utils._http')\n"
        "sys.exit(cli.run(lambda: logger.warning('Retrying'), lambda: (), doc='', argv=[]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["Retrying"]
