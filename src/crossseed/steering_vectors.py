"""Steering vectors, random directions beside them, and how much of a vector shared weights pin."""

from __future__ import annotations

import numpy as np

from crossseed.cohorts.base import FORWARD_TOKENS, Concept, Examples, Subject, batches
from crossseed.errors import UserError
from crossseed.metrics import unit_rows


def class_mean(subject: Subject, site: str, examples: Examples) -> np.ndarray:
    """Mean activation of a class at a site, (width,), in float64."""
    total: np.ndarray | None = None
    size = max(1, FORWARD_TOKENS // examples.tokens_nt.shape[1])
    for part in batches(len(examples.tokens_nt), size):
        value = subject.start(examples.tokens_nt[part], site).value_ntd.double().cpu().numpy()
        found = np.einsum("nt,ntd->d", examples.weight_nt[part], value)
        total = found if total is None else total + found
    assert total is not None
    return total


def vector(subject: Subject, site: str, concept: Concept) -> np.ndarray:
    """What steers a model towards a concept: mean of its class less that of the other, (width,).

    Raises:
        UserError: a class is never seen.
    """
    for name, examples in (("towards", concept.toward), ("away from", concept.away)):
        if not examples.weight_nt.any():
            raise UserError(
                f"concept {concept.name}: no position shows the class it leads {name}; draw more or longer "
                "sequences (tokens.train, tokens.lengths), or leave the concept out"
            )
    return class_mean(subject, site, concept.toward) - class_mean(subject, site, concept.away)


def random_directions(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Unit vectors drawn evenly over the sphere, (n, width)."""
    return unit_rows(rng.standard_normal((n, width)))


def shaped_directions(rng: np.random.Generator, n: int, covariance: np.ndarray) -> np.ndarray:
    """Unit vectors along draws of a normal law with this covariance, (n, width)."""
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.clip(values, 0, None))
    return unit_rows(rng.standard_normal((n, len(values))) @ root.T)


def pinned_share(v: np.ndarray, rows_nd: np.ndarray) -> tuple[float, int]:
    """Share of ‖v‖², v (width,), in the span of some rows, (rows, width), and the dimensions of that span."""
    if not len(rows_nd):
        return 0.0, 0
    _, singular, vt = np.linalg.svd(rows_nd, full_matrices=False)
    basis = vt[singular > 1e-6 * singular[0]]
    total = float(v @ v)
    return (float(np.sum((basis @ v) ** 2)) / total if total else float("nan")), len(basis)
