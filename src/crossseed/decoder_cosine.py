"""Decoder cosines of two dictionaries: always init × map, beside the random floor.

The mean maximum cosine (MMCS) is no matching: two latents may share a partner. It depends
on whether both SAEs started from the same weights and on whether the basis was rotated
first, so neither factor is ever left out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.metrics import unit_rows
from crossseed.seeding import generator

ABOVE = 0.5
COLUMNS = (
    "cohort",
    "source_seed",
    "target_seed",
    "checkpoint",
    "site",
    "dictionary",
    "init",
    "map",
    "mean_max_cosine",
    "share_above_0.5",
    "same_index_share",
    "random_floor",
)


def random_floor(n_source: int, n_target: int, width: int) -> float:
    """Mean maximum cosine between two dictionaries of random directions of these sizes."""
    rng = generator("random-dictionary", n_source, n_target, width)
    source = unit_rows(rng.standard_normal((n_source, width)))
    target = unit_rows(rng.standard_normal((n_target, width)))
    return float((source @ target.T).max(axis=1).mean())


def compare(
    source_fd: np.ndarray, target_fd: np.ndarray, rotation_dd: np.ndarray
) -> list[dict[str, Any]]:
    """Cosines of each source latent's decoder row with its best among the target's.

    Args:
        source_fd, target_fd: unit decoder rows, (latents, width).
        rotation_dd: carries rows of the target into the source's frame.

    Returns:
        A row for the raw and one for the rotated basis.
    """
    floor = random_floor(len(source_fd), len(target_fd), source_fd.shape[1])
    found = []
    for name, rows in (("raw", target_fd), ("rotated", target_fd @ rotation_dd)):
        cosines = source_fd @ rows.T
        best = cosines.argmax(axis=1)
        highest = cosines[np.arange(len(best)), best]
        found.append(
            {
                "map": name,
                "mean_max_cosine": float(highest.mean()),
                "share_above_0.5": float((highest > ABOVE).mean()),
                "same_index_share": float((best == np.arange(len(best))).mean()),
                "random_floor": floor,
            }
        )
    return found
