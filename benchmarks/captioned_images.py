"""Captions, worn copies and phone screenshots of an image, drawn as memes have them."""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFont, ImageOps

from memevit.data.sample import captions

Change = Callable[[Image.Image, random.Random], Image.Image]

_JPEG_QUALITY = (30, 90)
_SCALE = (0.5, 1.5)


def _words(rng: random.Random, n: int = 1) -> str:
    return " ".join(captions.title(rng.choice(("doom", "animal_crossing")), rng) for _ in range(n))


def _lines(pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont, width: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if pen.textlength(longer, font=font) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _write(image: Image.Image, text: str, *, at: float, size: float, fill: str, stroke: str | None = None) -> None:
    """Centred lines of `text` whose middle is at the share `at` of the height; `size` is a share of the width."""
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(8, size * image.width))
    lines = "\n".join(_lines(pen, text, font, 0.94 * image.width))
    thickness = max(1, round(font.size / 12)) if stroke else 0
    box = pen.multiline_textbbox((0, 0), lines, font=font, stroke_width=thickness, align="center")
    top = at * image.height - (box[3] - box[1]) / 2
    top = min(max(top, 2), max(2, image.height - (box[3] - box[1]) - 4))
    position = ((image.width - box[2] + box[0]) / 2 - box[0], top - box[1])
    pen.multiline_text(
        position, lines, font=font, fill=fill, stroke_width=thickness, stroke_fill=stroke, align="center"
    )


def _with_bar(image: Image.Image, share: float, colour: str, *, below: bool = False) -> tuple[Image.Image, int]:
    height = round(share * image.height)
    canvas = Image.new("RGB", (image.width, image.height + height), colour)
    canvas.paste(image, (0, 0 if below else height))
    return canvas, height


def outlined_capitals(image: Image.Image, rng: random.Random) -> Image.Image:
    """White outlined capitals above and below."""
    image = image.copy()
    size = rng.uniform(0.07, 0.12)
    _write(image, _words(rng).upper(), at=0.08, size=size, fill="white", stroke="black")
    _write(image, _words(rng).upper(), at=0.92, size=size, fill="white", stroke="black")
    return image


def bar_above(image: Image.Image, rng: random.Random) -> Image.Image:
    """Black words on a white bar above."""
    image, height = _with_bar(image, rng.uniform(0.15, 0.45), "white")
    _write(image, _words(rng), at=height / 2 / image.height, size=rng.uniform(0.05, 0.08), fill="black")
    return image


def caption_below(image: Image.Image, rng: random.Random) -> Image.Image:
    """A yellow or white line inside the lower edge, as of a film."""
    image = image.copy()
    colour = rng.choice(("yellow", "white"))
    _write(image, _words(rng), at=0.88, size=rng.uniform(0.05, 0.09), fill=colour, stroke="black")
    return image


def watermark(image: Image.Image, rng: random.Random) -> Image.Image:
    """Pale words across, and a capital line above."""
    over = Image.new("RGB", image.size, "black")
    for at in (0.3, 0.5, 0.7):
        _write(over, "memes by somebody " * 2, at=at, size=0.06, fill="#606060")
    image = ImageChops.add(image, over)
    _write(image, _words(rng).upper(), at=0.08, size=0.1, fill="white", stroke="black")
    return image


