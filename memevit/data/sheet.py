"""contact_sheet.jpg: a look at every class, and at what was left out."""

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
_MAX_ROWS = 60  # Of tiles; more would make a picture that no viewer opens.
_INK, _PAPER, _DULL, _RED = "#1c1c1c", "#ffffff", "#e4e4e4", "#b3261e"


def draw(rows: Sequence[Row], stored: Sequence[Path | None]) -> Image.Image:
    """A grid per class, one of conflicts and one of rejected files.

    Args:
        rows: all rows of the manifest.
        stored: where each row's stored picture is, None for those without one.
    """
    paths = {row.source: path for row, path in zip(rows, stored, strict=True)}
    names = sorted({row.class_name for row in rows if row.status == manifest.KEPT})
    n_shown = _COLUMNS * max(1, min(2, _MAX_ROWS // max(1, len(names))))
    sections = []
    for name in names[:_MAX_ROWS]:
        kept = sorted((row for row in rows if (row.status, row.class_name) == (manifest.KEPT, name)), key=_by_content)
        sections.append((f"{name}: {len(kept)} pictures", kept[:n_shown]))
    for status, title in ((manifest.CONFLICT, "the same picture in two classes"), (manifest.REJECTED, "rejected")):
        left_out = sorted((row for row in rows if row.status == status), key=lambda row: (row.group, row.source))
        if left_out:
            sections.append((f"{title}: {len(left_out)}", left_out[: 2 * _COLUMNS]))
    return _sheet(sections, paths)


def _by_content(row: Row) -> str:
    return row.sha256


def _sheet(sections: list[tuple[str, list[Row]]], paths: dict[str, Path | None]) -> Image.Image:
    step = _TILE_PX + _GAP_PX
    heights = [_TITLE_PX + -(-len(rows) // _COLUMNS) * step for _, rows in sections]
    sheet = Image.new("RGB", (_GAP_PX + _COLUMNS * step, _GAP_PX + sum(heights)), _PAPER)
    pen = ImageDraw.Draw(sheet)
    top = 0
    for (title, rows), height in zip(sections, heights, strict=True):
        pen.text((_GAP_PX, top + 9), title, fill=_INK, font=ImageFont.load_default(size=17))
        for number, row in enumerate(rows):
            left = _GAP_PX + number % _COLUMNS * step
            sheet.paste(_tile(row, paths[row.source]), (left, top + _TITLE_PX + number // _COLUMNS * step))
        top += height
    return sheet


def _tile(row: Row, path: Path | None) -> Image.Image:
    tile = Image.new("RGB", (_TILE_PX, _TILE_PX), _DULL)
    pen = ImageDraw.Draw(tile)
    if path is not None:
        with Image.open(path) as image:
            image.draft("RGB", (_TILE_PX, _TILE_PX))
            small = image.convert("RGB")
        small.thumbnail((_TILE_PX, _TILE_PX))
        tile.paste(small, ((_TILE_PX - small.width) // 2, (_TILE_PX - small.height) // 2))
    if row.status != manifest.KEPT:
        caption = row.class_name if path is not None else f"{Path(row.source).name}: {row.reason}"
        lines = textwrap.wrap(caption, 19)[:7]
        pen.rectangle((0, 0, _TILE_PX, 4 + 13 * len(lines)), fill=_PAPER)
        pen.text((3, 2), "\n".join(lines), fill=_RED, font=ImageFont.load_default(size=11), spacing=1)
    return tile
