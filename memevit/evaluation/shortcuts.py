"""Altered images that show what a model depends on: without colour, detail, order, border, centre or captions."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from memevit.evaluation.significance import MCNEMAR, WILSON, Paired, paired_interval, wilson_interval

_BLUR = 1 / 32  # Radius of the blur as a share of the longer side.
_FRAME = 0.2  # Share of each side that counts as border.
_CAPTION = 0.22  # Share of the height at top and bottom where captions usually stand.
_JPEG_QUALITY = 30
_GREY = (128, 128, 128)

ORIGINAL = "original"
GREY, BLUR, SHUFFLE_2, SHUFFLE_4 = "greyscale", "blurred", "shuffled 2x2", "shuffled 4x4"
BORDER, CENTRE, CAPTIONS, ENCODED = "border only", "centre only", "captions hidden", "JPEG, low quality"


def greyscale(image: Image.Image) -> Image.Image:
    """Without colour."""
    return image.convert("L").convert("RGB")


def blurred(image: Image.Image) -> Image.Image:
    """Without detail: Gaussian blur of a 32nd of the longer side."""
    return image.filter(ImageFilter.GaussianBlur(max(image.size) * _BLUR))


def shuffled(image: Image.Image, n: int) -> Image.Image:
    """With its n x n parts in another order, in which no part keeps its place; the same order for every image."""
    size = (max(n, image.width - image.width % n), max(n, image.height - image.height % n))
    part = (size[0] // n, size[1] // n)
    whole = image if image.size == size else image.resize(size, Image.Resampling.BILINEAR)
    corners = [(column * part[0], row * part[1]) for row in range(n) for column in range(n)]
    mixed = Image.new("RGB", size)
    # A cycle through a random order moves every part.
    order = np.random.default_rng(n).permutation(n * n)
    for source, target in zip(order, np.roll(order, 1), strict=True):
        left, top = corners[source]
        mixed.paste(whole.crop((left, top, left + part[0], top + part[1])), corners[target])
    return mixed


def _inner(image: Image.Image) -> tuple[int, int, int, int]:
    margin = (round(image.width * _FRAME), round(image.height * _FRAME))
    return (margin[0], margin[1], image.width - margin[0], image.height - margin[1])


def border_only(image: Image.Image) -> Image.Image:
    """With its inner 60 % x 60 % in grey."""
    masked = image.copy()
    masked.paste(_GREY, _inner(image))
    return masked


def centre_only(image: Image.Image) -> Image.Image:
    """With all but its inner 60 % x 60 % in grey."""
    masked = Image.new("RGB", image.size, _GREY)
    box = _inner(image)
    masked.paste(image.crop(box), box[:2])
    return masked


def captions_hidden(image: Image.Image) -> Image.Image:
    """With the top and bottom 22 % in grey, where captions usually stand."""
    masked = image.copy()
    height = round(image.height * _CAPTION)
    masked.paste(_GREY, (0, 0, image.width, height))
    masked.paste(_GREY, (0, image.height - height, image.width, image.height))
    return masked


def reencoded(image: Image.Image) -> Image.Image:
    """Saved as JPEG of quality 30, so that all files have the same compression."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_JPEG_QUALITY)
    with Image.open(content) as opened:
        return opened.convert("RGB")


VARIANTS: dict[str, Callable[[Image.Image], Image.Image]] = {
    GREY: greyscale,
    BLUR: blurred,
    SHUFFLE_2: lambda image: shuffled(image, 2),
    SHUFFLE_4: lambda image: shuffled(image, 4),
    BORDER: border_only,
    CENTRE: centre_only,
    CAPTIONS: captions_hidden,
    ENCODED: reencoded,
}

MEANS = {
    GREY: "colour",
    BLUR: "fine detail",
    SHUFFLE_2: "the order of the quarters",
    SHUFFLE_4: "the overall layout",
    BORDER: "the centre",
    CENTRE: "the border",
    CAPTIONS: "the top and bottom edge, where captions stand",
    ENCODED: "how the file was compressed",
}


def table(predicted: Mapping[str, np.ndarray], labels: np.ndarray, *, split: str) -> list[dict[str, Any]]:
    """One row per variant: accuracy with its interval, the paired drop from the original and McNemar's p.

    Args:
        predicted: [n] class ids by variant, `ORIGINAL` among them.
        labels: [n] true class ids.
        split: where the images come from.
    """
    before = predicted[ORIGINAL] == labels
    rows = []
    for name, classes in predicted.items():
        after = classes == labels
        low, high = wilson_interval(int(after.sum()), len(labels))
        row = {"name": "accuracy", "subject": name, "value": float(after.mean()), "split": split, "n": len(labels)}
        row |= {"ci_low": low, "ci_high": high, "ci_method": WILSON}
        if name != ORIGINAL:
            found = Paired.of(before, after)
            drop_low, drop_high = paired_interval(found)
            row |= {"drop": found.difference, "drop_ci_low": drop_low, "drop_ci_high": drop_high, "p": found.p}
            row |= {"p_method": MCNEMAR, "without": MEANS[name], "is_clear": found.p < 0.05 and found.difference > 0}
        rows.append(row)
    return rows


def summary(rows: list[dict[str, Any]], chance: float) -> str:
    """What the table says, in a sentence or two.

    Args:
        rows: of `table`.
        chance: accuracy of the majority class.
    """
    altered = [row for row in rows if row["subject"] != ORIGINAL]
    clear = sorted((row for row in altered if row["is_clear"]), key=lambda row: -row["drop"])
    if not clear:
        return f"None of {len(altered)} alterations costs accuracy that can be told from chance on these images."
    text = "It depends on " + ", ".join(f"{row['without']} (-{100 * row['drop']:.0f} points)" for row in clear[:3])
    by_name = {row["subject"]: row for row in altered}
    border = by_name.get(BORDER)
    if border and border["ci_low"] > chance:
        share = f"{100 * border['value']:.0f} %"
        text += f". The border alone, with the centre covered, still gives {share}: check that no frame or logo decides"
    return text + "."
