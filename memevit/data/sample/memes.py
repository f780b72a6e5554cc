"""From a scene to a meme: captions, panels, frames, posts and cross-overs."""

import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageDraw

from memevit.data.sample import lettering
from memevit.data.sample.brush import Scene, Size
from memevit.data.sample.captions import caption

_SIDES_PX = (300, 360, 420, 480, 540, 600, 640, 720, 800, 960, 1080, 1400)
_SHAPES = (1.0, 1.0, 1.33, 1.33, 1.6, 1.78, 0.8, 0.75, 0.56)
_PANEL_PX = (240, 300, 360)
_PEOPLE = ("somebody", "a tired gamer", "mod of nothing", "just_memes", "not a robot", "grandma online")


class Idea(NamedTuple):
    """What a meme is made from; `words` are drawn apart, so that the same image can get another caption."""

    scene: Scene
    class_name: str
    rng: random.Random
    words: random.Random

    def line(self) -> str:
        """A caption."""
        return caption(self.class_name, self.words)


def _size(rng: random.Random) -> Size:
    side, shape = rng.choice(_SIDES_PX), rng.choice(_SHAPES)
    return (side, round(side / shape)) if shape >= 1 else (round(side * shape), side)


def screenshot(idea: Idea) -> Image.Image:
    """The scene alone."""
    return idea.scene(idea.rng, _size(idea.rng))


def captioned(idea: Idea) -> Image.Image:
    """Fat white letters with a black edge at the top, the bottom or both."""
    image = idea.scene(idea.rng, _size(idea.rng))
    width, height = image.size
    places = idea.words.choice((("top", "bottom"), ("top", "bottom"), ("top",), ("bottom",)))
    fill = idea.words.choice(("white", "white", "white", "white", "#fff04a"))
    for place, top, bottom in (("top", 0.01, 0.24), ("bottom", 0.76, 0.98)):
        if place in places:
            box = (width * 0.02, height * top, width * 0.98, height * bottom)
            lettering.write_heavy(image, box, idea.line(), fill=fill)
    return image


