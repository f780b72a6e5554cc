"""Cross-validation: every picture is tested once, by a model that has not seen its group."""

from pathlib import Path

from memevit import manifest
from memevit.data.dataset import Split
from memevit.errors import UserError


def splits_by_fold(dataset_dir: Path) -> dict[str, dict[str, Split]]:
    """Train, validation and test pictures of each fold, by the fold's name in manifest.csv.

    The fold itself is tested, the next one (after the last comes the first) chooses the checkpoint, the others train.

    Raises:
        UserError: data_prep.py was run without `--folds`, or with fewer than 3.
    """
    rows = manifest.kept(manifest.read(dataset_dir))
    class_names = manifest.class_names(rows)
    names = sorted({row.fold for row in rows if row.fold}, key=lambda name: (len(name), name))
    if len(names) < 3:
        found = f"{len(names)} folds" if names else "no folds"
        raise UserError(
            f"{dataset_dir} has {found}; one is tested, one chooses the checkpoint, and at least one trains. Run "
            "data_prep.py again with --folds 5."
        )
    if without := [row.file for row in rows if not row.fold]:
        raise UserError(f"{len(without)} pictures are in no fold, first {without[0]}. Run data_prep.py again.")
    found = {}
    for number, test in enumerate(names):
        validation = names[(number + 1) % len(names)]
        role = dict.fromkeys(names, "train") | {validation: "validation", test: "test"}
        members = {split: [row for row in rows if role[row.fold] == split] for split in manifest.SPLITS}
        found[test] = {
            split: Split(
                [dataset_dir / row.file for row in chosen],
                [row.file for row in chosen],
                [class_names.index(row.class_name) for row in chosen],
            )
            for split, chosen in members.items()
        }
    return found
