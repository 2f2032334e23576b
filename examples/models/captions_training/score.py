"""Scores the captions model: does a query find the pictures it asks for?

    python score.py ../captions

Each of 2,000 queries is compared with the captions of all 672 pictures by the cosine of
their embeddings. It is right when the nearest caption is one that the query covers; the
classes are whether its words were held out from training. The embeddings are those of
transformers, pooled as the folder's modules say. The bars are older than any output of a
model; the queries had backgrounds then, see README.md. Exits 1 below a bar.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch

import captions
from layout import Encoder

BARS = {"trained words": 0.97, "held-out words": 0.93}
QUERIES = 1_000
"""Of each class."""


def judge(embed: Callable[[list[str]], torch.Tensor]) -> dict[str, tuple[int, int]]:
    """Right answers and queries of each class; embed gives rows of length 1."""
    known = embed([meaning.caption for meaning in captions.GRID])
    tally = {}
    for name, held in (("trained words", False), ("held-out words", True)):
        rng = Random(f"exam {name}")
        asked = [captions.query(rng, held) for _ in range(QUERIES)]
        nearest = (embed([text for _, text in asked]) @ known.T).argmax(1).tolist()
        right = sum(meaning.covers(captions.GRID[index]) for (meaning, _), index in zip(asked, nearest))
        tally[name] = (right, QUERIES)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    below = False
    for name, (right, count) in judge(Encoder.load(folder)).items():
        below |= right / count < BARS[name]
        print(f"{name:<16} {right:>5} of {count}  {right / count:7.1%}  bar {BARS[name]:.0%}")
    return int(below)


if __name__ == "__main__":
    sys.exit(main())
