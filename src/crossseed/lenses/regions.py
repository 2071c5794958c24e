"""Lens 4: the regions on which an MLP is linear.

A token's pattern is which neurons are active; on all tokens with one pattern the MLP is one affine map,
W_out diag(pattern) W_in. Patterns are counted exactly. How many there are is not known from a sample: the count
is shown as it grows with the number of tokens, and beside it Chao's lower bound, n + f₁ (f₁ − 1) / 2 (f₂ + 1)
with f₁, f₂ the patterns seen once and twice. A head is linear nowhere, since its softmax is not; of it the lens
tells how many neurons of its block's MLP it takes across their boundary.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.gauge.weights import Weights
from crossseed.lenses import POLYHEDRAL, mlp, row

# Points of the saturation curve, and regions whose map is told.
POINTS, MOST_REGIONS = 8, 24
RANK_TOLERANCE = 1e-6


def measure(
    weights: Weights, layer: int, active_nm: np.ndarray, shuffled_nm: np.ndarray
) -> list[dict[str, Any]]:
    """Rows of this lens for one MLP.

    Args:
        active_nm: True where a neuron is active, (tokens, neurons), in an order that says nothing.
        shuffled_nm: the same with every neuron's tokens shuffled: patterns of independent neurons, the null.
    """
    name = mlp(layer)
    rows = []
    n = len(active_nm)
    numbers, null_numbers = _numbered(active_nm), _numbered(shuffled_nm)
    for tokens in np.unique(np.geomspace(min(64, n), n, POINTS).astype(int)):
        seen, null = (len(np.unique(found[:tokens])) for found in (numbers, null_numbers))
        rows.append(row(POLYHEDRAL, name, "patterns", seen, tokens, null))
    counts = np.bincount(numbers)
    once, twice = ((counts == k).sum() for k in (1, 2))
    bound = len(counts) + once * (once - 1) / (2 * (twice + 1))
    rows.append(row(POLYHEDRAL, name, "patterns_lower_bound", bound))
    share = active_nm.mean(axis=0)
    for quantity, chosen in (("dead", share == 0), ("always_active", share == 1)):
        rows.append(row(POLYHEDRAL, name, f"neurons_{quantity}", chosen.sum()))
    rows.append(row(POLYHEDRAL, name, "active_neurons", active_nm.sum(axis=1).mean()))
    first = np.unique(numbers, return_index=True)[1]
    for rank, pattern in enumerate(np.argsort(-counts, kind="stable")[:MOST_REGIONS]):
        on = active_nm[first[pattern]]
        affine = weights.writes[layer][on].T @ weights.reads[layer][on]
        s = np.linalg.svd(affine, compute_uv=False)
        rows += [
            row(POLYHEDRAL, name, "region_tokens", counts[pattern], rank),
            row(POLYHEDRAL, name, "region_norm", np.linalg.norm(s), rank),
            row(POLYHEDRAL, name, "region_rank", (s > RANK_TOLERANCE * s[0]).sum(), rank),
            row(POLYHEDRAL, name, "region_active", on.sum(), rank),
        ]
    return rows


def flipped(
    head: str, active_nm: np.ndarray, without_nm: np.ndarray, elsewhere_nm: np.ndarray
) -> dict[str, Any]:
    """How many neurons a token change sides when a head writes its mean.

    Args:
        active_nm: which are active, (tokens, neurons). without_nm: the same without what the head writes;
            elsewhere_nm: without what it writes at another token, the null.
    """
    count, null = ((active_nm != other).sum(axis=1).mean() for other in (without_nm, elsewhere_nm))
    return row(POLYHEDRAL, head, "neurons_flipped", count, null=null)


def _numbered(active_nm: np.ndarray) -> np.ndarray:
    """The number of every token's pattern, exact."""
    packed = np.packbits(active_nm, axis=1)
    found: np.ndarray = np.unique(packed, axis=0, return_inverse=True)[1].ravel()
    return found
