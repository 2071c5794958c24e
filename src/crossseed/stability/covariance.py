"""The covariance of a split's activations, and its root, by which directions are compared on data."""

from __future__ import annotations

import numpy as np

from crossseed.activations import SplitReader
from crossseed.metrics import unit_blocks, unit_starts

BLOCK_ROWS = 8192


def covariance_root(split: SplitReader) -> np.ndarray:
    """Symmetric square root of the covariance of a split's activations, (d, d)."""
    total, squares = np.zeros(split.width), np.zeros((split.width, split.width))
    for _, rows, _ in unit_blocks(unit_starts(split.document_n), split.n_tokens, BLOCK_ROWS):
        x = split.rows(rows)
        total += x.sum(axis=0, dtype=np.float64)
        squares += x.astype(np.float64).T @ x
    return root(covariance_of(total, squares, split.n_tokens))


def covariance_of(total_d: np.ndarray, squares_dd: np.ndarray, n: int) -> np.ndarray:
    mean = total_d / n
    found: np.ndarray = squares_dd / n - np.outer(mean, mean)
    return found


def root(covariance: np.ndarray) -> np.ndarray:
    """Symmetric square root, (d, d)."""
    values, vectors = np.linalg.eigh(covariance)
    found: np.ndarray = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    return found
