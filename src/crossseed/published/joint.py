"""The joint alignment as published (arXiv 2605.24577, section on the joint bar), and which of its parts decide.

R = (I − S)⁻¹ (I + S) with S antisymmetric, so that det R = +1; 400 steps of Adam at 5e-2 from R = I; every 20
steps and after the first the errors are taken, and the state with the least (largest tensor's mean squared error,
mean over all entries) is kept: the quantity that is minimised does not choose. λ is taken to 100, where the
weights' term, times 1 − λ, is maximised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.gauge.joint import Terms

LAMBDAS = (0.0, 0.1, 1.0, 10.0, 100.0)
STEPS, LEARNING_RATE, EVERY = 400, 5e-2, 20


class Kept(NamedTuple):
    """States of one minimisation: the one published, and that of the least loss among those looked at."""

    published: np.ndarray
    least_loss: np.ndarray


def minimise(weights: Terms, activations: Terms, sizes: np.ndarray, lam: float) -> Kept:
    """The published optimiser.

    Args:
        weights, activations: terms of the published objective.
        sizes: entries of every tensor, (tensors,).
    """
    # Imported here: PyTorch.
    import torch

    from crossseed.adam import Adam

    cross_w, cross_a = (torch.from_numpy(terms.product) for terms in (weights, activations))
    constants = [float(terms.weight @ terms.constant) for terms in (weights, activations)]
    d = len(cross_w)
    free = torch.zeros(d, d, dtype=torch.float64, requires_grad=True)
    optimiser = Adam([free])
    still = torch.eye(d, dtype=torch.float64)
    looked: list[tuple[tuple[float, float], float, np.ndarray]] = []
    for step in range(STEPS + 1):
        skew = (free - free.T) / 2
        rotation = torch.linalg.solve(still - skew, still + skew)
        traces = [(cross * rotation.T).sum() for cross in (cross_w, cross_a)]
        errors = [c - 2 * trace for c, trace in zip(constants, traces, strict=True)]
        loss = (1 - lam) * errors[0] + lam * errors[1]
        if step == 1 or (step and step % EVERY == 0):
            found = rotation.detach().numpy().copy()
            each = weights.each(found) / weights.weight
            measured = (float((each / sizes).max()), weights.error(found))
            looked.append((measured, float(loss.detach()), found))
        optimiser.step(torch.autograd.grad(loss, [free]), LEARNING_RATE)
    return Kept(
        min(looked, key=lambda state: state[0])[2], min(looked, key=lambda state: state[1])[2]
    )
