"""Letters of Pillow's built-in font, fitted into a box: plain ones, and the heavy ones of captions."""

import functools
import textwrap

from PIL import Image, ImageDraw, ImageFont

Frame = tuple[float, float, float, float]
_SMALLEST_PX = 9
_LINE_HEIGHT = 1.25


@functools.lru_cache(maxsize=128)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The built-in font, laid out the same whether or not Pillow finds libraqm."""
    found = ImageFont.load_default(size=max(_SMALLEST_PX, size))
    if isinstance(found, ImageFont.FreeTypeFont):
        return found.font_variant(layout_engine=ImageFont.Layout.BASIC)
    return found


def _fitted(text: str, width: float, height: float) -> tuple[list[str], int]:
    """The lines of `text`, broken so that the letters get largest, and their size; ` / ` always breaks."""
    best: tuple[list[str], int] = ([text], 0)
    for letters in (10, 14, 18, 24, 32, 44):
        lines = [line for part in text.split(" / ") for line in textwrap.wrap(part, letters)]
        widest = max(font(100).getlength(line) for line in lines)
        size = int(min(height / (_LINE_HEIGHT * len(lines)), 100 * width / widest))
        if size > best[1]:
            best = lines, size
    return best


def write(
    image: Image.Image, box: Frame, text: str, *, fill: str, largest_px: int = 200, is_left: bool = False
) -> None:
    """Set `text` into the middle of `box`, as large as it fits, or at its left side."""
    left, top, right, bottom = box
    lines, size = _fitted(text, right - left, bottom - top)
    size = min(size, largest_px)
    pen, step = ImageDraw.Draw(image), size * _LINE_HEIGHT
    first = (top + bottom) / 2 - step * (len(lines) - 1) / 2
    for number, line in enumerate(lines):
        x, anchor = (left, "lm") if is_left else ((left + right) / 2, "mm")
        pen.text((round(x), round(first + step * number)), line, fill=fill, font=font(size), anchor=anchor)


def write_heavy(image: Image.Image, box: Frame, text: str, *, fill: str = "white", edge: str = "black") -> None:
    """Set `text` in narrow, fat capitals with an edge, as on a classic meme."""
    left, top, right, bottom = (round(side) for side in box)
    wide = (right - left) * 4 // 3  # Drawn wide and squeezed, which makes the letters narrow.
    if wide <= 0 or bottom <= top:
        return
    lines, size = _fitted(text.upper(), wide * 0.94, (bottom - top) * 0.96)
    size = min(size, (bottom - top) // 2 + 4)
    fat, rim = max(1, size // 24), max(2, size // 10)
    inside, around = Image.new("L", (wide, bottom - top)), Image.new("L", (wide, bottom - top))
    step = size * _LINE_HEIGHT
    first = (bottom - top) / 2 - step * (len(lines) - 1) / 2
    for mask, stroke in ((inside, fat), (around, rim)):
        pen = ImageDraw.Draw(mask)
        for number, line in enumerate(lines):
            where = (wide // 2, round(first + step * number))
            pen.text(where, line, fill=255, font=font(size), anchor="mm", stroke_width=stroke)
    for mask, colour in ((around, edge), (inside, fill)):
        image.paste(colour, (left, top), mask.resize((right - left, bottom - top), Image.Resampling.BOX))
