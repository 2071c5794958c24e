"""Lens 5: what components have to do with the task, by multivariate regression.

What a component writes, a vector a token, is regressed on features of the task (all at once, with intercept);
the share of its variance that they explain on held-out sequences does not depend on the basis of the
residual stream. ``unique`` is what less of it is explained without a group of features. The other way,
``read_out``, each group is regressed on what the component writes. arXiv 2605.24577 took, for each coordinate of the
residual stream, the feature with the largest correlation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from crossseed.cohorts.dyck import task
from crossseed.lenses import CONSTRUCTIVE, row

# Of a feature's regression on activations: as a share of their mean variance.
RIDGE = 1e-3


def features(
    tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray], keep_nt: np.ndarray
) -> dict[str, np.ndarray]:
    """Features of every kept token by group, each (tokens, features of the group)."""
    token = tokens_nt[keep_nt].astype(int)
    depth, invalid = (labels[name][keep_nt].astype(int) for name in ("depth", "valid"))
    bracket = token >= task.FIRST_BRACKET
    family, closes = np.divmod(np.where(bracket, token - task.FIRST_BRACKET, 0), 2)
    position = np.broadcast_to(np.arange(tokens_nt.shape[1]), tokens_nt.shape)[keep_nt]
    return {
        "kind": np.stack([bracket & (closes == 0), bracket & (closes == 1)], axis=1).astype(float),
        "family": np.eye(task.N_FAMILIES)[family] * bracket[:, None],
        "depth": np.eye(task.N_DEPTHS)[depth],
        "invalid": invalid[:, None].astype(float),
        "position": np.stack([position / task.CONTEXT, 1 / (position + 1)], axis=1),
    }


def measure(
    component: str,
    fit: tuple[np.ndarray, dict[str, np.ndarray]],
    held: tuple[np.ndarray, dict[str, np.ndarray]],
    rng: np.random.Generator,
) -> list[dict[str, Any]]:
    """Rows of this lens for one component.

    Args:
        fit, held: what it writes on two sets of sequences, (tokens, width), and their features.
        rng: shuffles tokens, for the null.
    """
    rows = []
    groups = list(fit[1])
    orders = [rng.permutation(len(x)) for x, _ in (fit, held)]
    shuffled = [
        (x, {name: values[order] for name, values in found.items()})
        for (x, found), order in zip((fit, held), orders, strict=True)
    ]

    def explained(pair: Any, chosen: list[str]) -> float:
        designs = [np.concatenate([f[name] for name in chosen], axis=1) for _, f in pair]
        return _r2(designs[0], pair[0][0], designs[1], pair[1][0])

    real, null = (fit, held), tuple(shuffled)
    whole = explained(real, groups)
    rows.append(row(CONSTRUCTIVE, component, "explained", whole, "all", explained(null, groups)))
    for name in groups:
        others = [g for g in groups if g != name]
        rows += [
            row(
                CONSTRUCTIVE, component, "explained", explained(real, [name]), name,
                explained(null, [name]),
            ),
            row(CONSTRUCTIVE, component, "unique", whole - explained(real, others), name),
            row(
                CONSTRUCTIVE, component, "read_out",
                _r2(fit[0], fit[1][name], held[0], held[1][name]), name,
                _r2(fit[0], null[0][1][name], held[0], null[1][1][name]),
            ),
        ]  # fmt: skip
    return rows


def _r2(x: np.ndarray, y: np.ndarray, x_held: np.ndarray, y_held: np.ndarray) -> float:
    """Share of the held-out variance of all columns of y together that a ridge regression on x explains."""
    mean_x, mean_y = x.mean(axis=0), y.mean(axis=0)
    centred = (x - mean_x).astype(np.float64)
    gram = centred.T @ centred
    ridge = RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    coefficients = np.linalg.solve(
        gram + ridge + 1e-12 * np.eye(len(gram)), centred.T @ (y - mean_y)
    )
    error = y_held - mean_y - (x_held - mean_x) @ coefficients
    total = float(np.square(y_held - y_held.mean(axis=0)).sum())
    return 1 - float(np.square(error).sum()) / total if total > 0 else float("nan")
