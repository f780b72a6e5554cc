"""Images inside a page: small copies as data URIs, each embedded once, and heat maps to lay over them."""

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from memevit import pixels

LARGE_PX, TILE_PX = 240, 88
_LARGE_QUALITY, _TILE_QUALITY = 55, 45
_HEAT_PX = 32
_WARM, _COLD = (255, 70, 0), (0, 110, 255)
_MAX_ALPHA = 200


class Gallery:
    """Small copies of files; `css` has one class per tile, so that a tile shown often is embedded once."""

    def __init__(self) -> None:
        self._tiles: dict[Path, str] = {}
        self._rules: list[str] = []

    def tile(self, path: Path) -> str:
        """The CSS class whose background is a copy of the file at `path`."""
        if path not in self._tiles:
            name = f"t{len(self._tiles)}"
            uri = data_uri(pixels.load_image(path), TILE_PX, quality=_TILE_QUALITY)
            self._tiles[path] = name
            self._rules.append(f".{name}{{background-image:url({uri})}}")
        return self._tiles[path]

    @property
    def css(self) -> str:
        """The rules of all tiles so far."""
        return "\n".join(self._rules)


def data_uri(image: Image.Image, side_px: int, *, quality: int = _LARGE_QUALITY) -> str:
    """A copy of an RGB image, `side_px` at its longer side, as the address of an image."""
    small = image.copy()
    small.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.save(content, "WEBP", quality=quality, method=4)
    return _uri(content, "webp")


def heat_uri(cells: np.ndarray) -> str:
    """A heat map [grid, grid] as a see-through image: red spoke for the class, blue against it, strongest opaque.

    Args:
        cells: contributions; scaled by the largest one.
    """
    scale = np.abs(cells).max()
    shares = cells / scale if scale > 0 else np.zeros_like(cells)
    smooth = np.asarray(
        Image.fromarray(shares.astype(np.float32)).resize((_HEAT_PX, _HEAT_PX), Image.Resampling.BICUBIC)
    ).clip(-1, 1)
    layers = np.empty((_HEAT_PX, _HEAT_PX, 4), dtype=np.uint8)
    layers[..., :3] = np.where(smooth[..., None] > 0, _WARM, _COLD)
    layers[..., 3] = (np.abs(smooth) ** 1.5 * _MAX_ALPHA).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(layers).save(content, "PNG", optimize=True)
    return _uri(content, "png")


def _uri(content: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
