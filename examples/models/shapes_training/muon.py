"""Muon: momentum whose matrix updates are orthogonalised (Keller Jordan, 2024).

It converges faster than AdamW on the weights of convolutions and linear layers;
biases, norms and embeddings stay with AdamW. See
https://kellerjordan.github.io/posts/muon/ for the method and the coefficients.
"""

from __future__ import annotations

import torch


def orthogonalise(matrices: torch.Tensor, rounds: int = 5) -> torch.Tensor:
    """Nearly orthogonal matrices with the singular vectors of the given batch.

    A quintic Newton-Schulz iteration: singular values end near 1.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(rounds):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Takes weights of two or more dimensions; all but the first are flattened."""

    def __init__(self, weights: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            by_shape: dict[tuple[int, int], list[tuple[torch.nn.Parameter, torch.Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                buffer = self.state[weight].setdefault("buffer", torch.zeros_like(weight))
                buffer.lerp_(weight.grad, 1 - momentum)
                update = weight.grad.lerp(buffer, momentum).flatten(1)
                by_shape.setdefault(tuple(update.shape), []).append((weight, update))
            for (rows, columns), members in by_shape.items():
                updates = orthogonalise(torch.stack([update for _, update in members]))
                scale = max(1.0, rows / columns) ** 0.5
                for (weight, _), update in zip(members, updates):
                    weight.mul_(1 - lr * group["decay"])
                    weight.add_(update.view_as(weight), alpha=-lr * scale)
