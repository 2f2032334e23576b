"""The language of the captions model: what a picture of the shapes model can be called.

A meaning is a size, a colour, a shape and a background. A query leaves the background out,
and maybe more, but never both shape and colour. A sentence says a meaning in one of many ways, with
one of several words for each part. Everything that trains or scores the model takes its
sentences from this file, which needs only the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from random import Random

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "size": {
        "large": ("large", "big", "huge", "giant", "enormous"),
        "small": ("small", "little", "tiny", "wee", "minute"),
    },
    "colour": {
        "red": ("red", "crimson", "scarlet", "ruby"),
        "green": ("green", "emerald", "grass-green"),
        "blue": ("blue", "azure", "navy"),
        "yellow": ("yellow", "golden", "lemon"),
        "purple": ("purple", "violet", "lilac"),
        "orange": ("orange", "amber", "tangerine"),
        "white": ("white", "ivory", "snow-white"),
        "black": ("black", "jet-black", "ebony"),
    },
    "shape": {
        "circle": ("circle", "disc", "round spot", "dot"),
        "square": ("square", "box", "block"),
        "triangle": ("triangle", "wedge", "three-cornered shape"),
        "diamond": ("diamond", "rhombus", "lozenge"),
        "cross": ("cross", "plus sign", "plus"),
        "ring": ("ring", "hoop", "loop"),
    },
}
"""The words for each value; the first is the one of the shapes model."""

PARTS = ("size", "colour", "shape", "background")


@dataclass(frozen=True)
class Meaning:
    """What a sentence says; None for what it leaves open."""

    size: str | None
    colour: str | None
    shape: str | None
    background: str | None

    def covers(self, other: Meaning) -> bool:
        """Whether everything that this says is so in the other."""
        return all(getattr(self, part) in (None, getattr(other, part)) for part in PARTS)

    @property
    def caption(self) -> str:
        """The shapes model's own sentence for a whole meaning."""
        return f"a {self.size} {self.colour} {self.shape} on {article(self.background)} {self.background} background"


GRID: tuple[Meaning, ...] = tuple(
    Meaning(size, colour, shape, background)
    for size, colour, shape, background in product(
        WORDS["size"], WORDS["colour"], WORDS["shape"], WORDS["colour"]
    )
    if colour != background
)
"""Every picture there is: 672."""

FIGURES = (
    "{article} {adjectives} {noun}",
    "the {adjectives} {noun}",
    "{noun}, {commas}",
    "some {noun} that is {ands}",
    "{adjectives} {noun}",
)
GROUNDS = (
    "{figure} on {article} {ground} background",
    "{figure} on {ground}",
    "{figure} in front of something {ground}",
    "on a background of {ground}: {figure}",
    "a {ground} ground behind {figure}",
    "{figure} with {ground} all around it",
)
ASKED = (
    "{text}",
    "{text}",
    "{text}?",
    "{text}.",
    "show me {text}",
    "I am looking for {text}",
    "is there a picture of {text}?",
    "find {text}, please",
    "which one shows {text}?",
)


def article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def held_out(words: dict[str, str]) -> bool:
    """Whether a choice of words is kept from training: a tenth of the pairs of words for colour and shape, and of those
    for background and shape. The shapes model's own words are never held out."""
    noun = words.get("shape")
    for part in ("colour", "background"):
        word = words.get(part)
        if noun is None or word is None or (word in WORDS["colour"] and noun in WORDS["shape"]):
            continue
        if sha256(f"{part} {word} {noun}".encode()).digest()[0] < 26:
            return True
    return False


def say(meaning: Meaning, words: dict[str, str], rng: Random) -> str:
    """A sentence of these words."""
    adjectives = [words[part] for part in ("size", "colour") if part in words]
    noun = words.get("shape", rng.choice(("shape", "thing", "figure")))
    figures = FIGURES if adjectives else FIGURES[:2]
    parts = {
        "adjectives": " ".join(adjectives),
        "commas": ", ".join(adjectives),
        "ands": " and ".join(adjectives),
        "noun": noun,
        "article": article((adjectives or [noun])[0]),
    }
    figure = " ".join(rng.choice(figures).format(**parts).split())
    text = figure
    if meaning.background is not None:
        ground = words["background"]
        text = rng.choice(GROUNDS).format(figure=figure, ground=ground, article=article(ground))
    return rng.choice(ASKED).format(text=text)


def choose(meaning: Meaning, rng: Random) -> dict[str, str]:
    """One word for each part that a meaning has."""
    words = {}
    for part in PARTS:
        value = getattr(meaning, part)
        if value is not None:
            words[part] = rng.choice(WORDS["colour" if part == "background" else part][value])
    return words


def forget(meaning: Meaning, rng: Random) -> Meaning:
    """A query for a picture: it says nothing of the background, and leaves open at random what else it does."""
    kept = {part: getattr(meaning, part) if rng.random() < 0.75 else None for part in PARTS}
    kept["background"] = None
    if kept["shape"] is None and kept["colour"] is None:
        part = rng.choice(("shape", "colour"))
        kept[part] = getattr(meaning, part)
    return Meaning(**kept)


def query(rng: Random, held: bool) -> tuple[Meaning, str]:
    """A query's meaning and sentence, with words that training may see or with held-out ones."""
    while True:
        meaning = forget(rng.choice(GRID), rng)
        words = choose(meaning, rng)
        if held_out(words) == held:
            return meaning, say(meaning, words, rng)


def paraphrase(meaning: Meaning, rng: Random) -> str:
    """A sentence of the whole meaning, for training: in a third of cases the shapes model's own."""
    if rng.random() < 1 / 3:
        return meaning.caption
    while True:
        words = choose(meaning, rng)
        if not held_out(words):
            return say(meaning, words, rng)
