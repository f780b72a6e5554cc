"""Images from packages: which are taken, and that what must not be seen is deleted."""

import functools
import io

from PIL import Image

from benchmarks import debian_images
from tests.conftest import draw_image


def content(image, image_format="PNG"):
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def test_what_is_damaged_plain_thin_or_there_already_is_not_taken(tmp_path):
    drawn = draw_image(1, size=(400, 340))
    reads = [
        content(drawn), content(drawn, "BMP"), b"nothing", content(Image.new("RGB", (200, 200))),
        content(drawn.resize((400, 60))), content(draw_image(2)), content(draw_image(3)),
    ]  # fmt: skip
    reads = [functools.partial(bytes, one) for one in reads]
    assert debian_images.copy_images(iter(reads), tmp_path, most=2) == 2
    assert [(path.name, Image.open(path).size) for path in sorted(tmp_path.iterdir())] == [
        ("00000.jpg", (400, 340)), ("00001.png", (96, 72)),
    ]  # fmt: skip


def test_an_image_that_must_not_be_seen_is_deleted(tmp_path):
    for folder, seeds in (("never", (1, 2)), ("own", (2, 3))):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            draw_image(seed, size=(300, 240)).save(tmp_path / folder / f"{seed}.png")
    found = debian_images._without(tmp_path / "own", [tmp_path / "never"], 1)
    assert found == {"n_images": 2, "n_never": 2, "deleted": {"2.png": "same"}}
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["3.png"]
