"""From a scene to a meme: captions, panels, frames, posts, and the wear of being passed on."""

import random
import textwrap
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw, ImageEnhance, ImageFont

from memevit.data.sample.scenes import Scene, Size

Draw = Callable[[Scene, random.Random, random.Random], Image.Image]

_ANYBODY = [
    "me after one more level", "mondays", "when the coffee kicks in", "nobody: / absolutely nobody: / me at 3 am",
    "it is what it is", "they had us in the first half", "my last two brain cells", "tell me I'm wrong",
    "how it started / how it's going", "is this a quarantine hobby?", "POV: your mom enters the room",
    "he protec / he attac",
    "I was not ready for this", "same energy", "best day of the year", "friendship ended with sleep",
    "me pretending to work", "the two moods of march 20th", "explain this, science", "send help and snacks",
    "first day vs last day", "when both drop on the same day", "gamers in 2020", "I can hear this picture",
    "you vs the guy she told you not to worry about", "one of us, one of us", "this is fine", "wholesome but cursed",
    "my therapist: it isn't real / it:", "what a time to be alive", "nothing can stop me now", "it's free real estate",
    "me explaining the plot to my cat", "when you finally pay your debt", "plot twist", "unlimited power",
    "we are not the same", "crossover of the century", "weekend plans", "choose your fighter",
]  # fmt: skip
_OF_CLASS = {
    "doom": [
        "rip and tear / until it is done",
        "demons fear him",
        "when the heavy metal starts",
        "against all the evil",
    ],
    "animal_crossing": [
        "the debt collector wants his bells",
        "turnip prices today",
        "new villager moved in",
        "I caught a sea bass again",
    ],
    "genshin_impact": [
        "lost the 50/50 again",
        "no more wishes left",
        "when you pull a five star",
        "climbing in the rain",
    ],
}
_WORDS = 24  # Letters in a line of a caption.


def caption(class_name: str, rng: random.Random) -> str:
    """A line for a picture; sometimes one that only fits its game."""
    if class_name in _OF_CLASS and rng.random() < 0.15:
        return rng.choice(_OF_CLASS[class_name])
    return rng.choice(_ANYBODY)


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(9, round(size)))


def _text(
    pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], text: str, *, fill: str, stroke: str | None = None
) -> None:
    """Centre `text` in `box`, as large as it fits."""
    left, top, right, bottom = box
    lines = [line for part in text.split(" / ") for line in textwrap.wrap(part, _WORDS)]
    size = min((bottom - top) / (1.3 * len(lines)), 1.7 * (right - left) / max(len(line) for line in lines))
    font, width = _font(size), max(1, round(size / 12))
    for number, line in enumerate(lines):
        middle = top + (bottom - top) * (number + 0.5) / len(lines)
        pen.text(
            ((left + right) / 2, middle),
            line,
            fill=fill,
            font=font,
            anchor="mm",
            stroke_width=width if stroke else 0,
            stroke_fill=stroke,
        )


def _size(rng: random.Random) -> Size:
    side, shape = rng.choice((320, 400, 480, 600, 640, 720, 800, 1080)), rng.choice((1.0, 1.33, 1.6, 1.78, 0.75, 0.56))
    return (side, round(side / shape)) if shape >= 1 else (round(side * shape), side)