def site_mark(image: Image.Image, rng: random.Random) -> Image.Image:
    """The label of a web site in the lower left corner, the same on every image."""
    image = image.copy()
    size = max(10, image.height // 22)
    top, pen = image.height - round(1.6 * size), ImageDraw.Draw(image)
    pen.rectangle((0, top, 13 * size, image.height), fill=(30, 30, 34))
    pen.ellipse((3, top + 0.2 * size, 3 + size, top + 1.3 * size), fill=(250, 120, 20))
    pen.text((1.6 * size, top + 0.1 * size), "made with memes.example", "white", ImageFont.load_default(size))
    return image


def bars_on_both_sides(image: Image.Image, rng: random.Random) -> Image.Image:
    """White words on black bars above and below."""
    image, height = _with_bar(image, rng.uniform(0.12, 0.3), "black")
    _write(image, _words(rng), at=height / 2 / image.height, size=0.06, fill="white")
    share = rng.uniform(0.12, 0.3)
    image, height = _with_bar(image, share, "black", below=True)
    _write(image, _words(rng), at=1 - height / 2 / image.height, size=0.06, fill="white")
    return image


def framed(image: Image.Image, rng: random.Random) -> Image.Image:
    """A black frame with a thin white line, and a title below it."""
    margin = round(rng.uniform(0.05, 0.12) * image.width)
    image = ImageOps.expand(ImageOps.expand(image, 2, "black"), 2, "white")
    image = ImageOps.expand(image, margin, "black")
    image, height = _with_bar(image, 0.25, "black", below=True)
    _write(image, _words(rng).upper(), at=1 - height / 2 / image.height, size=0.08, fill="white")
    return image


def labels(image: Image.Image, rng: random.Random) -> Image.Image:
    """Three short labels on what the image shows."""
    image = image.copy()
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(8, rng.uniform(0.05, 0.07) * image.width))
    for word in ("my homework", "me", "that one game"):
        at = (rng.uniform(0.05, 0.6) * image.width, rng.uniform(0.15, 0.8) * image.height)
        pen.text(at, word, font=font, fill="white", stroke_width=2, stroke_fill="black")
    return image


def speech_bubble(image: Image.Image, rng: random.Random) -> Image.Image:
    """A white bubble over the upper third."""
    image = image.copy()
    width, height = image.size
    left = rng.uniform(0.0, 0.3)
    ImageDraw.Draw(image).ellipse(
        (left * width, 0, (left + 0.65) * width, 0.33 * height), fill="white", outline="black"
    )
    pen = ImageDraw.Draw(image)
    font = ImageFont.load_default(max(8, 0.05 * width))
    text = "\n".join(_lines(pen, _words(rng), font, 0.45 * width))
    pen.multiline_text(((left + 0.1) * width, 0.08 * height), text, font=font, fill="black")
    return image


def sticker(image: Image.Image, rng: random.Random) -> Image.Image:
    """A coloured face that hides a tenth of the image."""
    image = image.copy()
    side = round((0.12 * image.width * image.height) ** 0.5)
    x, y = (round(rng.uniform(0.0, 1.0) * (length - side)) for length in image.size)
    pen = ImageDraw.Draw(image)
    pen.ellipse(
        (x, y, x + side, y + side), fill=(rng.randrange(256), 200, rng.randrange(256)), outline="black", width=3
    )
    for eye in (0.3, 0.6):
        pen.ellipse((x + eye * side, y + 0.3 * side, x + (eye + 0.1) * side, y + 0.45 * side), fill="black")
    pen.arc((x + 0.25 * side, y + 0.4 * side, x + 0.75 * side, y + 0.8 * side), 0, 180, fill="black", width=4)
    return image


def deep_fried(image: Image.Image, rng: random.Random) -> Image.Image:
    """Contrast, colour and sharpness far too high, with a caption."""
    image = ImageEnhance.Color(image).enhance(rng.uniform(1.8, 3.0))
    image = ImageEnhance.Contrast(image).enhance(rng.uniform(1.3, 1.8))
    image = ImageEnhance.Sharpness(image).enhance(rng.uniform(2.0, 4.0))
    return caption_below(image, rng)


