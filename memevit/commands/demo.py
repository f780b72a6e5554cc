"""For `make demo`: an inbox to sort, and the last lines, which say what came out and where it lies."""

import argparse
import csv
import shutil
import sys
from collections import Counter
from pathlib import Path

from memevit import manifest, results
from memevit.evaluation import growth
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
        "",
        "With a third game, before and after:",
        growth.table(results.read(demo_dir / "model-3")["growth"]),
        "",
        "Open these five, in this order:",
        f"  1. {demo_dir}/model/report/index.html    which images are wrong, why, and whether it learned or was lucky",
        f"  2. {demo_dir}/sheets/                    the inbox by label; {demo_dir}/sorted/ holds the filed images",
        f"  3. {demo_dir}/model/known_scores.png     how images of no game differ from those of a game",
        f"  4. {demo_dir}/model-3/growth.png         each game before and after Genshin Impact was added",
        f"  5. {demo_dir}/model.upload/README.md  the page that would be published",
        f"Every number is in {demo_dir}/model/results.json; {demo_dir}/data/contact_sheet.jpg shows the images.",
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
