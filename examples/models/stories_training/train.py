"""Trains the stories model from nothing and writes its Hugging Face folder.

    python train.py --out ../stories --work ~/stories-work --processes 2

Every batch is written by the grammar on the spot and follows from --seed and the step
alone, so the same command resumes from the work folder where it was. --minutes ends
the run by the clock instead of by steps. Only what the assistant says is learned, and
stories without a conversation.
"""

from __future__ import annotations

import argparse
import sys
import time
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer

from layout import POSITIONS, Encoder, build_model, build_tokenizer, export
from stories import converse

import generate
import score
from loop import Clock, add_options, follow, launch, save, set_rates, share
from muon import Muon

LENGTHS = ((0.55, POSITIONS // 4), (0.85, POSITIONS // 2), (1.0, POSITIONS))
"""Length of a row until that share of the run: short rows are cheaper and hold most conversations whole."""
WARMUP = 50
"""Steps until the learning rates are reached."""


class Rows:
    """Rows of conversations, one after another; the last of a row is cut at its end."""

    def __init__(self, encoder: Encoder, tokens: int, repeats: float) -> None:
        self.encoder, self.tokens, self.repeats = encoder, tokens, repeats

    def draw(self, length: int, rng: Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Ids, what each place is to predict (-100: nothing), and an attention mask that keeps texts apart."""
        count = max(1, self.tokens // length)
        ids = np.zeros((count, length + 1), np.int64)
        labels = np.full((count, length + 1), -100, np.int64)
        texts = np.zeros((count, length + 1), np.int64)
        for row in range(count):
            filled, text = 0, 0
            while filled <= length:
                tokens, learned = self.encoder.encode(converse(rng, self.repeats), headed=rng.random() < 0.5)
                place = slice(filled, min(filled + len(tokens), length + 1))
                size = place.stop - place.start
                ids[row, place] = tokens[:size]
                labels[row, place] = np.where(learned[:size], tokens[:size], -100)
                labels[row, filled] = -100
                texts[row, place] = text
                filled, text = filled + size, text + 1
        held = texts[:, :-1]
        seen = np.tri(length, dtype=bool) & (held[:, None, :, None] == held[:, None, None, :])
        mask = torch.zeros(seen.shape).masked_fill(~torch.from_numpy(seen), torch.finfo(torch.float32).min)
        return torch.from_numpy(ids[:, :-1]), torch.from_numpy(labels[:, 1:]), mask


class Trainer:
    def __init__(self, rank: int, options: argparse.Namespace) -> None:
        self.options, self.rank = options, rank
        options.work.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.model = build_model()
        self.tokenizer = build_tokenizer()
        self.rows = Rows(Encoder(self.tokenizer), options.tokens // options.processes, options.repeats)
        self.log(f"torch {torch.__version__}, seed {options.seed}, {options.processes} processes")
        self.log(f"parameters: {sum(p.numel() for p in self.model.parameters()):,}")

    def log(self, line: str) -> None:
        if self.rank != 0:
            return
        text = time.strftime("%H:%M:%S ") + line
        print(text, flush=True)
        with open(self.options.work / "train.log", "a", encoding="utf-8") as file:
            file.write(text + "\n")

    def loss(self, clock: Clock) -> torch.Tensor:
        length = next(length for share, length in LENGTHS if clock.progress <= share)
        ids, labels, mask = self.rows.draw(length, Random(f"{self.options.seed} {clock.step} {self.rank}"))
        states = self.model.model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        learned = labels != -100
        return F.cross_entropy(self.model.lm_head(states[learned]), labels[learned])

    def run(self) -> None:
        options, model = self.options, self.model
        path = options.work / "model.pt"
        layers = {name for name, weight in model.named_parameters() if ".layers." in name and weight.ndim == 2}
        optimisers = [
            torch.optim.AdamW(
                [weight for name, weight in model.named_parameters() if name not in layers],
                lr=options.rate, betas=(0.9, 0.95), weight_decay=0.0,
            ),
            Muon([weight for name, weight in model.named_parameters() if name in layers], lr=options.muon_rate),
        ]  # fmt: skip
        clock = Clock(options.steps, options.minutes)
        average = {name: value.detach().clone() for name, value in model.state_dict().items()}
        if path.exists():
            kept = torch.load(path, weights_only=True)
            model.load_state_dict(kept["model"])
            average = kept["average"]
            for optimiser, state in zip(optimisers, kept["optimisers"]):
                optimiser.load_state_dict(state)
            clock = Clock(options.steps, options.minutes, kept["step"], kept["seconds"])
            self.log(f"resumed at step {clock.step}")
        weights, losses = list(model.parameters()), []
        began, first = time.monotonic(), clock.step
        while clock.progress < 1:
            set_rates(optimisers, clock.factor(WARMUP))
            loss = self.loss(clock)
            loss.backward()
            mean, seconds = share(weights, loss.item(), clock.seconds, self.rank, options.processes)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            for optimiser in optimisers:
                optimiser.step()
                optimiser.zero_grad()
            clock.tick(seconds)
            follow(average, model, clock.step)
            losses.append(mean)
            if clock.step % 50 == 0:
                pace = (time.monotonic() - began) / (clock.step - first)
                self.log(f"step {clock.step} ({clock.progress:.1%})  loss {np.mean(losses):.4f}  {pace:.3f} s/step")
                losses.clear()
            done = clock.progress >= 1
            if self.rank == 0 and (clock.step % options.save_every == 0 or done):
                state = {"model": model.state_dict(), "average": average, "step": clock.step, "seconds": clock.seconds}
                save(path, state | {"optimisers": [optimiser.state_dict() for optimiser in optimisers]})
            if self.rank == 0 and (clock.step % options.export_every == 0 or done):
                self.check(average, clock.step)

    def check(self, average: dict[str, torch.Tensor], step: int) -> None:
        """Exports the averaged weights and scores a part of the exam with them."""
        size = export(self.options.out, self.tokenizer, average)
        held = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.model.load_state_dict(average)
        cases = score.cases()[:: self.options.exam_every]
        tokenizer = AutoTokenizer.from_pretrained(self.options.out, local_files_only=True)
        tally = score.judge(cases, generate.answer(self.model.eval(), tokenizer, cases))
        self.model.train()
        self.model.load_state_dict(held)
        self.log(f"step {step} exported, {size:,} bytes; {score.line(tally)}")


def work(rank: int, options: argparse.Namespace) -> None:
    Trainer(rank, options).run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--tokens", type=int, default=2048, help="tokens a step")
    parser.add_argument("--repeats", type=float, default=0.25, help="share of conversations that only repeat words")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, help="end by the clock")
    parser.add_argument("--rate", type=float, default=4e-3, help="of embedding and norms, by AdamW")
    parser.add_argument("--muon-rate", type=float, default=0.02, help="of the layers' matrices, by Muon")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--export-every", type=int, default=500)
    parser.add_argument("--exam-every", type=int, default=20, help="an export is scored on one case in so many")
    launch(work, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