def screenshot(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """The scene alone."""
    return scene(rng, _size(rng))


def captioned(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """White letters with a black edge at the top, the bottom or both."""
    image = scene(rng, _size(rng))
    pen, (width, height) = ImageDraw.Draw(image), image.size
    places = words.choice((("top", "bottom"), ("top",), ("bottom",)))
    if "top" in places:
        _text(
            pen,
            (width * 0.03, height * 0.01, width * 0.97, height * 0.20),
            caption(class_name, words).upper(),
            fill="white",
            stroke="black",
        )
    if "bottom" in places:
        _text(
            pen,
            (width * 0.03, height * 0.80, width * 0.97, height * 0.98),
            caption(class_name, words).upper(),
            fill="white",
            stroke="black",
        )
    return image


def with_bar(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """A white bar with text above the scene, seldom a black one."""
    picture = scene(rng, _size(rng))
    bar, is_dark = round(picture.height * rng.uniform(0.16, 0.3)), rng.random() < 0.15
    image = Image.new("RGB", (picture.width, picture.height + bar), "black" if is_dark else "white")
    image.paste(picture, (0, bar))
    _text(
        ImageDraw.Draw(image),
        (8, 4, image.width - 8, bar - 4),
        caption(class_name, words),
        fill="white" if is_dark else "black",
    )
    return image


def two_panels(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """Text beside picture, twice."""
    side = rng.choice((240, 300, 360))
    image = Image.new("RGB", (2 * side, 2 * side), "white")
    pen = ImageDraw.Draw(image)
    for row in range(2):
        image.paste(scene(rng, (side, side)), (side, row * side))
        _text(
            pen,
            (6, row * side + side * 0.2, side - 6, row * side + side * 0.8),
            caption(class_name, words),
            fill="black",
        )
    pen.line((0, side, 2 * side, side), fill="black", width=3)
    pen.line((side, 0, side, 2 * side), fill="black", width=3)
    return image


def four_panels(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """A comic of four scenes with a line under each."""
    side = rng.choice((240, 300, 360))
    image = Image.new("RGB", (2 * side, 2 * side), "white")
    pen = ImageDraw.Draw(image)
    for number in range(4):
        x, y = number % 2 * side, number // 2 * side
        image.paste(scene(rng, (side - 6, side - 6)), (x + 3, y + 3))
        if words.random() < 0.7:
            _text(
                pen,
                (x + 10, y + side * 0.78, x + side - 10, y + side * 0.97),
                caption(class_name, words),
                fill="white",
                stroke="black",
            )
    return image


def phone(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """A photo of the scene on a phone's or a handheld's screen."""
    width, height = rng.choice(((540, 960), (640, 400)))
    image = Image.new("RGB", (width, height), rng.choice(["#101012", "#e8e6e0", "#3a6ea5", "#c94f4f"]))
    pen = ImageDraw.Draw(image)
    if height > width:
        box = (24, 190, width - 24, height - 250)
        pen.rounded_rectangle((12, 30, width - 12, height - 30), radius=36, fill="#1c1c1e")
        _text(pen, (30, 70, width - 30, 180), caption(class_name, words), fill="white")
        for k in range(4):
            pen.ellipse((40 + k * 60, height - 160, 80 + k * 60, height - 120), outline="#8e8e93", width=3)
    else:
        box = (90, 40, width - 90, height - 40)
        pen.rounded_rectangle((10, 16, width - 10, height - 16), radius=60, fill="#222226")
        for x in (50, width - 50):
            pen.ellipse((x - 24, 100, x + 24, 148), fill="#4a4a50")
            pen.ellipse((x - 14, 220, x + 14, 248), fill="#4a4a50")
    image.paste(scene(rng, (box[2] - box[0], box[3] - box[1])), box[:2])
    return image


def post(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """A short message with the scene below it, as on a social network."""
    width, is_dark = 600, rng.random() < 0.4
    paper, ink, dull = ("#15202b", "white", "#8899a6") if is_dark else ("white", "#14171a", "#657786")
    picture = scene(rng, (width - 90, round((width - 90) / rng.choice((1.0, 1.33, 1.78)))))
    image = Image.new("RGB", (width, picture.height + 210), paper)
    pen = ImageDraw.Draw(image)
    pen.ellipse((18, 18, 66, 66), fill=tuple(words.randrange(60, 220) for _ in range(3)))
    pen.text(
        (78, 22), words.choice(["somebody", "a tired gamer", "mod of nothing", "just_memes"]), fill=ink, font=_font(20)
    )
    pen.text((78, 46), f"@{words.randrange(10**6)} - {words.randrange(1, 23)}h", fill=dull, font=_font(15))
    _text(pen, (78, 76, width - 20, 150), caption(class_name, words), fill=ink)
    image.paste(picture, (78, 160))
    pen.text(
        (78, picture.height + 174),
        f"{words.randrange(999)} answers   {words.randrange(99)}K likes",
        fill=dull,
        font=_font(15),
    )
    return image


def text_only(scene: Scene, rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """A post without a picture: nothing in it tells the game but its words."""
    is_dark = rng.random() < 0.4
    image = Image.new("RGB", (600, rng.choice((260, 340, 420))), "#1a1a1b" if is_dark else "white")
    lines = [caption(class_name, words) for _ in range(3)]
    for number, line in enumerate(lines):
        top = 20 + number * (image.height - 40) / 3
        _text(
            ImageDraw.Draw(image),
            (20, top, 580, top + (image.height - 60) / 3),
            line,
            fill="#d7dadc" if is_dark else "#222222",
        )
    return image


FORMS = (
    screenshot,
    screenshot,
    captioned,
    captioned,
    captioned,
    with_bar,
    with_bar,
    with_bar,
    two_panels,
    four_panels,
    phone,
    post,
)


def crossover(scenes: list[Scene], rng: random.Random, words: random.Random, class_name: str) -> Image.Image:
    """Both games in one picture, side by side or one in a corner of the other."""
    first, second = (scene(rng, (480, 420)) for scene in scenes)
    if rng.random() < 0.5:
        image = Image.new("RGB", (960, 480), "white")
        image.paste(first, (0, 60))
        image.paste(second, (480, 60))
        _text(ImageDraw.Draw(image), (10, 4, 950, 56), caption(class_name, words), fill="black")
        return image
    image = first.resize((720, 630))
    image.paste(second.resize((270, 236)), (430, 370))
    return image


def worn(image: Image.Image, rng: random.Random) -> Image.Image:
    """A tint, another brightness, greys, or far too much of everything; most pictures stay as they are."""
    if rng.random() < 0.6:
        image = _lit(image, rng)
    chance = rng.random()
    if chance < 0.10:
        return image.convert("L").convert("RGB")
    if chance < 0.18:
        return ImageEnhance.Contrast(ImageEnhance.Color(image).enhance(3.0)).enhance(1.8)
    if chance < 0.45:
        tint = Image.new("RGB", image.size, tuple(rng.randrange(256) for _ in range(3)))
        return Image.blend(image, tint, rng.uniform(0.08, 0.25))
    if chance < 0.70:
        return ImageEnhance.Brightness(image).enhance(rng.uniform(0.6, 1.3))
    return image


def _lit(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture with light falling in from a corner, as in a photo of a screen."""
    light = Image.new("L", (2, 2))
    light.putdata([rng.randrange(90, 256) for _ in range(4)])
    return ImageChops.multiply(image, light.resize(image.size, Image.Resampling.BILINEAR).convert("RGB"))


def reposted(image: Image.Image, rng: random.Random) -> Image.Image:
    """The same picture again: another size and up to 3 % of each edge gone."""
    left, top, right, bottom = (rng.uniform(0.0, 0.03) for _ in range(4))
    width, height = image.size
    part = image.crop(
        (round(left * width), round(top * height), round((1 - right) * width), round((1 - bottom) * height))
    )
    scale = rng.uniform(0.5, 1.2)
    return part.resize(
        (max(32, round(part.width * scale)), max(32, round(part.height * scale))), Image.Resampling.BICUBIC
    )


def removed_placeholder() -> Image.Image:
    """What an image host shows when the picture is gone; people save it all the same."""
    image = Image.new("RGB", (161, 81), "#222222")
    pen = ImageDraw.Draw(image)
    pen.ellipse((12, 20, 52, 60), outline="#bbbbbb", width=3)
    pen.line((22, 30, 42, 50), fill="#bbbbbb", width=3)
    _text(pen, (58, 18, 156, 62), "the image you want / is not here / any more", fill="#dddddd")
    return image
