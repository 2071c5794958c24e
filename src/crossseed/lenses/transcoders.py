"""Lens 2: an MLP as a sparse dictionary from what it reads to what it writes.

h = relu(W_enc (x − b_pre) + b_enc), y ≈ W_dec h + b_dec, minimising the mean squared error plus λ Σ h. Columns of
W_dec have unit length, or the penalty could be evaded by their scale, which arXiv 2605.24577 left free. The
null is trained on targets of other tokens.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossseed.lenses import DICTIONARIES, mlp, row
from crossseed.progress import Progress

BATCH = 1024


class Transcoder:
    """Weights, as attributes of their names."""

    def __init__(self, width: int, latents: int, generator: torch.Generator) -> None:
        decoder = torch.randn(latents, width, generator=generator)
        self.W_dec = decoder / decoder.norm(dim=1, keepdim=True)
        self.W_enc = torch.randn(width, latents, generator=generator) / width**0.5
        self.b_pre, self.b_dec = torch.zeros(width), torch.zeros(width)
        self.b_enc = torch.zeros(latents)

    def parameters(self) -> list[Tensor]:
        return [self.W_enc, self.b_enc, self.W_dec, self.b_pre, self.b_dec]

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu((x - self.b_pre) @ self.W_enc + self.b_enc)

    def decode(self, h: Tensor) -> Tensor:
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
    optimiser = torch.optim.Adam(found.parameters(), lr=lr)
    progress = Progress("transcoder", steps)
    for step in range(steps):
        rows = torch.randint(len(x), (min(BATCH, len(x)),), generator=generator)
        h = found.encode(x[rows])
        error = (found.decode(h) - y[rows]).square().mean()
        optimiser.zero_grad()
        (error + l1 * h.sum(dim=1).mean()).backward()
        optimiser.step()
        with torch.no_grad():
            found.W_dec /= found.W_dec.norm(dim=1, keepdim=True).clamp(min=1e-8)
        progress.update(step + 1)
    progress.close()
    return found


@torch.no_grad()
def measure(
    layer: int,
    expansion: int,
    found: Transcoder,
    null: Transcoder,
    x_nd: np.ndarray,
    y_nd: np.ndarray,
) -> list[dict[str, Any]]:
    """Rows of this lens, on held-out tokens."""
    x, y = torch.from_numpy(x_nd), torch.from_numpy(y_nd)
    values = []
    for transcoder in (found, null):
        h = transcoder.encode(x)
        error = (transcoder.decode(h) - y).double().square().sum()
        total = (y - y.mean(dim=0)).double().square().sum()
        live = (h > 0).any(dim=0)
        values.append(
            {
                "ev": float(1 - error / total),
                "mse": float(error / y.numel()),
                "l0": float((h > 0).sum(dim=1).double().mean()),
                "dead": float((~live).double().mean()),
            }
        )
    return [
        row(DICTIONARIES, mlp(layer), f"transcoder_{name}", value, f"x{expansion}", values[1][name])
        for name, value in values[0].items()
    ]
