"""Publish a model folder on the Hugging Face Hub, with its dataset and a Space if asked for."""

import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from memevit import PROJECT_URL, results
from memevit.arguments import PushArguments
from memevit.data import dataset as prepared
from memevit.data import dataset_card
from memevit.data.sample import examples
from memevit.errors import UserError
from memevit.evaluation import plots, predictions
from memevit.hub import (
    checks,
    dataset_page,
    description,
    model_page,
    model_repo,
    publish,
    space_page,
    upload,
    web_runtime,
)
from memevit.hub.description import Description
from memevit.hub.html_page import Page
from memevit.hub.model_page import Example, Links
from memevit.hub.remote import MAIN, Hub, Repository
from memevit.hub.upload import UploadFolders

if TYPE_CHECKING:
    import datasets

    from memevit.model.classifier import Classifier

logger = logging.getLogger(__name__)

N_EXAMPLES = 6


def publish_model(args: PushArguments) -> None:
    """Check everything, then publish the dataset, the model and the Space, as far as they are asked for."""
    hub = None if args.dry_run else Hub.connect()
    found = results.read(args.model)  # A wrong folder is reported before anything that takes time.
    data_license = _data_license(args) if args.push_dataset else None
    words = description.describe(
        found,
        name=args.repo_id,
        title=args.title,
        sentence=args.description,
        tags=args.tags,
        source_url=args.source_url,
    )
    with tempfile.TemporaryDirectory() as scratch:
        uploads = UploadFolders(Path(scratch), keep_beside=args.model if args.dry_run else None)
        classifier = _classifier(args.model)
        reference = _reference(args, classifier, uploads.new("images"))
        shown = _examples(args, classifier, uploads.new("examples"))
        onnx, page = _for_browsers(args, classifier, reference, words, uploads.new("graph"))
        data_files, space_files = {}, {}
        if data_license:
            text = dataset_card.render(
                prepared.read_prep(args.dataset),
                license_id=data_license,
                repo_id=args.data_repo_id,
                model_id=args.repo_id,
            )
            data_files = upload.dataset_files(
                uploads, args.dataset, text, repo_id=args.data_repo_id, columns=args.dataset_columns
            )
        if args.space:
            space_files = upload.space_files(
                uploads,
                repo_id=args.space_repo_id,
                model_id=args.repo_id,
                description=words,
                examples=[one.path for one in shown],
                page=page,
            )

        def model_files(version: str | None) -> dict[str, Path]:
            return upload.model_files(
                uploads,
                args.model,
                reference,
                description=words,
                links=replace(_links(args, data_license), version=version),
                license_id=args.license,
                figures=plots.figures(found),
                examples=shown,
                onnx=onnx,
            )

        if hub is None:
            model_files(args.tag)
            also = f", and {len(data_files) - 3} images of {args.dataset}" if data_files else ""
            logger.info(
                "All checks passed, and nothing was sent. The files are in %s%s",
                ", ".join(map(str, uploads.kept)),
                also,
            )
            return
        options = {"public": args.public, "overwrite": args.overwrite_repo}
        others = []
        if data_files:
            repo = Repository(args.data_repo_id, "dataset")
            others.append(publish.prepare(hub, repo, data_files, is_ours=dataset_page.is_ours, **options))
        if space_files:
            repo = Repository(args.space_repo_id, "space", sdk=args.space)
            others.append(publish.prepare(hub, repo, space_files, is_ours=space_page.is_ours, **options))
        model = publish.prepare_version(
            hub,
            Repository(args.repo_id, "model", args.revision or MAIN),
            model_files,
            is_ours=model_repo.is_ours,
            create_pr=args.create_pr,
            tag=args.tag,
            **options,
        )
        publish.publish_all(
            hub,
            model,
            others,
            message=args.commit_message,
            tag=args.tag,
            public=args.public,
            verify=lambda pushed: checks.load_back(hub, model.repo, pushed, model.local_paths, reference),
        )
        if args.space == "gradio" and not args.public:
            logger.info("While the model is private, the Space needs a secret HF_TOKEN that may read it.")


