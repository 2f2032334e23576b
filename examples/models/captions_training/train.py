"""Trains the captions model from nothing and writes its folder; a few minutes on one core.

    python train.py --out ../captions

A batch is as many pictures, each named twice: by a query, which may leave things open,
and by a sentence that says all. Queries learn to be near every sentence of the batch that
they cover, and far from the others (contrastive learning with in-batch negatives; van den
Oord et al., 2018), and sentences likewise. All follows from --seed.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from pathlib import Path
from random import Random

import torch

import captions
import score
from layout import Encoder, build_model, build_tokenizer, export

sys.path.append(str(Path(__file__).resolve().parents[1] / "shapes_training"))

from loop import follow, set_rates  # noqa: E402
from muon import Muon  # noqa: E402

TEMPERATURE = 0.05


def coded(meanings: list[captions.Meaning]) -> torch.Tensor:
    """Rows of four numbers; 0 for what is left open."""
    places = [[None, *captions.WORDS["colour" if part == "background" else part]] for part in captions.PARTS]
    return torch.tensor([[place.index(getattr(m, part)) for part, place in zip(captions.PARTS, places)] for m in meanings])


def covering(asked: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Which of the coded queries cover which of the coded pictures."""
    asked = asked[:, None]
    return ((asked == 0) | (asked == known)).all(-1)


GRID = coded(list(captions.GRID))
NEAR = [row.nonzero().flatten().tolist() for row in (GRID[:, None] != GRID).sum(-1) == 1]
"""For each picture, those that differ in exactly one part."""
EXCHANGED = (GRID[:, None] == GRID[:, [0, 3, 2, 1]]).all(-1).nonzero()[:, 1].tolist()
"""For each picture, the one with the colours of its shape and its background exchanged."""


def draw(rng: Random, count: int) -> tuple[list[str], list[str], torch.Tensor]:
    """Queries, sentences, and which query covers which sentence."""
    asked = [captions.query(rng, held=False) for _ in range(count)]
    codes = coded([meaning for meaning, _ in asked])
    # A third of the sentences fit their query. The others are hard to tell from one that does: they differ in a single
    # part, or have the colours of shape and background exchanged, without which a model that knows words but not their
    # order would do as well.
    fits = [rng.choice(row.nonzero().flatten().tolist()) for row in covering(codes, GRID)]
    shown = fits + [rng.choice(NEAR[index]) for index in fits] + [EXCHANGED[index] for index in fits]
    sentences = [captions.paraphrase(captions.GRID[index], rng) for index in shown]
    return [text for _, text in asked], sentences, covering(codes, GRID[shown])


def loss_of(near: torch.Tensor, covered: torch.Tensor) -> torch.Tensor:
    """How little of the likelihood the covered ones have, each way: minus its logarithm, in nats."""
    total = torch.tensor(0.0)
    for scores, right in ((near, covered), (near.T, covered.T)):
        kept = right.any(1)
        scores, right = scores[kept] / TEMPERATURE, right[kept]
        hits = scores.masked_fill(~right, -math.inf).logsumexp(1)
        total = total + (scores.logsumexp(1) - hits).mean()
    return total / 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32, help="queries a step")
    parser.add_argument("--rate", type=float, default=4e-3, help="of embeddings and norms, by AdamW")
    parser.add_argument("--muon-rate", type=float, default=0.02, help="of the layers' matrices, by Muon")
    parser.add_argument("--check-every", type=int, default=500, help="export and score so often")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    rng = Random(options.seed)
    tokenizer, model = build_tokenizer(), build_model()
    encoder = Encoder(tokenizer, model)
    layers = {name for name, weight in model.named_parameters() if ".layer." in name and weight.ndim == 2}
    optimisers = [
        torch.optim.AdamW(
            [weight for name, weight in model.named_parameters() if name not in layers], lr=options.rate, weight_decay=0.0
        ),
        Muon([weight for name, weight in model.named_parameters() if name in layers], lr=options.muon_rate),
    ]
    average = {name: value.detach().clone() for name, value in model.state_dict().items() if value.is_floating_point()}
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}", flush=True)
    recent = 0.0
    for step in range(options.steps):
        done = step / options.steps
        factor = min(1.0, (step + 1) / 100) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        set_rates(optimisers, factor)
        queries, sentences, covered = draw(rng, options.batch)
        rows = encoder.forward(queries + sentences)
        loss = loss_of(rows[: len(queries)] @ rows[len(queries) :].T, covered)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        follow(average, model, step + 1)
        recent += loss.item() / 100
        if (step + 1) % 100 == 0:
            print(f"step {step + 1}  loss {recent:.4f}", flush=True)
            recent = 0.0
        if (step + 1) % options.check_every == 0 or step + 1 == options.steps:
            size = export(options.out, tokenizer, average)
            tally = score.judge(Encoder.load(options.out))
            line = ", ".join(f"{name} {right} of {of}" for name, (right, of) in tally.items())
            print(f"exported, {size:,} bytes; {line}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
