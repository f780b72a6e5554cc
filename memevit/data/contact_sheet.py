"""contact_sheet.jpg: sample images of every class, of conflicts and of rejected files."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from memevit import manifest
from memevit.manifest import Row

_TILE_PX = 112
_GAP_PX = 6
_TITLE_PX = 34
_COLUMNS = 12
_MAX_LEFT_OUT = 4 * _COLUMNS
_MAX_ROWS = 60  # Of tiles; more would make an image that no viewer opens.
_LINE_CHARACTERS, _MAX_LINES = 17, 8  # Of a caption on a tile.
_INK, _PAPER, _DULL, _RED = "#1c1c1c", "#ffffff", "#e4e4e4", "#b3261e"

_Section = tuple[str, list[tuple[str, str]]]  # Title, and for each tile the source file and what to write on it.


def draw(rows: Sequence[Row], conflicts: Sequence[Sequence[Row]], folder: Path, stored: dict[str, str]) -> Image.Image:
    """A grid per class, one of conflicts and one of rejected files.

    Args:
        rows: all rows of the manifest.
        conflicts: sets of rows that show the same image in several classes.
        folder: of the stored images.
        stored: the name in it of the image of a source file, by that file's name; rejected files may have none.
    """
    names = sorted({row.class_name for row in rows if row.status == manifest.KEPT})
    n_shown = _COLUMNS * max(1, min(2, _MAX_ROWS // max(1, len(names))))
    sections: list[_Section] = []
    for name in names[:_MAX_ROWS]:
        kept = [row for row in rows if (row.status, row.class_name) == (manifest.KEPT, name)]
        by_content = sorted(kept, key=lambda row: row.sha256)
        sections.append((f"{name}: {len(kept)} images", [(row.source, "") for row in by_content[:n_shown]]))
    if conflicts:
        shown = [(row.source, row.class_name) for members in conflicts for row in members]
        sections.append((f"the same image in several classes: {len(shown)}", shown[:_MAX_LEFT_OUT]))
    rejected = [
        (row.source, f"{Path(row.source).name}: {row.reason}") for row in rows if row.status == manifest.REJECTED
    ]
    if rejected:
        sections.append((f"rejected: {len(rejected)}", rejected[:_MAX_LEFT_OUT]))
    return _sheet(sections, folder, stored)


def _sheet(sections: list[_Section], folder: Path, stored: dict[str, str]) -> Image.Image:
    step = _TILE_PX + _GAP_PX
    heights = [_TITLE_PX + -(-len(tiles) // _COLUMNS) * step for _, tiles in sections]
    sheet = Image.new("RGB", (_GAP_PX + _COLUMNS * step, _GAP_PX + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (title, tiles), height in zip(sections, heights, strict=True):
        pen.text((_GAP_PX, top + 9), title, fill=_INK, font=ImageFont.load_default(size=17))
        for number, (source, caption) in enumerate(tiles):
            left = _GAP_PX + number % _COLUMNS * step
            path = folder / stored[source] if source in stored else None
            sheet.paste(_tile(path, caption), (left, top + _TITLE_PX + number // _COLUMNS * step))
        top += height
    return sheet


def _tile(path: Path | None, caption: str) -> Image.Image:
    tile = Image.new("RGB", (_TILE_PX, _TILE_PX), _DULL)
    pen = ImageDraw.Draw(tile)
    if path is not None:
        with Image.open(path) as image:
            image.draft("RGB", (_TILE_PX, _TILE_PX))
            small = image.convert("RGB")
        small.thumbnail((_TILE_PX, _TILE_PX))
        tile.paste(small, ((_TILE_PX - small.width) // 2, (_TILE_PX - small.height) // 2))
    if caption:
        lines = textwrap.wrap(caption, _LINE_CHARACTERS)[:_MAX_LINES]
        pen.rectangle((0, 0, _TILE_PX, 4 + 13 * len(lines)), fill=_PAPER)
        pen.text((3, 2), "\n".join(lines), fill=_RED, font=ImageFont.load_default(size=11), spacing=1)
    return tile
