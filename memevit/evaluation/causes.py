"""Why an image was misclassified: causes that are measured on it, each with a remedy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from memevit.evaluation import shortcuts, text_share
from memevit.evaluation.predictions import softmax
from memevit.manifest import Row

Predict = Callable[[Sequence[Image.Image]], np.ndarray]  # Logits [n, C] of RGB images.

LABEL, TWIN, TEMPLATE, BOTH, TEXT, SMALL = "label", "twin", "template", "both", "text", "small"
UNLIKE, COLOUR, CAPTION, BORDER = "unlike", "colour", "caption", "border"
FRAGILE, UNSTABLE, CLOSE = "fragile", "unstable", "close"
NONE = "none"
VAGUE = (FRAGILE, UNSTABLE, CLOSE, NONE)  # They say little about what to do.
# In the order in which they are shown: what can be corrected comes first.
TITLES = {
    LABEL: "possibly a wrong label",
    TWIN: "near-duplicate of a training image of another class",
    TEMPLATE: "in a template known from another class",
    BOTH: "shows both classes",
    TEXT: "mostly text",
    SMALL: "few pixels",
    UNLIKE: "unlike anything in training",
    CAPTION: "misled by the top or bottom edge",
    BORDER: "misled by the border",
    COLOUR: "misled by colour",
    FRAGILE: "fragile: several small changes correct it",
    UNSTABLE: "models trained on other images disagree",
    CLOSE: "a close call",
    NONE: "no cause found",
}
REMEDIES = {
    LABEL: "Look at it, relabel it if the suggestion is right, and train again.",
    TWIN: "The same image stands in two classes. Decide which one is right and relabel or drop the other.",
    TEMPLATE: "Add training images of the true class in this template (frame, layout), so that it tells nothing.",
    BOTH: "No single class is right. Drop it, or keep such images out of training.",
    TEXT: "There is little to see. Drop it, or accept that such images need a reader, not an image classifier.",
    SMALL: "Use a larger copy if there is one; else drop it.",
    UNLIKE: "Add training images of this kind: the model has seen nothing like it.",
    CAPTION: "Add images of both classes with captions, so that captions tell nothing.",
    BORDER: "Crop frames and watermarks, or make sure that all classes have them.",
    COLOUR: "Add images of the true class in these colours.",
    FRAGILE: "Nothing in particular misled it. More varied training images of the true class help.",
    UNSTABLE: "More training images would settle it.",
    CLOSE: "It lies near the boundary. Similar training images of the true class help most.",
    NONE: "Compare it with the nearest training images below.",
}
_MIN_PIXELS = 96 * 96  # Of the original file.
_SURE = (0.9, 0.95, 0.98, 0.99, 0.995)  # Probabilities in each half for "shows both classes", see `sure_enough`.
_MAX_FALSE = 0.05  # Share of correct images of which may be said that they show both classes.
_RESTORED = 0.7  # Probability of the true class once what misled is gone.
_CLOSE_CALL = 0.65
_HALVES = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0), (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0))
_HALF_NAMES = ("left", "right", "upper", "lower")
_OPPOSITE = ((0, 1), (1, 0), (2, 3), (3, 2))
_WITHOUT = ((COLOUR, shortcuts.GREY), (CAPTION, shortcuts.CAPTIONS), (BORDER, shortcuts.CENTRE))


@dataclass(frozen=True)
class Cause:
    """One cause of one mistake: its key in `TITLES`, and what was measured, as a sentence."""

    key: str
    measured: str


def sure_enough(images: Sequence[Image.Image], labels: Sequence[int], predict: Predict) -> float | None:
    """The probability from which on two halves of an image count as two classes; None where no value is strict enough.

    Of at most 5 % of the given images, which are classified correctly and so show one class, it may be said falsely.

    Args:
        images: RGB, classified correctly.
        labels: their class ids.
        predict: the model.
    """
    weakest = []
    for image, label in zip(images, labels, strict=True):
        shares = softmax(predict(_halves(image)))
        others = np.delete(shares, label, axis=1).max(axis=1)
        weakest.append(max(min(shares[own, label], others[other]) for own, other in _OPPOSITE))
    for sure in _SURE:
        if not weakest or np.mean(np.array(weakest) >= sure) <= _MAX_FALSE:
            return sure
    return None


def _halves(image: Image.Image) -> list[Image.Image]:
    width, height = image.size
    return [
        image.crop((int(a * width), int(b * height), max(int(c * width), 1), max(int(d * height), 1)))
        for a, b, c, d in _HALVES
    ]


def seen_in_image(
    image: Image.Image,
    row: Row,
    true: int,
    predicted: int,
    class_names: Sequence[str],
    predict: Predict,
    *,
    sure: float | None,
) -> list[Cause]:
    """Causes that the image itself shows, by measuring it and by asking the model about parts and altered copies.

    Args:
        image: RGB, at least 2 pixels wide and high.
        row: of the manifest.
        true: class id.
        predicted: class id.
        class_names: by id.
        predict: the model.
        sure: of `sure_enough`.
    """
    halves = _halves(image)
    altered = [shortcuts.VARIANTS[name](image) for _, name in _WITHOUT]
    shares = softmax(predict(halves + altered))
    found = [] if sure is None else _two_classes(shares[: len(halves)], true, predicted, class_names, sure)
    text, plain = text_share.shares(image)
    if text_share.is_mostly_text(image):
        found.append(Cause(TEXT, f"{_percent(text)} of its area looks like text, {_percent(plain)} is plain."))
    if 0 < row.width_px * row.height_px < _MIN_PIXELS:
        found.append(Cause(SMALL, f"The file has {row.width_px} x {row.height_px} pixels."))
    return found + _misled(shares[len(halves) :], true)


def _two_classes(shares: np.ndarray, true: int, predicted: int, class_names: Sequence[str], sure: float) -> list[Cause]:
    for own, other in _OPPOSITE:
        if shares[own, true] >= sure and shares[other, predicted] >= sure:
            measured = (
                f"Alone, its {_HALF_NAMES[own]} half is {class_names[true]} ({_percent(shares[own, true])}) and its "
                f"{_HALF_NAMES[other]} half {class_names[predicted]} ({_percent(shares[other, predicted])})."
            )
            return [Cause(BOTH, measured)]
    return []


def _misled(shares: np.ndarray, true: int) -> list[Cause]:
    """What misled the model: the one alteration after which it is right; if several do that, none of them did it."""
    how = {COLOUR: "in greyscale", CAPTION: "with top and bottom hidden", BORDER: "with its border hidden"}
    restoring = [
        (key, float(own[true]))
        for (key, _), own in zip(_WITHOUT, shares, strict=True)
        if own[true] >= _RESTORED and own.argmax() == true
    ]
    if len(restoring) == 1:
        key, share = restoring[0]
        return [Cause(key, f"It is classified correctly {how[key]} ({_percent(share)}), and only then.")]
    if restoring:
        ways = "; ".join(f"{how[key]} ({_percent(share)})" for key, share in restoring)
        return [Cause(FRAGILE, f"It is classified correctly {ways}.")]
    return []


def close_call(p_predicted: float, p_true: float) -> list[Cause]:
    """A cause if the model hardly preferred the wrong class.

    Example:
        >>> close_call(0.55, 0.45)[0].measured, close_call(0.9, 0.1)
        ('The two probabilities are 55 % and 45 %.', [])
    """
    if p_predicted >= _CLOSE_CALL:
        return []
    return [Cause(CLOSE, f"The two probabilities are {_percent(p_predicted)} and {_percent(p_true)}.")]


def in_order(causes: list[Cause]) -> list[Cause]:
    """The causes as they are shown, or the one that says there is none."""
    if not causes:
        return [Cause(NONE, "None of the measured causes applies.")]
    order = list(TITLES)
    return sorted(causes, key=lambda cause: order.index(cause.key))


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
