"""What the page of app.py says about an image, and a zip of images that are sorted by it."""

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from memevit import pixels
from memevit.model.classifier import Classifier
from memevit.portable import page
from memevit.sorting import archive
from memevit.sorting.rows import Row, row_of


def by(classifier: Classifier) -> page.Classify:
    """A function that answers for a file."""

    def classify(path: Path) -> tuple[page.Answer, page.Image.Image | None]:
        try:
            image = pixels.load_image(path)
        except pixels.UnreadableImageError as error:
            return str(error), None
        (found,) = classifier.classify_images([image])
        by_class = dict(zip(classifier.class_names, found.probabilities.tolist(), strict=True))
        rejected_as = classifier.open_set.settings["reject_label"] if found.accepted is False else ""
        return page.Judged(by_class, found.known_score, rejected_as, found.reason), image

    return classify


def zip_writer(classifier: Classifier) -> page.WriteZip:
    """A function that writes images and what was answered for them as a zip."""
    class_names, decides = classifier.class_names, classifier.open_set is not None

    def write(output: BinaryIO, answered: Sequence[tuple[Path, page.Answer]]) -> None:
        archive.write_sorted_zip(output, ((path, row(path, answer)) for path, answer in answered), class_names)

    def row(path: Path, answer: page.Answer) -> Row:
        if isinstance(answer, str):
            return row_of(path.name, class_names, None, answer, is_filed=True)
        return row_of(
            path.name, class_names, list(answer.by_class.values()), known_score=answer.known_score,
            accepted=not answer.rejected_as if decides else None, reason=answer.reason, is_filed=True,
        )  # fmt: skip

    return write
