"""Publish a model folder on the Hugging Face Hub, so that anybody can use it by its name.

    python push_to_hub.py --model model/ --repo_id USER/NAME --dry_run
    python push_to_hub.py --model model/ --repo_id USER/NAME --dataset prepared/
    python push_to_hub.py --model model/ --repo_id USER/NAME --public --space

The page is assembled, loaded back and compared with the model here before anything is sent, and fetched and compared
once more when it is there. Private unless --public. The token is the one of `hf auth login` or HF_TOKEN. Running it
again with nothing changed changes nothing.
"""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from memevit import cli, results
from memevit.data import dataset as prepared
from memevit.data import summary
from memevit.data.sample import examples
from memevit.errors import UserError
from memevit.evaluation import predictions
from memevit.hub import assemble, back, checks, dataset_page, model_page, pages, publish, space_page
from memevit.hub.arguments import PushArguments
from memevit.hub.folders import UploadFolders
from memevit.hub.remote import MAIN, Hub, Published, Repository

logger = logging.getLogger(__name__)


def main(args: PushArguments) -> None:
    """Check everything, then publish the dataset, the model and the Space, as far as they are asked for."""
    hub = None if args.dry_run else Hub.connect()
    results.read(args.model)  # A wrong folder is told before anything that takes time.
    data_license = _data_license(args) if args.push_dataset else None
    with tempfile.TemporaryDirectory() as scratch:
        uploads = UploadFolders(Path(scratch), keep_beside=args.model if args.dry_run else None)
        reference = _reference(args, uploads.new("pictures"))
        model_files = pages.model_files(
            uploads,
            args.model,
            reference,
            repo_id=args.repo_id,
            license_id=args.license,
            published_data=model_page.PublishedData(args.data_repo_id, data_license) if data_license else None,
        )
        data_files, space_files = {}, {}
        if data_license:
            text = summary.card(prepared.read_prep(args.dataset), license_id=data_license)
            data_files = pages.dataset_files(uploads, args.dataset, text, repo_id=args.data_repo_id)
        if args.space:
            space_files = pages.space_files(
                uploads,
                repo_id=args.space_repo_id,
                model_id=args.repo_id,
                class_names=reference.class_names,
                examples=examples.draw_examples(uploads.new("examples")),
            )
        if hub is None:
            also = f", and {len(data_files) - 1} files of {args.dataset}" if data_files else ""
            shown = ", ".join(map(str, uploads.kept))
            logger.info("All is well, and nothing was sent. What would go up is in %s%s", shown, also)
            return
        if data_files:
            _publish(
                args, hub, Repository(args.data_repo_id, "dataset"), data_files, "Upload dataset", dataset_page.is_ours
            )
        _publish_model(args, hub, model_files, reference)
        if space_files:
            _publish(args, hub, Repository(args.space_repo_id, "space"), space_files, "Upload demo", space_page.is_ours)
            if not args.public:
                logger.info("While the model is private, the Space needs a secret HF_TOKEN that may read it.")


def _data_license(args: PushArguments) -> str:
    """The licence of the pictures, as the reader says now or has said to data_prep.py."""
    license_id = args.dataset_license or prepared.read_prep(args.dataset)["settings"]["license"]
    if not license_id:
        raise UserError(
            f"Nobody said under which licence the pictures in {args.dataset} may be passed on. Memes belong to the "
            "people who made them: ask, then give --dataset_license, or leave --push_dataset out."
        )
    return license_id


def _reference(args: PushArguments, folder: Path) -> checks.Reference:
    """What the local model says about test pictures, or about drawn ones where there is no dataset."""
    import torch  # Takes seconds to import; a missing token is told before that.

    from memevit.model.classifier import Classifier

    if args.dataset is None:
        paths = checks.drawn_pictures(folder)
    else:
        data = prepared.load(args.dataset)
        if data.fingerprint != (results.read(args.model).get("data") or {}).get("fingerprint"):
            raise UserError(f"{args.model} was trained on other data than {args.dataset}. Name its own --dataset.")
        paths = checks.some_of(data.by_name["test"].paths)
    classifier = Classifier.load(args.model, device=torch.device("cpu"))
    reference = checks.Reference.of(classifier.class_names, list(classifier.classify(paths)))
    if args.dataset is not None:
        recorded = predictions.read(args.model)
        by_file = {
            file: dict(zip(recorded.class_names, own, strict=True))
            for file, own in zip(recorded.paths, recorded.probabilities.tolist(), strict=True)
        }
        checks.agrees_with_record(args.model, by_file, args.dataset, reference)
    return reference


def _publish(
    args: PushArguments,
    hub: Hub,
    repo: Repository,
    contents: dict[str, Path],
    message: str,
    is_ours: Callable[[str], bool],
) -> None:
    pushed = publish.push(hub, repo, contents, message=message, public=args.public, is_ours=is_ours)
    if args.public:
        publish.open_to_all(hub, repo)
    _tell(pushed)


def _publish_model(args: PushArguments, hub: Hub, contents: dict[str, Path], reference: checks.Reference) -> None:
    repo = Repository(args.repo_id, "model", args.revision or MAIN)
    pushed = publish.push(
        hub,
        repo,
        contents,
        message=args.commit_message,
        public=args.public,
        is_ours=assemble.is_ours,
        create_pr=args.create_pr,
        tag=args.tag,
    )
    back.load_back(hub, repo, pushed, contents, reference)
    version = None if args.create_pr else publish.name_version(hub, repo, pushed, args.tag)
    if args.public and not args.create_pr:
        publish.open_to_all(hub, repo)
    _tell(pushed, version)


def _tell(pushed: Published, version: str | None = None) -> None:
    what = "Published:" if pushed.is_new else "Nothing to change, it is there already:"
    logger.info("%s %s%s", what, pushed.url, f" as {version}" if version else "")


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PushArguments, doc=__doc__))
