"""What the memes say: our own short lines, most of which fit any game."""

import random

_ANYBODY = (
    "me after one more level", "mondays", "when the coffee kicks in", "nobody: / absolutely nobody: / me at 3 am",
    "it was like that when I got here", "my last two brain cells", "tell me I'm wrong", "before lunch / after lunch",
    "is this a quarantine hobby?", "POV: your mom enters the room", "I was not ready for this",
    "best day of the year", "my sleep schedule left the chat", "me pretending to work", "the two moods of march 20th",
    "explain this, science", "send help and snacks", "first day vs last day", "when both drop on the same day",
    "gamers in 2020", "I can hear this picture", "him or me, you choose", "wholesome but cursed",
    "therapist: it can't hurt you / it:", "what a time to be alive", "nothing can stop me now",
    "me explaining the plot to my cat", "when you finally pay it off", "plot twist", "too much power",
    "they are not the same person", "crossover of the century", "weekend plans", "pick your side",
    "day 14 of staying inside", "my brain at night", "when the boss says one last thing", "dad hears the thermostat",
    "my face when the pizza arrives", "the cousin who owns a guitar", "how I think I look / how I look",
    "you are now breathing manually", "when the wifi comes back", "group project be like", "unpopular opinion: yes",
    "only real ones remember", "just five more minutes", "that one friend", "what I ordered / what I got",
    "the internet in one picture", "it costs nothing to be nice", "no thoughts, head empty today",
    "I made this instead of sleeping", "found this on an old drive", "please clap", "my two moods",
    "when someone touches my snacks", "somewhere a clock is ticking", "new year, same me", "all my homies nap",
)  # fmt: skip
_OF_CLASS = {
    "doom": (
        "one more demon before bed", "when the heavy metal starts", "they locked me in / no, them with me",
        "the demons hear me coming", "found the red key", "no health, all shotgun", "hell called, it wants me gone",
        "green armour, good day", "running it on a fridge",
    ),
    "animal_crossing": (
        "the landlord wants his bells", "turnip prices today", "a new villager moved in", "another sea bass",
        "shaking trees for furniture", "wasps again", "my island, my rules", "the museum took my fossil",
        "paid the loan, got a bigger loan",
    ),
    "genshin_impact": (
        "lost the coin toss again", "no more wishes left", "when you pull a five star", "climbing in the rain",
        "out of stamina / over the sea", "saving for the next banner", "my team has no healer",
        "emergency food is not food",
    ),
}  # fmt: skip
TITLES = ("oc", "made this last night", "had to be done", "sorry not sorry", "hope this isn't a repost")


def caption(class_name: str, rng: random.Random) -> str:
    """A line for an image; sometimes one that only fits its game."""
    if class_name in _OF_CLASS and rng.random() < 0.15:
        return rng.choice(_OF_CLASS[class_name])
    return rng.choice(_ANYBODY)


def title(class_name: str, rng: random.Random) -> str:
    """What somebody writes above a post."""
    return rng.choice(TITLES) if rng.random() < 0.2 else caption(class_name, rng)
