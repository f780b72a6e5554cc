"""Classes added to a prepared dataset, taken out of it or renamed, as a new dataset folder."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

from memevit import files, manifest
from memevit.data import dataset, folder_names, imagefolder, layout, prepare
from memevit.data.layout import Layout, SourceFile
from memevit.errors import UserError


def extend(
    dataset_dir: Path,
    images: Mapping[str, Path],
    output_dir: Path,
    *,
    remove: str | None = None,
    rename: Mapping[str, str] | None = None,
    check: Callable[[dict], None] | None = None,
    n_processes: int | None = None,
    overwrite: bool = False,
) -> dict:
    """Write a dataset with the images of `dataset_dir`, each in its split, and those of new classes.

    New images are verified, compared with one another and with every old image, and divided among all splits. Old
    classes keep their labels; new ones are appended. `dataset_dir` is not changed.

    Args:
        dataset_dir: a prepared dataset.
        images: a folder of images by the name of each new class.
        output_dir: dataset folder to write.
        remove: a class to leave out.
        rename: new names of old classes.
        check: called with the content of prep.json before anything is put at `output_dir`; it may raise.
        n_processes: processes that decode, one per core by default.
        overwrite: replace whatever lies at `output_dir`.

    Returns:
        The content of prep.json.

    Raises:
        UserError: a class name can't be used, or there are too few images.
    """
    output_dir = output_dir.resolve() if output_dir.is_symlink() else output_dir
    for folder in (output_dir, files.partial_of(output_dir)):
        for source in (dataset_dir, *images.values()):
            imagefolder.require_apart(source, folder)
    prep, renamed = dataset.read_prep(dataset_dir), dict(rename or {})
    kept_names = [name for name in prep["classes"] if name != remove]
    class_names = [renamed.get(name, name) for name in kept_names]
    require_new([*renamed.values(), *images], [name for name in kept_names if name not in renamed])
    rows = [row for row in manifest.iter_rows(dataset_dir) if row.class_name != remove]
    for row in rows:
        row.class_name = renamed.get(row.class_name, row.class_name)
    found = [_old(dataset_dir, row) for row in rows if row.status == manifest.KEPT]
    for class_name, folder in images.items():
        found += _new(folder, class_name)
    names = {field.name for field in dataclasses.fields(prepare.Settings)}
    settings = prepare.Settings(**{name: value for name, value in prep["settings"].items() if name in names})
    settings = dataclasses.replace(settings, split_by="group", resplit=False)
    earlier = prepare.Earlier(
        class_names,
        {row.source: row.group for row in rows if row.status == manifest.KEPT},
        [row for row in rows if row.status != manifest.KEPT],
    )
    with files.locked(output_dir):
        return prepare.prepare_layout(
            Layout(sorted(found, key=lambda file: file.name), [], []),
            prep["source"],
            output_dir,
            settings,
            earlier=earlier,
            check=check,
            n_processes=n_processes,
            overwrite=overwrite,
        )


def require_new(class_names: list[str], old_names: list[str]) -> None:
    """Check that classes can be added under `class_names`.

    Raises:
        UserError: one of the names is taken, given twice, or can't be that of a class folder.
    """
    for position, name in enumerate(class_names):
        if name in [*old_names, *class_names[:position]]:
            raise UserError(f"There is a class {name!r} already ({', '.join(old_names)}). Choose another name.")
        if not name.strip() or name != Path(name).name:
            raise UserError(f"{name!r} can't be the name of a class folder. Choose a name without slashes.")
        folder_names.require_usable_name(name)
    folder_names.require_distinct([*old_names, *class_names])


def _old(dataset_dir: Path, row: manifest.Row) -> SourceFile:
    """An image of the earlier dataset, under the name that it had in its source."""
    path = dataset_dir / row.file
    if not path.is_file():
        raise UserError(f"{path} is missing. Run data_prep.py again.")
    return SourceFile(path.parent, path.name, row.source, row.class_name, row.split, metadata=row.extra)


def _new(folder: Path, class_name: str) -> list[SourceFile]:
    if not folder.is_dir():
        raise UserError(f"--images {folder} is not a folder. Name a folder of images.")
    found = list(layout.files_below(folder, folder, ""))
    if not found:
        raise UserError(f"{folder} holds no files. Name a folder with images of {class_name!r}.")
    for file in found:
        file.class_name, file.name = class_name, f"{class_name}/{file.name}"
    return found
