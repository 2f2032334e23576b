"""Scores pictures of the shapes model by plain image processing.

Reads a folder with PNG files and `manifest.json`, a list of
{"file", "prompt", "seed"}, and needs only numpy and Pillow:

    python score.py FOLDER        score a folder; exit 1 below the bars
    python score.py --validate    score 1,000 real renders, to test the scorer itself

How a picture is read. The background is the median colour of a frame around
it. Pixels more than half as far from the background as the picture's strongest
colour are the shape; the mean of the strongest among them is its colour. Both
colours are named by the nearest entry of the palette. The shape's mask is
compared with every shape at every radius and offset; the best intersection over
union names shape and size, and below MIN_IOU there is no shape. A picture is
right when colour and shape are both right.

The thresholds below were fixed before any output of the model was looked at.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shapes import CENTRE_JITTER, COLOURS, GRID, PALETTE, PIXELS, SHAPES, SIZES, Prompt, coverage, draw

MIN_IOU = 0.70
"""A mask that overlaps no template by this much is no shape."""
MAX_COLOUR_DISTANCE = 70.0
"""A colour farther than this from the whole palette (Euclidean, 0..255) is no colour."""
MIN_CONTRAST = 40.0
"""A picture whose strongest colour is nearer than this to its background is empty."""
FRAME = 3
"""Width in pixels of the frame the background is read from."""
SHAPE_QUANTILE = 0.97
"""The smallest shape covers more than the remaining 3 % of a picture."""

BAR_BOTH = 0.95
"""Share of pictures with colour and shape both right, over all prompts."""
BAR_CLASS = 0.90
"""The same, and the attribute itself, for each single colour, shape, size and background."""

NONE = "(none)"
ATTRIBUTES = {
    "colour": COLOURS,
    "shape": SHAPES,
    "size": tuple(SIZES),
    "background": COLOURS,
}


@dataclass(frozen=True)
class Reading:
    """What the scorer sees in a picture."""

    colour: str
    shape: str
    size: str
    background: str
    iou: float


class Templates:
    """Masks of every shape at every radius and offset, one a row."""

    def __init__(self) -> None:
        reach = int(CENTRE_JITTER) + 2
        rows, self.names = [], []
        for shape in SHAPES:
            for size, (low, high) in SIZES.items():
                for radius in np.arange(np.floor(low) - 1, np.ceil(high) + 1.5):
                    base = coverage(shape, float(radius), 0.0, 0.0) >= 0.5
                    for dy in range(-reach, reach + 1):
                        for dx in range(-reach, reach + 1):
                            rows.append(np.roll(base, (dy, dx), (0, 1)).reshape(-1))
                            self.names.append((shape, size))
        self.masks = np.asarray(rows, np.float32)
        self.areas = self.masks.sum(1)

    def best(self, mask: np.ndarray) -> tuple[str, str, float]:
        """Shape, size and intersection over union of the best template."""
        flat = mask.reshape(-1).astype(np.float32)
        both = self.masks @ flat
        iou = both / (self.areas + flat.sum() - both)
        index = int(iou.argmax())
        return *self.names[index], float(iou[index])


def nearest_colour(rgb: np.ndarray) -> str:
    """The palette's name for a colour, or NONE."""
    distances = {name: float(np.linalg.norm(rgb - np.asarray(value))) for name, value in PALETTE.items()}
    name = min(distances, key=distances.__getitem__)
    return name if distances[name] <= MAX_COLOUR_DISTANCE else NONE


def read(picture: np.ndarray, templates: Templates) -> Reading:
    """Names what a picture (uint8 RGB) shows."""
    pixels = picture.astype(np.float32)
    frame = np.ones((PIXELS, PIXELS), bool)
    frame[FRAME:-FRAME, FRAME:-FRAME] = False
    back = np.median(pixels[frame], axis=0)
    background = nearest_colour(back)
    distance = np.linalg.norm(pixels - back, axis=2)
    strongest = float(np.quantile(distance, SHAPE_QUANTILE))
    if strongest < MIN_CONTRAST:
        return Reading(NONE, NONE, NONE, background, 0.0)
    mask = distance > 0.5 * strongest
    core = distance > 0.85 * strongest
    colour = nearest_colour(pixels[core].mean(axis=0))
    shape, size, iou = templates.best(mask)
    if iou < MIN_IOU:
        shape = size = NONE
    return Reading(colour, shape, size, background, iou)


