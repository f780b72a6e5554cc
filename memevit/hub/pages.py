"""Put together and check what goes up: the files of a model page, of a dataset and of a Space, by their paths there."""

from collections.abc import Sequence
from pathlib import Path

from memevit import files
from memevit.hub import assemble, checks, dataset_page, model_page, publish, space_page
from memevit.hub.folders import UploadFolders


def model_files(
    uploads: UploadFolders,
    model_dir: Path,
    reference: checks.Reference,
    *,
    repo_id: str,
    license_id: str | None,
    published_data: model_page.PublishedData | None,
) -> dict[str, Path]:
    """The files of a model page that says the same as the model in `model_dir`.

    Args:
        uploads: where they are put together.
        model_dir: a model folder that finetune_vit.py wrote.
        reference: what the local model says about some pictures.
        repo_id: name on the Hub.
        license_id: licence of the model, if it is not that of a known backbone.
        published_data: dataset on the Hub that the model was trained on, if there is one.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("model")
    assemble.assemble(model_dir, folder, repo_id=repo_id, license_id=license_id, published_data=published_data)
    folder = uploads.place(folder, assemble.is_ours)
    checks.check(folder, reference)
    return publish.files_in(folder)


def dataset_files(uploads: UploadFolders, dataset_dir: Path, card_text: str, *, repo_id: str) -> dict[str, Path]:
    """The files of a dataset that data_prep.py wrote, with `card_text` as its README.md.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("data")
    files.write_text(folder / publish.CARD_FILE, card_text)
    contents = dataset_page.collect(dataset_dir, uploads.place(folder, dataset_page.is_ours) / publish.CARD_FILE)
    checks.refuse(dataset_page.faults(contents), repo_id)
    return contents


def space_files(
    uploads: UploadFolders, *, repo_id: str, model_id: str, class_names: Sequence[str], examples: Sequence[Path]
) -> dict[str, Path]:
    """The files of a Space to try the model `model_id`.

    Raises:
        UserError: something must not be published.
    """
    folder = uploads.new("demo")
    space_page.assemble(folder, model_id=model_id, class_names=class_names, examples=examples)
    folder = uploads.place(folder, space_page.is_ours)
    checks.refuse(space_page.faults(folder, examples), repo_id)
    return publish.files_in(folder)
