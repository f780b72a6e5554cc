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
from memevit.data import prepared, summary
from memevit.data.sample import examples
from memevit.errors import UserError
from memevit.evaluation import predictions
from memevit.hub import assemble, back, dataset, gate, publish, spaces
from memevit.hub.arguments import PushArguments
from memevit.hub.folders import UploadFolders
from memevit.hub.remote import MAIN, Hub, Published, Repository

IsOurs = Callable[[str], bool]

logger = logging.getLogger(__name__)


def main(args: PushArguments) -> None:
    """Check everything, then publish the dataset, the model and the Space, as far as they are asked for."""
    hub = None if args.dry_run else Hub.connect()
    with tempfile.TemporaryDirectory() as scratch:
        uploads = UploadFolders(Path(scratch), keep_beside=args.model if args.dry_run else None)
        reference = _reference(args, uploads.new("pictures"))
        data_files = _dataset_files(args, uploads) if args.push_dataset else None
        model_files = _model_files(args, uploads, reference)
        space_files = _space_files(args, uploads, reference.class_names) if args.space else None
        if hub is None:
            logger.info("All is well; nothing was sent. What would go up: %s", ", ".join(map(str, uploads.kept)))
            return
        if data_files is not None:
            _publish(args, hub, Repository(args.data_repo_id, "dataset"), data_files, "Upload dataset", dataset.is_ours)
        _publish_model(args, hub, model_files, reference)
        if space_files is not None:
            _publish(args, hub, Repository(args.space_repo_id, "space"), space_files, "Upload demo", spaces.is_ours)


def _reference(args: PushArguments, folder: Path) -> gate.Reference:
    """What the local model says about test pictures, or about drawn ones where there is no dataset."""
    import torch  # Takes seconds to import; a missing token is told before that.

    from memevit.model.inference import Classifier

    results.read(args.model)  # The sentence for a folder that is no model folder.
    if args.dataset is None:
        paths = gate.drawn_pictures(folder)
    else:
        data = prepared.load(args.dataset)
        if data.fingerprint != (results.read(args.model).get("data") or {}).get("fingerprint"):
            raise UserError(f"{args.model} was trained on other data than {args.dataset}. Name its own --dataset.")
        paths = gate.some_of(data.by_name["test"].paths)
    classifier = Classifier.load(args.model, device=torch.device("cpu"))
    reference = gate.Reference.of(classifier.class_names, list(classifier.classify(paths)))
    if args.dataset is not None:
        recorded = predictions.read(args.model)
        by_file = {
            file: dict(zip(recorded.class_names, own, strict=True))
            for file, own in zip(recorded.paths, recorded.probabilities.tolist(), strict=True)
        }
        gate.agrees_with_record(args.model, by_file, args.dataset, reference)
    return reference


def _dataset_files(args: PushArguments, uploads: UploadFolders) -> dict[str, Path]:
    prep = prepared.read_prep(args.dataset)
    license_id = args.dataset_license or prep["settings"]["license"]
    if not license_id:
        raise UserError(
            f"Nobody said under which licence the pictures in {args.dataset} may be passed on. Memes belong to the "
            "people who made them: ask, then give --dataset_license, or leave --push_dataset out."
        )
    folder = uploads.new("data")
    (folder / dataset.CARD_FILE).write_text(summary.card(prep, license_id=license_id), encoding="utf-8")
    contents = dataset.collect(args.dataset, uploads.place(folder, dataset.is_ours) / dataset.CARD_FILE)
    gate.refuse(dataset.faults(contents), args.data_repo_id)
    return contents


def _model_files(args: PushArguments, uploads: UploadFolders, reference: gate.Reference) -> dict[str, Path]:
    folder = uploads.new("model")
    assemble.assemble(
        args.model,
        folder,
        repo_id=args.repo_id,
        license_id=args.license,
        dataset_repo_id=args.data_repo_id if args.push_dataset else None,
    )
    folder = uploads.place(folder, assemble.is_ours)
    gate.check(folder, reference)
    return publish.files_in(folder)


def _space_files(args: PushArguments, uploads: UploadFolders, class_names: list[str]) -> dict[str, Path]:
    shown = examples.draw_examples(uploads.new("examples"))
    folder = uploads.new("demo")
    spaces.assemble(folder, model_id=args.repo_id, class_names=class_names, examples=shown)
    folder = uploads.place(folder, spaces.is_ours)
    gate.refuse(spaces.faults(folder, shown), args.space_repo_id)
    return publish.files_in(folder)


def _publish(
    args: PushArguments, hub: Hub, repo: Repository, contents: dict[str, Path], message: str, is_ours: IsOurs
) -> None:
    pushed = publish.push(hub, repo, contents, message=message, public=args.public, is_ours=is_ours)
    if args.public:
        publish.open_to_all(hub, repo)
    _tell(pushed)


def _publish_model(args: PushArguments, hub: Hub, contents: dict[str, Path], reference: gate.Reference) -> None:
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
    version = None
    if not args.create_pr:
        version = publish.name_version(hub, repo, pushed, args.tag)
        if args.public:
            publish.open_to_all(hub, repo)
    _tell(pushed, version)


def _tell(pushed: Published, version: str | None = None) -> None:
    what = "Published:" if pushed.is_new else "Nothing to change, it is there already:"
    logger.info("%s %s%s", what, pushed.url, f" as {version}" if version else "")


if __name__ == "__main__":
    raise SystemExit(cli.run(main, PushArguments, doc=__doc__))