def _data_license(args: PushArguments) -> str:
    """The licence of the images, as given now or to data_prep.py."""
    license_id = args.dataset_license or prepared.read_prep(args.dataset)["settings"]["license"]
    if not license_id:
        raise UserError(
            f"The licence of the images in {args.dataset} is not known. Images belong to the people who made them: "
            "ask, then give --dataset_license, or leave --push_dataset out."
        )
    return license_id


def _links(args: PushArguments, data_license: str | None) -> Links:
    trained = (args.model / model_page.CONFIG_FILE).stat().st_mtime
    return Links(
        repo_id=args.repo_id,
        dataset_repo_id=args.data_repo_id if data_license else None,
        dataset_license=data_license,
        space_repo_id=args.space_repo_id if args.space else None,
        base_model=args.base_model,
        project_url=PROJECT_URL,
        year=time.gmtime(trained).tm_year,
    )


def _classifier(model_dir: Path) -> "Classifier":
    import torch  # Takes seconds to import; a missing token is reported before that.

    from memevit.model.classifier import Classifier

    return Classifier.load(model_dir, device=torch.device("cpu"))


def _reference(args: PushArguments, classifier: "Classifier", folder: Path) -> checks.Reference:
    """What the local model says about test images, or about drawn ones where there is no dataset."""
    if args.dataset is None:
        paths = checks.drawn_images(folder)
    else:
        fingerprint = prepared.read_prep(args.dataset)["fingerprint"]
        if fingerprint != (results.read(args.model).get("data") or {}).get("fingerprint"):
            raise UserError(f"{args.model} was trained on other data than {args.dataset}. Name its own --dataset.")
        paths = checks.some_of(_paths(prepared.load(args.dataset)["test"]))
    reference = checks.Reference.of(classifier.class_names, list(classifier.classify(paths)))
    if args.dataset is not None:
        recorded = predictions.read(args.model)
        by_file = {
            file: dict(zip(recorded.class_names, own, strict=True))
            for file, own in zip(recorded.paths, recorded.probabilities.tolist(), strict=True)
        }
        checks.agrees_with_record(args.model, by_file, args.dataset, reference)
    return reference


def _for_browsers(
    args: PushArguments, classifier: "Classifier", reference: checks.Reference, words: Description, folder: Path
) -> tuple[model_repo.OnnxFiles | None, Page | None]:
    """The model for transformers.js, and the page of a static Space, as far as they are asked for."""
    is_static = args.space == "static"
    if not (args.onnx or is_static):
        return None, None
    from memevit.commands import onnx_graphs  # Imports torch.

    runtime_dir = web_runtime.folder(args.web_runtime) if is_static else None
    graph = onnx_graphs.export(args.model, folder, classifier, reference)
    images = "test images" if args.dataset else "drawn images"
    return (
        onnx_graphs.for_transformers_js(graph, images=images) if args.onnx else None,
        graph.page(runtime_dir, words) if is_static else None,
    )


def _examples(args: PushArguments, classifier: "Classifier", folder: Path) -> list[Example]:
    """Images that may be shown: drawn ones, or test images whose licence allows it; none otherwise."""
    if examples.fits(classifier.class_names):
        paths = examples.draw_examples(folder)
    elif args.dataset and model_repo.may_be_shown(args.dataset_license or _recorded_license(args.dataset)):
        test = prepared.load(args.dataset)["test"]
        paths = model_repo.copy_examples(
            _paths(test), test["label"][:], test.features["label"].names, folder, n=N_EXAMPLES
        )
    else:
        return []
    return [
        Example(one.path, dict(zip(classifier.class_names, one.probabilities.tolist(), strict=True)))
        for one in classifier.classify(paths[:N_EXAMPLES])
        if one.probabilities is not None
    ]


def _paths(split: "datasets.Dataset") -> list[Path]:
    return [Path(path) for path in prepared.paths_of(split)]


def _recorded_license(dataset_dir: Path) -> str | None:
    return prepared.read_prep(dataset_dir)["settings"]["license"]
