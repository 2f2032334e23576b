"""Muon: momentum whose matrix updates are orthogonalised (Keller Jordan, 2024).

It converges faster than AdamW on the weights of convolutions and linear layers;
biases, norms and embeddings stay with AdamW. See
https://kellerjordan.github.io/posts/muon/ for the method and the coefficients.
"""

from __future__ import annotations

import torch


def orthogonalise(matrices: list[torch.Tensor], rounds: int = 5) -> list[torch.Tensor]:
    """Nearly orthogonal matrices with the singular vectors of the given ones.

    A quintic Newton-Schulz iteration: singular values end near 1. Every round
    multiplies a matrix by a polynomial of its small Gram matrix. Those
    polynomials commute, so they are gathered first, for all matrices with
    equally large Gram matrices at once, and meet the long matrices once.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = [m.mT if m.shape[0] > m.shape[1] else m for m in matrices]
    norms = torch._foreach_add(torch._foreach_norm(wide), 1e-7)
    wide = list(torch._foreach_div(wide, norms))
    by_rows: dict[int, list[int]] = {}
    for index, x in enumerate(wide):
        by_rows.setdefault(len(x), []).append(index)
    for rows, members in by_rows.items():
        gram = torch.stack([wide[index] @ wide[index].mT for index in members])
        identity = torch.eye(rows, device=gram.device)
        product = identity.expand_as(gram)
        for _ in range(rounds):
            factor = a * identity + b * gram + c * (gram @ gram)
            product = factor @ product
            gram = factor @ gram @ factor
        for index, polynomial in zip(members, product):
            wide[index] = polynomial @ wide[index]
    return [x.mT if m.shape[0] > m.shape[1] else x for m, x in zip(matrices, wide)]


class Muon(torch.optim.Optimizer):
    """Takes weights of two or more dimensions; all but the first are flattened."""

    def __init__(self, weights: list[torch.nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            lr, momentum = group["lr"], group["momentum"]
            weights = [weight for weight in group["params"] if weight.grad is not None]
            grads = [weight.grad for weight in weights]
            buffers = [self.state[w].setdefault("buffer", torch.zeros_like(w)) for w in weights]
            torch._foreach_lerp_(buffers, grads, 1 - momentum)
            nesterov = torch._foreach_lerp(grads, buffers, momentum)
            updates = orthogonalise([update.flatten(1) for update in nesterov])
            torch._foreach_mul_(weights, 1 - lr * group["decay"])
            for weight, update in zip(weights, updates):
                rows, columns = update.shape
                weight.add_(update.view_as(weight), alpha=-lr * max(1.0, rows / columns) ** 0.5)
