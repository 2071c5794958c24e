"""The covariance of a split's activations, and its root, by which directions are compared on data."""

from __future__ import annotations

import numpy as np

from crossseed.activations import SplitReader
from crossseed.metrics import unit_blocks, unit_starts

BLOCK_ROWS = 8192


def covariance_root(split: SplitReader) -> np.ndarray:
    """Symmetric square root of the covariance of a split's activations, (d, d)."""
    sums = Sums(split.width)
    for _, rows, _ in unit_blocks(unit_starts(split.document_n), split.n_tokens, BLOCK_ROWS):
        sums.add(split.rows(rows))
    return sums.root()


class Sums:
    """Sums over rows behind their covariance, in float64, of rows as wide as `width`."""

    def __init__(self, width: int) -> None:
        self.n = 0
        self.total_d = np.zeros(width)
        self.squares_dd = np.zeros((width, width))

    def add(self, x_nd: np.ndarray) -> None:
        """Adds rows of activations, (tokens, width)."""
        self.n += len(x_nd)
        self.total_d += x_nd.sum(axis=0, dtype=np.float64)
        self.squares_dd += x_nd.astype(np.float64).T @ x_nd

    def root(self) -> np.ndarray:
        """Symmetric square root of the covariance, (d, d)."""
        mean = self.total_d / self.n
        return root(self.squares_dd / self.n - np.outer(mean, mean))


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root of a covariance, (d, d)."""
    values, vectors = np.linalg.eigh(covariance)
    found: np.ndarray = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return found
