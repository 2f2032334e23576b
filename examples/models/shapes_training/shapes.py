"""The world of the shapes model: its grammar and how its pictures are drawn.

A caption names a size, a colour, a shape and a background, for instance
"a large red circle on a blue background". Everything that trains, samples or
scores the model takes its colours, shapes and sizes from this file, which
needs only numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np

PIXELS = 64
"""Height and width of a picture."""

SUPERSAMPLE = 4
"""Sub-pixels along each side of a pixel, for antialiased edges."""

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (220, 35, 40),
    "green": (35, 165, 70),
    "blue": (30, 85, 225),
    "yellow": (245, 225, 45),
    "purple": (150, 45, 175),
    "orange": (250, 140, 25),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
COLOURS = tuple(PALETTE)

SHAPES = ("circle", "square", "triangle", "diamond", "cross", "ring")

SIZES: dict[str, tuple[float, float]] = {"small": (11.8, 13.2), "large": (21.8, 24.0)}
"""Range of the radius in pixels that each size word stands for."""

CENTRE_JITTER = 3.0
"""The centre of a shape lies within this many pixels of the picture's, on each axis."""


@dataclass(frozen=True)
class Prompt:
    """One point of the grammar."""

    size: str
    colour: str
    shape: str
    background: str

    @property
    def caption(self) -> str:
        """The sentence the model is given."""
        article = "an" if self.background[0] in "aeiou" else "a"
        return (
            f"a {self.size} {self.colour} {self.shape} "
            f"on {article} {self.background} background"
        )

    @staticmethod
    def parse(caption: str) -> "Prompt":
        """Reads a caption back; raises ValueError for a sentence outside the grammar."""
        words = caption.split()
        if len(words) == 8:
            prompt = Prompt(words[1], words[2], words[3], words[6])
            if prompt in GRID_INDEX and prompt.caption == caption:
                return prompt
        raise ValueError(f"not a caption of the shapes grammar: {caption!r}")


GRID: tuple[Prompt, ...] = tuple(
    Prompt(size, colour, shape, background)
    for size, colour, shape, background in product(SIZES, COLOURS, SHAPES, COLOURS)
    if colour != background
)
"""Every prompt there is: 2 sizes x 8 colours x 6 shapes x 7 other backgrounds = 672."""

GRID_INDEX = {prompt: index for index, prompt in enumerate(GRID)}

WORDS = tuple(sorted({word for prompt in GRID for word in prompt.caption.split()}))
"""The vocabulary of the grammar."""


def _inside(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether points, relative to the centre and in units of the radius, lie in the shape.

    y points down, as in pictures.
    """
    match shape:
        case "circle":
            return x * x + y * y <= 1.0
        case "square":
            return np.maximum(np.abs(x), np.abs(y)) <= 0.86
        case "triangle":
            # Apex at the top, base at the bottom, both one radius from the centre.
            return (y <= 0.85) & (np.abs(x) <= (y + 1.0) * (1.05 / 1.85))
        case "diamond":
            return np.abs(x) + np.abs(y) <= 1.1
        case "cross":
            ax, ay = np.abs(x), np.abs(y)
            return (np.maximum(ax, ay) <= 1.0) & (np.minimum(ax, ay) <= 0.32)
        case "ring":
            square = x * x + y * y
            return (square <= 1.0) & (square >= 0.58**2)
    raise ValueError(f"unknown shape: {shape!r}")


def coverage(shape: str, radius: float, centre_x: float, centre_y: float) -> np.ndarray:
    """How much of each pixel the shape covers: float32 in [0, 1], PIXELS x PIXELS.

    Radius and centre are in pixels; the centre of the picture is (0, 0).
    """
    side = PIXELS * SUPERSAMPLE
    axis = (np.arange(side, dtype=np.float32) + 0.5) / SUPERSAMPLE - PIXELS / 2
    x = ((axis - np.float32(centre_x)) / np.float32(radius))[None, :]
    y = ((axis - np.float32(centre_y)) / np.float32(radius))[:, None]
    fine = _inside(shape, x, y)
    blocks = fine.reshape(PIXELS, SUPERSAMPLE, PIXELS, SUPERSAMPLE)
    return blocks.sum(axis=(1, 3), dtype=np.uint8).astype(np.float32) / SUPERSAMPLE**2


def random_coverage(prompt: Prompt, rng: np.random.Generator) -> np.ndarray:
    """The prompt's shape with its radius and centre drawn at random."""
    low, high = SIZES[prompt.size]
    x, y = rng.uniform(-CENTRE_JITTER, CENTRE_JITTER, 2)
    return coverage(prompt.shape, rng.uniform(low, high), x, y)


def paint(prompt: Prompt, cover: np.ndarray) -> np.ndarray:
    """The picture: float32 RGB in [0, 255], PIXELS x PIXELS x 3."""
    colour = np.asarray(PALETTE[prompt.colour], np.float32)
    background = np.asarray(PALETTE[prompt.background], np.float32)
    return background + cover[..., None] * (colour - background)


def draw(prompt: Prompt, rng: np.random.Generator) -> np.ndarray:
    """A picture of the prompt, with jitter: uint8 RGB."""
    return np.rint(paint(prompt, random_coverage(prompt, rng))).astype(np.uint8)
