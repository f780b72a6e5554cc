"""The last lines of `make demo`: what came out, and where it lies."""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

from memevit import results
from memevit.labels import UNKNOWN

UNRELATED = "unrelated"  # Folder of images of no game.


def summary(demo_dir: Path) -> str:
    """Test accuracy with its interval beside the baselines, and the files that the demo has written."""
    found = results.read(demo_dir / "model")
    lines = ["", "Test accuracy on the drawn sample (it proves the machinery, not the accuracy on real memes):"]
    for one in found["measurements"]:
        if (one["name"], one["split"]) == ("accuracy", "test"):
            interval = f"95 % interval {one['ci_low']:.3f} to {one['ci_high']:.3f}, n = {one['n']}"
            lines.append(f"  {one['subject']:<18} {one['value']:.3f}  ({interval})")
    training = found["training"]
    origin = "random weights" if training["from_scratch"] else training["base_model"]
    lines.append(f"Trained from {origin} in {training['seconds']:.0f} s on {training['hardware']}.")
    with (demo_dir / "rows.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    labels = Counter(row["label"] for row in rows)
    lines.append(f"Sorted {len(rows)} files: {', '.join(f'{n} {label}' for label, n in labels.most_common())}.")
    lines.append(unknown_line([(Path(row["file"]), row["label"]) for row in rows]))
    lines += [
        "Written:",
        f"  {demo_dir}/data-sample  the drawn memes",
        f"  {demo_dir}/data         the dataset; look at contact_sheet.jpg",
        f"  {demo_dir}/model        the model; results.json holds every number",
        f"  {demo_dir}/rows.csv     what each sorted file was taken for",
    ]
    return "\n".join(lines)


def unknown_line(sorted_files: list[tuple[Path, str]]) -> str:
    """What became of the images of no game, and of the test images, in one line.

    Args:
        sorted_files: path and label of each.

    Example:
        >>> drawn = [(Path("unrelated/1.png"), "unknown"), (Path("unrelated/2.png"), "doom")]
        >>> unknown_line([*drawn, (Path("test/doom/1.png"), "doom")])
        '2 unrelated images: 1 unknown, 1 taken for a game; of 1 test images 0 called unknown.'
    """
    unrelated = [label for path, label in sorted_files if path.parent.name == UNRELATED]
    tested = [label for path, label in sorted_files if path.parent.name != UNRELATED]
    n_unknown = unrelated.count(UNKNOWN)
    return (
        f"{len(unrelated)} unrelated images: {n_unknown} unknown, {len(unrelated) - n_unknown} taken for a game; of "
        f"{len(tested)} test images {tested.count(UNKNOWN)} called unknown."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo_dir", type=Path)
    sys.stdout.write(summary(parser.parse_args().demo_dir) + "\n")
