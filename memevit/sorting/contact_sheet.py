"""An image per label with thumbnails to look at: those that the model is least certain of, and some of the others."""

import heapq
import random
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from memevit import escape, labels, pixels
from memevit.sorting.folders import folder_names, safe_name
from memevit.sorting.rows import Row

N_LEAST_CERTAIN = 24
N_OTHERS = 24
MAX_SHEETS = 200
_COLUMNS = 8
_TILE_PX = 160
_CAPTION_PX = 34
_GAP_PX = 8
_TITLE_PX = 40
_LINE_CHARACTERS = 24
_INK, _PAPER, _DULL, _PALE = "#1c1c1c", "#ffffff", "#e8e8e8", "#666666"


class ContactSheets:
    """Remembers a few images of each label while the files are sorted."""

    def __init__(self, *, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._by_label: dict[str, _Chosen] = {}

    def add(self, row: Row, path: Path) -> None:
        """Take note of a sorted image, which can be read at `path`."""
        if row["confidence"] is None or row["label"] == labels.UNREADABLE:
            return
        if row["label"] not in self._by_label and len(self._by_label) >= MAX_SHEETS:
            return
        self._by_label.setdefault(row["label"], _Chosen()).add(row["confidence"], path, self._random)

    def write(self, folder: Path) -> list[Path]:
        """Draw a sheet per label into `folder` and return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        names = folder_names(self._by_label)
        written = []
        for label in sorted(self._by_label):
            path = folder / f"{safe_name(names[label])}.jpg"
            self._by_label[label].draw(label).save(path, quality=88)
            written.append(path)
        return written


class _Chosen:
    """The least certain images of one label and a sample of the others."""

    def __init__(self) -> None:
        self.n = 0
        self._least_certain: list[tuple[float, int, Path]] = []  # A heap whose first entry is the surest of them.
        self._sample: list[tuple[float, int, Path]] = []
        self._n_left = 0

    def add(self, confidence: float, path: Path, chance: random.Random) -> None:
        self.n += 1
        entry = (-confidence, self.n, path)
        if len(self._least_certain) < N_LEAST_CERTAIN:
            heapq.heappush(self._least_certain, entry)
            return
        entry = heapq.heappushpop(self._least_certain, entry)
        self._n_left += 1  # Reservoir sampling of those that are left.
        if len(self._sample) < N_OTHERS:
            self._sample.append(entry)
        elif (place := chance.randrange(self._n_left)) < N_OTHERS:
            self._sample[place] = entry

    def draw(self, label: str) -> Image.Image:
        """The sheet."""
        least_certain = sorted(self._least_certain, reverse=True)
        others = sorted(self._sample, reverse=True)
        name = escape.terminal(label)
        sections = [(f"{name}: the {len(least_certain)} least certain of {self.n:,} images", least_certain)]
        if others:
            sections.append((f"{name}: {len(others)} of the others, at random", others))
        step = _TILE_PX + _CAPTION_PX + _GAP_PX
        heights = [_TITLE_PX + -(-len(tiles) // _COLUMNS) * step for _, tiles in sections]
        width = _GAP_PX + _COLUMNS * (_TILE_PX + _GAP_PX)
        sheet = Image.new("RGB", (width, _GAP_PX + sum(heights)), _PAPER)
        pen, top = ImageDraw.Draw(sheet), 0
        for (title, tiles), height in zip(sections, heights, strict=True):
            pen.text((_GAP_PX, top + 10), title, fill=_INK, font=ImageFont.load_default(size=18))
            for number, (negative, _, path) in enumerate(tiles):
                row, column = divmod(number, _COLUMNS)
                at = (_GAP_PX + column * (_TILE_PX + _GAP_PX), top + _TITLE_PX + row * step)
                _draw_tile(sheet, pen, at, path, -negative)
            top += height
        return sheet


def _draw_tile(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, at: tuple[int, int], path: Path, confidence: float
) -> None:
    left, top = at
    pen.rectangle((left, top, left + _TILE_PX - 1, top + _TILE_PX - 1), fill=_DULL)
    try:
        small = pixels.decode(path, at_least_px=2 * _TILE_PX).image
    except pixels.UnreadableImageError:  # It has gone meanwhile.
        small = None
    if small is not None:
        small.thumbnail((_TILE_PX, _TILE_PX))
        sheet.paste(small, (left + (_TILE_PX - small.width) // 2, top + (_TILE_PX - small.height) // 2))
    font = ImageFont.load_default(size=11)
    name = textwrap.shorten(escape.terminal(path.name), _LINE_CHARACTERS, placeholder="...") or "..."
    pen.text((left, top + _TILE_PX + 2), f"{confidence:.3f}", fill=_INK, font=font)
    pen.text((left, top + _TILE_PX + 16), name[:_LINE_CHARACTERS], fill=_PALE, font=font)