def with_bar(idea: Idea) -> Image.Image:
    """A white bar with text above the scene, seldom a black one."""
    scene = idea.scene(idea.rng, _size(idea.rng))
    bar, is_dark = scene.height * idea.rng.randrange(14, 30) // 100, idea.rng.random() < 0.15
    image = Image.new("RGB", (scene.width, scene.height + bar), "black" if is_dark else "white")
    image.paste(scene, (0, bar))
    box = (image.width * 0.03, bar * 0.06, image.width * 0.97, bar * 0.94)
    ink, is_left = "white" if is_dark else "black", idea.rng.random() < 0.5
    lettering.write(image, box, idea.line(), fill=ink, largest_px=image.width // 11, is_left=is_left)
    return image


def rows_of_text_and_image(idea: Idea) -> Image.Image:
    """Text beside an image, two or three times."""
    side, n, is_mirrored = idea.rng.choice(_PANEL_PX), idea.rng.choice((2, 2, 3)), idea.rng.random() < 0.3
    image = Image.new("RGB", (2 * side, n * side), "white")
    pen = ImageDraw.Draw(image)
    for row in range(n):
        top, text_x, scene_x = row * side, side if is_mirrored else 0, 0 if is_mirrored else side
        image.paste(idea.scene(idea.rng, (side, side)), (scene_x, top))
        box = (text_x + 10, top + side * 0.2, text_x + side - 10, top + side * 0.8)
        lettering.write(image, box, idea.line(), fill="black", largest_px=side // 8)
        pen.line((0, top, 2 * side, top), fill="black", width=3)
    pen.line((side, 0, side, n * side), fill="black", width=3)
    return image


def four_panels(idea: Idea) -> Image.Image:
    """A comic of four scenes, most with a line in them."""
    side, paper = idea.rng.choice(_PANEL_PX), idea.rng.choice(("white", "white", "black"))
    image = Image.new("RGB", (2 * side, 2 * side), paper)
    for number in range(4):
        x, y = number % 2 * side, number // 2 * side
        image.paste(idea.scene(idea.rng, (side - 6, side - 6)), (x + 3, y + 3))
        if idea.words.random() < 0.7:
            lettering.write_heavy(image, (x + 10, y + side * 0.72, x + side - 10, y + side * 0.97), idea.line())
    return image


def before_and_after(idea: Idea) -> Image.Image:
    """Two scenes side by side or one above the other, each under a line of text."""
    wide, high = idea.rng.choice(((320, 300), (420, 260), (300, 420)))
    is_beside, bar = idea.rng.random() < 0.5, 60
    step_x, step_y = (wide, 0) if is_beside else (0, high + bar)
    image = Image.new("RGB", (wide + step_x, high + bar + step_y), "white")
    for number in range(2):
        x, y = number * step_x, number * step_y
        image.paste(idea.scene(idea.rng, (wide - 4, high - 4)), (x + 2, y + bar))
        lettering.write(image, (x + 8, y + 4, x + wide - 8, y + bar - 4), idea.line(), fill="black", largest_px=26)
    return image


def on_phone(idea: Idea) -> Image.Image:
    """The scene in a story on a phone."""
    width, height = 540, 960
    image = Image.new("RGB", (width, height), idea.rng.choice(("#101012", "#e8e6e0", "#3a6ea5", "#c94f4f")))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((12, 14, width - 12, height - 14), radius=36, fill="#1c1c1e")
    pen.text(
        (40, 30), f"{idea.words.randrange(24)}:{idea.words.randrange(60):02d}", fill="white", font=lettering.font(18)
    )
    pen.rounded_rectangle((width - 80, 32, width - 44, 48), radius=4, outline="white", width=2)
    pen.rectangle((width - 77, 35, width - 77 + idea.words.randrange(4, 30), 45), fill="#6ee06e")
    lettering.write(image, (40, 70, width - 40, 180), idea.line(), fill="white", largest_px=36)
    image.paste(idea.scene(idea.rng, (width - 48, height - 440)), (24, 190))
    for k in range(4):
        pen.ellipse((46 + k * 124, height - 170, 106 + k * 124, height - 110), outline="#8e8e93", width=4)
    pen.rounded_rectangle((width // 2 - 70, height - 40, width // 2 + 70, height - 34), radius=3, fill="white")
    return image


def on_handheld(idea: Idea) -> Image.Image:
    """The scene on a handheld console with a stick and four buttons at each side."""
    width, height = 760, 400
    image = Image.new("RGB", (width, height), idea.rng.choice(("#d8d2c4", "#6f5a48", "#20242c", "#9db4a0")))
    pen = ImageDraw.Draw(image)
    left, right = idea.rng.choice((("#3d3d42", "#3d3d42"), ("#7a5aa8", "#7a5aa8"), ("#c9a23a", "#8a6f2c")))
    pen.rounded_rectangle((10, 16, 170, height - 16), radius=60, fill=left)
    pen.rounded_rectangle((width - 170, 16, width - 10, height - 16), radius=60, fill=right)
    pen.rectangle((110, 16, width - 110, height - 16), fill="#16161a")
    for x, stick_y, button_y in ((60, 100, 240), (width - 60, 250, 110)):
        pen.ellipse((x - 26, stick_y - 26, x + 26, stick_y + 26), fill="#26262a")
        for dx, dy in ((0, -26), (0, 26), (-26, 0), (26, 0)):
            pen.ellipse((x + dx - 10, button_y + dy - 10, x + dx + 10, button_y + dy + 10), fill="#26262a")
    image.paste(idea.scene(idea.rng, (width - 250, height - 60)), (125, 30))
    return image


def in_window(idea: Idea) -> Image.Image:
    """The scene in a window of a desktop, with a title bar and three buttons."""
    scene = idea.scene(idea.rng, idea.rng.choice(((480, 360), (600, 380), (420, 420))))
    width, height = scene.width + 80, scene.height + 120
    image = Image.new("RGB", (width, height), idea.rng.choice(("#008080", "#3a6ea5", "#5e4b7d", "#2b2b2b")))
    pen = ImageDraw.Draw(image)
    pen.rectangle((34, 34, width - 34, height - 40), fill="#c6c6c6", outline="#f4f4f4", width=2)
    pen.rectangle((38, 38, width - 38, 66), fill=idea.rng.choice(("#000084", "#7a1f1f", "#444444")))
    lettering.write(image, (46, 40, width - 130, 64), idea.line().split(" / ")[0], fill="white", is_left=True)
    for k in range(3):
        x = width - 44 - 26 * k
        pen.rectangle((x - 20, 42, x, 62), fill="#c6c6c6", outline="#f4f4f4")
        pen.line((x - 15, 57, x - 5, 47 if k == 0 else 57), fill="black", width=2)
    image.paste(scene, (40, 70))
    pen.rectangle((0, height - 30, width, height), fill="#c6c6c6")
    pen.rectangle((4, height - 26, 70, height - 4), fill="#dcdcdc", outline="#808080")
    return image


def post(idea: Idea) -> Image.Image:
    """A short message with the scene below it, as on a social network."""
    width, is_dark = 600, idea.rng.random() < 0.4
    paper, ink, dull = ("#15202b", "white", "#8899a6") if is_dark else ("white", "#14171a", "#657786")
    scene = idea.scene(idea.rng, (width - 100, round((width - 100) / idea.rng.choice((1.0, 1.33, 1.78)))))
    image = Image.new("RGB", (width, scene.height + 200), paper)
    pen, words = ImageDraw.Draw(image), idea.words
    pen.ellipse((18, 18, 66, 66), fill=(words.randrange(60, 220), words.randrange(60, 220), words.randrange(60, 220)))
    pen.text((78, 20), words.choice(_PEOPLE), fill=ink, font=lettering.font(20))
    pen.text((78, 46), f"@{words.randrange(10**6)} - {words.randrange(1, 23)}h", fill=dull, font=lettering.font(15))
    lettering.write(image, (78, 74, width - 20, 144), idea.line(), fill=ink, largest_px=26, is_left=True)
    image.paste(scene, (78, 150))
    counts = f"{words.randrange(999)} answers     {words.randrange(99)}K likes"
    pen.text((78, scene.height + 166), counts, fill=dull, font=lettering.font(16))
    return image


def chat(idea: Idea) -> Image.Image:
    """Bubbles of a conversation, one of which holds the scene."""
    width, is_dark = 480, idea.rng.random() < 0.5
    scene = idea.scene(idea.rng, (300, idea.rng.choice((220, 300, 360))))
    image = Image.new("RGB", (width, scene.height + 290), "#0b141a" if is_dark else "#ece5dd")
    pen, y = ImageDraw.Draw(image), 20
    theirs, mine, ink = ("#202c33", "#005c4b", "#e9edef") if is_dark else ("white", "#dcf8c6", "#111111")
    for number in range(3):
        is_mine = (number + idea.words.randrange(2)) % 2 == 1
        left = width - 340 if is_mine else 20
        tall = scene.height + 20 if number == 1 else 84
        pen.rounded_rectangle((left, y, left + 320, y + tall), radius=16, fill=mine if is_mine else theirs)
        if number == 1:
            image.paste(scene, (left + 10, y + 10))
        else:
            box = (left + 14, y + 8, left + 306, y + tall - 8)
            lettering.write(image, box, idea.line(), fill=ink, largest_px=24, is_left=True)
        y += tall + 16
    return image


Form = Callable[[Idea], Image.Image]
FORMS: tuple[Form, ...] = (
    *(screenshot, screenshot, screenshot, captioned, captioned, captioned, captioned, with_bar, with_bar, with_bar),
    *(rows_of_text_and_image, four_panels, before_and_after, on_phone, on_handheld, in_window, post, chat),
)


def text_only(idea: Idea) -> Image.Image:
    """A post without an image: nothing in it tells the game but its words."""
    is_dark = idea.rng.random() < 0.4
    image = Image.new("RGB", (600, idea.rng.choice((260, 340, 420))), "#1a1a1b" if is_dark else "white")
    pen, dull, ink = ImageDraw.Draw(image), "#818384", "#d7dadc" if is_dark else "#222222"
    pen.text((20, 14), f"posted {idea.words.randrange(2, 24)} hours ago", fill=dull, font=lettering.font(15))
    for number in range(3):
        top = 40 + number * (image.height - 90) // 3
        box = (20, top, 580, top + (image.height - 100) // 3)
        lettering.write(image, box, idea.line(), fill=ink, largest_px=34 if number == 0 else 24, is_left=True)
    counts = f"{idea.words.randrange(2000)} points    {idea.words.randrange(200)} comments    share    save"
    pen.text((20, image.height - 32), counts, fill=dull, font=lettering.font(15))
    return image


def crossover(idea: Idea, other: Scene) -> Image.Image:
    """Both games in one image: side by side, one in a corner of the other, or cut along the diagonal."""
    first, second = idea.scene(idea.rng, (480, 420)), other(idea.rng, (480, 420))
    if idea.rng.random() < 0.5:
        first, second = second, first
    kind = idea.rng.randrange(3)
    if kind == 0:
        image = Image.new("RGB", (960, 490), "white")
        image.paste(first, (0, 70))
        image.paste(second, (480, 70))
        lettering.write(image, (10, 4, 950, 66), idea.line(), fill="black", largest_px=40)
    elif kind == 1:
        image = first.resize((720, 630))
        image.paste(second.resize((300, 262)), (400, 350))
    else:
        mask = Image.new("L", first.size)
        ImageDraw.Draw(mask).polygon([(0, 420), (480, 420), (480, 0)], fill=255)
        image = Image.composite(second, first, mask)
        lettering.write_heavy(image, (10, 5, 470, 90), idea.line())
    return image


def removed_placeholder() -> Image.Image:
    """What an image host shows when the image is gone; people save it all the same."""
    image = Image.new("RGB", (161, 81), "#222222")
    pen = ImageDraw.Draw(image)
    pen.ellipse((12, 20, 52, 60), outline="#bbbbbb", width=3)
    pen.line((22, 30, 42, 50), fill="#bbbbbb", width=3)
    lettering.write(image, (58, 18, 156, 62), "the image you want / is not here / any more", fill="#dddddd")
    return image