def two_panels(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image on the left, a column of words on the right."""
    share = rng.uniform(0.5, 0.9)
    canvas = Image.new("RGB", (round((1 + share) * image.width), image.height), "white")
    column = Image.new("RGB", (canvas.width - image.width, image.height), "white")
    _write(column, _words(rng, 2), at=0.5, size=0.12, fill="black")
    canvas.paste(image, (0, 0))
    canvas.paste(column, (image.width, 0))
    return canvas


def cut(image: Image.Image, rng: random.Random, *, most: float = 0.1) -> Image.Image:
    """Up to `most` cut from every edge."""
    left, top, right, bottom = (rng.uniform(0.0, most) for _ in range(4))
    width, height = image.size
    return image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )


def border(image: Image.Image, rng: random.Random) -> Image.Image:
    """A plain border of any colour."""
    colour = tuple(rng.randrange(256) for _ in range(3))
    return ImageOps.expand(image, round(rng.uniform(0.02, 0.12) * image.width), colour)


def phone_screenshot(image: Image.Image, rng: random.Random) -> Image.Image:
    """The image in the page of a social network on a phone, 9:19.5."""
    width, height = 540, 1170
    dark = rng.random() < 0.5
    ground, ink = ("#101214", "#e0e0e0") if dark else ("white", "#202020")
    screen = Image.new("RGB", (width, height), ground)
    shown = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.BICUBIC)
    shown = shown.crop((0, 0, width, min(shown.height, 700)))
    top = rng.randrange(170, 300)
    screen.paste(shown, (0, top))
    pen = ImageDraw.Draw(screen)
    pen.text((30, 14), f"{rng.randrange(24)}:{rng.randrange(10, 60)}", font=ImageFont.load_default(22), fill=ink)
    pen.rectangle((470, 16, 510, 34), outline=ink, width=2)
    pen.ellipse((20, top - 90, 76, top - 34), fill=(rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    pen.text((90, top - 84), "somebody_42", font=ImageFont.load_default(22), fill=ink)
    pen.text((90, top - 54), _words(rng), font=ImageFont.load_default(20), fill=ink)
    below = top + shown.height
    for place in range(4):
        pen.ellipse((30 + 130 * place, below + 20, 62 + 130 * place, below + 52), outline=ink, width=3)
        pen.text((70 + 130 * place, below + 24), str(rng.randrange(999)), font=ImageFont.load_default(20), fill=ink)
    y = below + 90
    while y < height - 120:
        pen.text((30, y), _words(rng), font=ImageFont.load_default(20), fill=ink)
        y += 46
    pen.rectangle((0, height - 80, width, height), fill="#303338" if dark else "#eeeeee")
    return screen


def mirrored(image: Image.Image, rng: random.Random) -> Image.Image:
    """Left and right exchanged."""
    return ImageOps.mirror(image)


def unchanged(image: Image.Image, rng: random.Random) -> Image.Image:
    """Only what `worn` does."""
    return image


def lightened(image: Image.Image, rng: random.Random) -> Image.Image:
    """Brightness and contrast a little off."""
    image = ImageEnhance.Brightness(image).enhance(rng.choice((0.8, 1.2)))
    return ImageEnhance.Contrast(image).enhance(rng.uniform(0.85, 1.2))


def worn(image: Image.Image, rng: random.Random, *, scale: tuple[float, float] = _SCALE) -> bytes:
    """The image at another size, as the bytes of a JPEG of quality 30 to 90."""
    factor = rng.uniform(*scale)
    size = (max(32, round(image.width * factor)), max(32, round(image.height * factor)))
    written = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(written, "JPEG", quality=rng.randint(*_JPEG_QUALITY))
    return written.getvalue()


CAPTIONS: dict[str, Change] = {
    "outlined capitals": outlined_capitals,
    "bar above": bar_above,
    "caption below": caption_below,
    "watermark": watermark,
    "bars above and below": bars_on_both_sides,
    "frame": framed,
}
HELD_OUT_CAPTIONS: dict[
    str, Change
] = {  # No threshold was fitted to them, but they were seen when N_FEATURES was chosen.
    "labels": labels,
    "speech bubble": speech_bubble,
    "sticker": sticker,
    "deep-fried": deep_fried,
    "words beside": two_panels,
}
REPOSTS: dict[str, Change] = {
    "saved again": unchanged,
    "cut": cut,
    "border": border,
    "phone screenshot": phone_screenshot,
    "brightness": lightened,
    "mirrored": mirrored,
}
