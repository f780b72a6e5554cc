"""For `make demo`: an inbox to sort, and the last lines, which say what came out and where it lies."""

import argparse
import csv
import shutil
import sys
from collections import Counter
from pathlib import Path

from memevit import manifest, results
from memevit.labels import UNKNOWN


def fill_inbox(demo_dir: Path) -> None:
    """Put together what a folder of memes holds: test images, crossovers of both games, unrelated and broken ones."""
    inbox, source = demo_dir / "inbox", demo_dir / "data-sample"
    inbox.mkdir()
    odd = [row for row in manifest.read(demo_dir / "data") if row.status in (manifest.CONFLICT, manifest.REJECTED)]
    paths = [
        *(demo_dir / "data" / "test").rglob("*.*"),
        *(source / "held_apart" / "unrelated").iterdir(),
        *(source / "doom-crossing" / row.source for row in odd),
    ]
    for path in sorted(paths):
        shutil.copy2(path, inbox / path.name)


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
        label_of = {Path(row["file"]).name: row["label"] for row in csv.DictReader(file)}
    labels = Counter(label_of.values())
    lines.append(f"Filed {labels.total()} images: {', '.join(f'{n} {label}' for label, n in labels.most_common())}.")
    unrelated = [path.name for path in (demo_dir / "data-sample" / "held_apart" / "unrelated").iterdir()]
    tested = [path.name for path in (demo_dir / "data" / "test").rglob("*.*")]
    lines.append(unknown_line([label_of[name] for name in unrelated], [label_of[name] for name in tested]))
    lines += [
        "Written:",
        f"  {demo_dir}/data-sample  the drawn memes",
        f"  {demo_dir}/data         the dataset; look at contact_sheet.jpg",
        f"  {demo_dir}/model        the model; results.json holds every number",
        f"  {demo_dir}/model/report/index.html  open it in a browser: what went wrong, why, and whether it learned",
        f"  {demo_dir}/inbox        test images, crossovers, unrelated and broken files, mixed",
        f"  {demo_dir}/sorted       the inbox in a folder per label; its log takes it back (--undo)",
        f"  {demo_dir}/sheets       look here: an overview of each label, the least certain images first",
        f"  {demo_dir}/rows.csv     what each file was taken for, and why",
    ]
    return "\n".join(lines)


def unknown_line(unrelated: list[str], tested: list[str]) -> str:
    """What became of the images of no game, and of the test images, in one line.

    Args:
        unrelated: label of each image of no game.
        tested: label of each test image.

    Example:
        >>> unknown_line(["unknown", "doom"], ["doom"])
        '2 unrelated images: 1 unknown, 1 taken for a game; of 1 test images 0 called unknown.'
    """
    n_unknown = unrelated.count(UNKNOWN)
    return (
        f"{len(unrelated)} unrelated images: {n_unknown} unknown, {len(unrelated) - n_unknown} taken for a game; of "
        f"{len(tested)} test images {tested.count(UNKNOWN)} called unknown."
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("demo_dir", type=Path)
    parser.add_argument("--fill_inbox", action="store_true")
    given = parser.parse_args()
    if given.fill_inbox:
        fill_inbox(given.demo_dir)
    else:
        sys.stdout.write(summary(given.demo_dir) + "\n")
