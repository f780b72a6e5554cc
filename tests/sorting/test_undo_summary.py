"""What is said of a run that was taken back."""

from collections import Counter
from pathlib import Path

import pytest

from memevit.sorting import summary
from memevit.sorting.undo import KEPT, NOTHING_TO_DO, REMOVED, RESTORED, Undone


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({REMOVED: 1200}, "1,200 removed from the folders, whose originals are where they were."),
        ({RESTORED: 3, NOTHING_TO_DO: 1}, "3 moved back, 1 as before already."),
        ({}, "Nothing to undo."),
    ],
)
def test_copies_are_removed_and_moved_files_go_back(counts, said):
    (line,) = summary.undone_lines(Undone(Counter(counts)), Path("log"))
    assert line == f"{said} The log log is done with and removed."


def test_what_was_kept_is_named_with_the_reason():
    kept = Undone(Counter({REMOVED: 1, KEPT: 1}), [(Path("a.png"), "it differs from b.png")])
    lines = summary.undone_lines(kept, Path("log"))
    assert lines[0].endswith(", 1 left as they are:")
    assert lines[1:] == ["  a.png: it differs from b.png", "The log stays: log"]
