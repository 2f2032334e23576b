"""What the training programs of this repository share: the clock of a stage, safe
checkpoints, and several processes on one CPU.

With several processes, each works on its part of a batch with one thread, which on a
CPU wastes less than threads that wait on each other. The first is the program itself,
so that stopping it stops all of them at their next step.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist


class Clock:
    """Progress of a stage in 0..1, by steps or by minutes, and its learning-rate factor."""

    def __init__(self, steps: int, minutes: float | None = None, step: int = 0, seconds: float = 0.0) -> None:
        self.steps, self.minutes, self.step = steps, minutes, step
        self.origin = time.monotonic() - seconds
        self.agreed = seconds

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.origin

    def tick(self, seconds: float | None = None) -> None:
        """Counts a step; processes that work together pass the seconds they agreed on."""
        self.step += 1
        self.agreed = self.seconds if seconds is None else seconds

    @property
    def progress(self) -> float:
        done = self.agreed / 60 / self.minutes if self.minutes else self.step / self.steps
        return min(1.0, done)

    def factor(self, warmup: int = 100) -> float:
        """Linear warm-up, then half a cosine down to 1 %."""
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self.progress))
        return cosine * min(1.0, (self.step + 1) / warmup)


def set_rates(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group.setdefault("peak", group["lr"])
            group["lr"] = group["peak"] * factor


def save(path: Path, value: object) -> None:
    """torch.save that leaves the old file whole until the new one is."""
    new = path.with_suffix(".new")
    torch.save(value, new)
    os.replace(new, path)


def follow(average: dict[str, torch.Tensor], model: torch.nn.Module, step: int) -> None:
    """Moves the running average of a model's weights towards the weights after this step."""
    keep = min(0.997, (1 + step) / (10 + step))
    now = model.state_dict()
    torch._foreach_lerp_(list(average.values()), [now[name] for name in average], 1 - keep)


def share(
    weights: list[torch.nn.Parameter], loss: float, seconds: float, rank: int, processes: int
) -> tuple[float, float]:
    """Averages gradients and loss over the processes; the seconds are the first one's."""
    if processes == 1:
        return loss, seconds
    gradients = [weight.grad for weight in weights]
    extra = torch.tensor([loss, seconds * processes if rank == 0 else 0.0])
    flat = torch.cat([*(gradient.flatten() for gradient in gradients), extra])
    dist.all_reduce(flat)
    flat /= processes
    *parts, extra = flat.split([gradient.numel() for gradient in gradients] + [len(extra)])
    torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients)])
    return extra[0].item(), extra[1].item()


def _join(rank: int, work: Callable[[int, argparse.Namespace], None], options: argparse.Namespace) -> None:
    """One process of the training."""
    torch.set_num_threads(max(1, options.threads // options.processes))
    if options.processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        meeting = (options.work / "meeting").resolve().as_uri()
        dist.init_process_group(
            "gloo", init_method=meeting, rank=rank, world_size=options.processes, timeout=timedelta(hours=6)
        )
    work(rank, options)
    if options.processes > 1:
        dist.destroy_process_group()


def launch(work: Callable[[int, argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Runs work(rank, options) in options.processes processes that share options.threads."""
    others = []
    if options.processes > 1:
        options.work.mkdir(parents=True, exist_ok=True)
        (options.work / "meeting").unlink(missing_ok=True)
        context = torch.multiprocessing.get_context("spawn")
        others = [
            context.Process(target=_join, args=(rank, work, options), daemon=True)
            for rank in range(1, options.processes)
        ]
    for process in others:
        process.start()
    _join(0, work, options)
    for process in others:
        process.join()


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every training program has."""
    parser.add_argument("--out", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and the log")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--processes", type=int, default=1, help="on a CPU; they share --threads")
    parser.add_argument("--seed", type=int, default=7)