def confusion(title: str, labels: tuple[str, ...], pairs: list[tuple[str, str]]) -> str:
    """A table: one row a wanted label, one column a label seen."""
    counts = Counter(pairs)
    columns = [*labels, NONE]
    width = max(len(label) for label in columns) + 1
    lines = [f"{title} (rows: wanted, columns: seen)"]
    lines.append(" " * width + "".join(f"{label:>{width}}" for label in columns) + "   right")
    for want in labels:
        row = [counts[want, seen] for seen in columns]
        cells = "".join(f"{count or '.':>{width}}" for count in row)
        lines.append(f"{want:<{width}}{cells}  {counts[want, want] / max(1, sum(row)):6.1%}")
    return "\n".join(lines)


def report(prompts: list[Prompt], readings: list[Reading]) -> tuple[str, bool]:
    """The printed tables, and whether both bars are met."""
    both = np.asarray([r.colour == p.colour and r.shape == p.shape for p, r in zip(prompts, readings)])
    everything = np.asarray(
        [all(getattr(r, a) == getattr(p, a) for a in ATTRIBUTES) for p, r in zip(prompts, readings)]
    )
    parts, weakest = [], (1.0, "any", "class")
    for attribute, labels in ATTRIBUTES.items():
        pairs = [(getattr(p, attribute), getattr(r, attribute)) for p, r in zip(prompts, readings)]
        parts.append(confusion(attribute, labels, pairs))
        lines = []
        for label in labels:
            chosen = np.asarray([want == label for want, _ in pairs])
            if not chosen.any():
                lines.append(f"  {label:<9} no picture")
                weakest = min(weakest, (0.0, attribute, label))
                continue
            own = float(np.mean([seen == label for want, seen in pairs if want == label]))
            pair = float(both[chosen].mean())
            weakest = min(weakest, (own, attribute, label), (pair, attribute, label))
            lines.append(f"  {label:<9} {attribute} right {own:6.1%}, colour and shape right {pair:6.1%}")
        parts.append("\n".join(lines))
    ious = np.asarray([r.iou for r in readings])
    met = float(both.mean()) >= BAR_BOTH and weakest[0] >= BAR_CLASS
    parts.append(
        f"pictures: {len(prompts)}\n"
        f"colour and shape both right: {both.mean():.2%} (bar {BAR_BOTH:.0%})\n"
        f"all four attributes right:   {everything.mean():.2%}\n"
        f"weakest class: {weakest[1]} {weakest[2]} {weakest[0]:.1%} (bar {BAR_CLASS:.0%})\n"
        f"best-template IoU: mean {ious.mean():.3f}, 5th percentile {np.quantile(ious, 0.05):.3f} "
        f"(no shape below {MIN_IOU})\n"
        f"verdict: {'pass' if met else 'FAIL'}"
    )
    return "\n\n".join(parts), met


def score_folder(folder: Path) -> tuple[str, bool]:
    """Scores the pictures that the folder's manifest names."""
    entries = json.loads((folder / "manifest.json").read_text())
    templates = Templates()
    prompts, readings = [], []
    for entry in entries:
        picture = np.asarray(Image.open(folder / entry["file"]).convert("RGB"))
        if picture.shape != (PIXELS, PIXELS, 3):
            raise SystemExit(f"{entry['file']}: {picture.shape[1]}x{picture.shape[0]} pixels, want {PIXELS}x{PIXELS}")
        prompts.append(Prompt.parse(entry["prompt"]))
        readings.append(read(picture, templates))
    return report(prompts, readings)


def validate(count: int = 1000) -> tuple[str, bool]:
    """Scores real renders with jitter; anything but 100 % is a fault of the scorer."""
    rng = np.random.default_rng(20)
    templates = Templates()
    prompts = [GRID[i] for i in np.concatenate([rng.permutation(len(GRID)) for _ in range(count // len(GRID) + 1)])]
    prompts = prompts[:count]
    readings = [read(draw(prompt, rng), templates) for prompt in prompts]
    text, met = report(prompts, readings)
    perfect = all(getattr(r, a) == getattr(p, a) for p, r in zip(prompts, readings) for a in ATTRIBUTES)
    return f"{text}\nscorer on real renders: {'every attribute right' if perfect else 'FAULTY'}", met and perfect


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="pictures and manifest.json")
    parser.add_argument("--validate", action="store_true", help="score real renders instead")
    arguments = parser.parse_args()
    if arguments.validate == (arguments.folder is not None):
        parser.error("give either a folder or --validate")
    text, met = validate() if arguments.validate else score_folder(arguments.folder)
    print(text)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
