"""Lens 2: sparse dictionaries of what components do: of an MLP from what it reads to what it writes (a
transcoder), of a head of what it writes, since what it reads lies at other positions.

h = relu(W_enc (x − b_pre) + b_enc), y ≈ W_dec h + b_dec, minimising the mean squared error plus λ Σ h. Columns of
W_dec have unit length, or the penalty could be evaded by their scale, which arXiv 2605.24577 left free. The
null of a transcoder is trained on targets of other tokens; that of a head's dictionary on Gaussian vectors of the same
mean and covariance, of which as much is explained by as many latents where there is nothing but these.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossseed.adam import Adam
from crossseed.lenses import DICTIONARIES, row
from crossseed.progress import Progress

BATCH = 1024
TRANSCODER, DICTIONARY = "transcoder", "dictionary"


class Transcoder:
    """Weights, as attributes of their names."""

    def __init__(self, width: int, latents: int, generator: torch.Generator) -> None:
        decoder = torch.randn(latents, width, generator=generator)
        self.W_dec = decoder / decoder.norm(dim=1, keepdim=True)
        self.W_enc = torch.randn(width, latents, generator=generator) / width**0.5
        self.b_pre, self.b_dec = torch.zeros(width), torch.zeros(width)
        self.b_enc = torch.zeros(latents)

    def parameters(self) -> list[Tensor]:
        """What is trained."""
        return [self.W_enc, self.b_enc, self.W_dec, self.b_pre, self.b_dec]

    def encode(self, x: Tensor) -> Tensor:
        """Latents of what the component reads, (tokens, width) to (tokens, latents)."""
        return torch.relu((x - self.b_pre) @ self.W_enc + self.b_enc)

    def decode(self, h: Tensor) -> Tensor:
        """What latents say that the component writes, (tokens, latents) to (tokens, width)."""
        return h @ self.W_dec + self.b_dec


def train(
    x_nd: np.ndarray, y_nd: np.ndarray, latents: int, l1: float, lr: float, steps: int, seed: int
) -> Transcoder:
    """Trains one, on pairs of rows."""
    generator = torch.Generator().manual_seed(seed)
    found = Transcoder(x_nd.shape[1], latents, generator)
    x, y = torch.from_numpy(x_nd), torch.from_numpy(y_nd)
    found.b_pre, found.b_dec = x.mean(dim=0), y.mean(dim=0)
    for parameter in found.parameters():
        parameter.requires_grad_(True)
    optimiser = Adam(found.parameters())
    progress = Progress("transcoder", steps)
    for step in range(steps):
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        h = found.encode(x[rows])
        error = (found.decode(h) - y[rows]).square().mean()
        loss = error + l1 * h.sum(dim=1).mean()
        optimiser.step(torch.autograd.grad(loss, optimiser.parameters), lr)
        with torch.no_grad():
            found.W_dec /= found.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-8)
        progress.update(step + 1)
    progress.close()
    return found


Pairs = tuple[np.ndarray, np.ndarray]


def gaussian(x_nd: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Float32 vectors, (n, d), with the mean and the covariance of x."""
    covariance = np.cov(x_nd, rowvar=False)
    values, vectors = np.linalg.eigh(covariance)
    drawn = rng.standard_normal((n, len(values))) * np.sqrt(values.clip(0))
    found: np.ndarray = (drawn @ vectors.T + x_nd.mean(axis=0)).astype(np.float32)
    return found


def measure(
    component: str,
    kind: str,
    expansion: int,
    own: tuple[Transcoder, Pairs],
    null: tuple[Transcoder, Pairs],
) -> list[dict[str, Any]]:
    """Rows of this lens.

    Args:
        kind: ``transcoder`` or ``dictionary``.
        own, null: what was trained, and the held-out tokens it is measured on.
    """
    values, nulls = (_measured(found, *pairs) for found, pairs in (own, null))
    return [
        row(DICTIONARIES, component, f"{kind}_{name}", value, f"x{expansion}", nulls[name])
        for name, value in values.items()
    ]


@torch.no_grad()
def _measured(found: Transcoder, x_nd: np.ndarray, y_nd: np.ndarray) -> dict[str, float]:
    x, y = torch.from_numpy(x_nd), torch.from_numpy(y_nd)
    h = found.encode(x)
    error = (found.decode(h) - y).double().square().sum()
    total = (y - y.mean(dim=0)).double().square().sum()
    live = (h > 0).any(dim=0)
    return {
        "ev": float(1 - error / total),
        "mse": float(error / y.numel()),
        "l0": float((h > 0).sum(dim=1).double().mean()),
        "dead": float((~live).double().mean()),
    }
