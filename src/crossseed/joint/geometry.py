"""Where the decoder directions of joint SAEs point: mean cosines beside their floor, and a projection."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

BLOCK_ROWS = 1024


def mean_absolute_cosine(unit_fd: np.ndarray) -> float:
    """Mean |cosine| of all pairs of unit rows, (latents, width) (figure 3); NaN with fewer than two."""
    n = len(unit_fd)
    if n < 2:
        return float("nan")
    total = sum(
        float(np.abs(unit_fd[i : i + BLOCK_ROWS] @ unit_fd.T).sum(dtype=np.float64))
        for i in range(0, n, BLOCK_ROWS)
    )
    # Each row's cosine with itself is 1, up to rounding.
    return (total - float(np.square(unit_fd).sum(dtype=np.float64))) / (n * (n - 1))


def random_absolute_cosine(width: int) -> float:
    """Its expectation for independent random directions: Γ(d/2) / (√π Γ((d + 1)/2))."""
    return math.exp(math.lgamma(width / 2) - math.lgamma((width + 1) / 2)) / math.sqrt(math.pi)


class Projection(NamedTuple):
    """Attributes: coordinates: on the two leading principal axes, (latents, 2). shares: of the variance along these."""

    coordinates: np.ndarray
    shares: tuple[float, float]


def projection(unit_fd: np.ndarray) -> Projection:
    """The two leading principal components of decoder rows, (latents, width); each axis has its largest entry
    positive."""
    centred = unit_fd.astype(np.float64) - unit_fd.mean(axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), [0, 1]])
    shares = values[:-3:-1] / values.sum()
    return Projection(centred @ axes, (float(shares[0]), float(shares[1])))


def geometry(
    unit_fd: Sequence[np.ndarray], active_f: np.ndarray | None = None
) -> Mapping[str, float]:
    """``cosine``: mean |cosine| of decoder directions, the mean over models; ``cosine_random``: its floor.

    Args:
        unit_fd: unit decoder rows of each model, (latents, width). active_f: latents that count; all without it.
    """
    chosen = slice(None) if active_f is None else active_f
    found = [mean_absolute_cosine(rows[chosen]) for rows in unit_fd]
    floor = random_absolute_cosine(unit_fd[0].shape[1])
    return {"cosine": float(np.mean(found)), "cosine_random": floor}
