"""How well cheap attributions predict what ablating a component does.

The measured effect of a component on a batch is the loss with the component's output replaced, at every
position, by its mean over other text, less the clean loss (the sum over heads of mean cross-entropies, in
nats). It is predicted by

    patching     attribution patching: Σ gradient at the clean run · (mean − value), one gradient for all
                 components at once
    right        integrated gradients along the straight path from the mean to the value, right Riemann
                 sum, as arXiv 2605.24577 has it (its end at the clean run is counted, the other not)
    midpoint     the same at the middles of equal steps
    gauss        the same at the nodes of Gauss and Legendre

and, since integrated gradients cost more passes than the ablation that they predict, by baselines of equal
or lower cost: ``one_sequence``, the ablation of one sequence of the batch; ``other_batch``, the effect
measured on another batch; ``size``, ‖mean − value‖, and ``gradient_size``, that times the length of the
gradient, which know no sign.

Integrated gradients are complete: with enough points they give the measured effect itself, so their error
is that of the quadrature. What lies before the component runs once a batch, and points of the path run
side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from crossseed.cohorts.base import Subject, TokenSet, spread
from crossseed.keys import MEMBER
from crossseed.metrics import estimate, pearson, ranks
from crossseed.progress import Progress
from crossseed.seeding import generator

CELL_COLUMNS = (
    *MEMBER,
    "kind",
    "component",
    "batch",
    "method",
    "points",
    "passes",
    "predicted_nats",
    "measured_nats",
    "clean_nats",
    "n_tokens",
)
COLUMNS = (
    *MEMBER,
    "kinds",
    "method",
    "points",
    "passes",
    "metric",
    "value",
    "low",
    "high",
    "n_cells",
)
PATCHING, RIGHT, MIDPOINT, GAUSS = "patching", "right", "midpoint", "gauss"
RULES = (RIGHT, MIDPOINT, GAUSS)
ONE_SEQUENCE, OTHER_BATCH = "one_sequence", "other_batch"
SIZE, GRADIENT_SIZE = "size", "gradient_size"
# What has the unit of the effect; the others can only rank.
IN_NATS = (PATCHING, *RULES, ONE_SEQUENCE, OTHER_BATCH)
# Components that the study calls so, and what it called components in language models.
PARTS, RESIDUAL = ("head", "mlp"), ("residual",)
GROUPS = (PARTS, ("block",), RESIDUAL)
# Documents whose mean replaces a component.
MEAN_SEQUENCES = 64
Row = dict[str, Any]


def nodes(rule: str, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Where along the path from the mean (0) to the value (1) gradients are taken, and their weights, (points,) both."""
    k = np.arange(points)
    even = np.full(points, 1 / points)
    if rule == RIGHT:
        return (k + 1) / points, even
    if rule == MIDPOINT:
        return (k + 0.5) / points, even
    x, weights = np.polynomial.legendre.leggauss(points)
    return (x + 1) / 2, weights / 2


def path(
    points: Mapping[str, Sequence[int]],
) -> tuple[dict[tuple[str, int], tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """`nodes` of every rule and number of points, and where gradients are taken for all of them: equal
    points once, the clean end, which attribution patching takes, last."""
    wanted = {(rule, n): nodes(rule, n) for rule in RULES for n in points.get(rule, [])}
    return wanted, np.unique(np.concatenate([[1.0], *(t for t, _ in wanted.values())]))


def study(
    subject: Subject,
    sets: Mapping[str, TokenSet],
    kinds: Sequence[str],
    points: Mapping[str, Sequence[int]],
    n_batches: int,
    sequences: int,
) -> list[Row]:
    """Rows of `CELL_COLUMNS`, without the member's.

    Args:
        subject: the model.
        sets: token sets; means are taken on `fit`, effects on `eval`.
        kinds: of components (`Subject.components`).
        points: of each rule of integrated gradients.
        n_batches: batches of `sequences` sequences.
    """
    # Imported here: PyTorch, which those who read the table do without.
    from crossseed import ablation

    places = {place: kind for kind in kinds for place in subject.components.get(kind, [])}
    others = sets["fit"]
    mean = ablation.means(subject, places, others, spread(len(others.tokens_nt), MEAN_SEQUENCES))
    chosen = spread(len(sets["eval"].tokens_nt), n_batches * sequences)
    parts = [
        ablation.Batch(subject, sets["eval"], rows) for rows in np.array_split(chosen, n_batches)
    ]
    wanted, at = path(points)
    rows: list[Row] = []
    progress = Progress("attribution", len(places) * len(parts))
    for number, (place, kind) in enumerate(places.items()):
        effects, found, sizes = [], [], []
        for batch in parts:
            start = subject.start(batch.tokens, place)
            own = start.value_ntd.float()
            sizes.append(float((own - mean[place].to(own.device)).norm()))
            effects.append(ablation.ablated(batch, start, mean[place]))
            found.append(ablation.gradients(batch, start, mean[place], at))
            progress.update(number * len(parts) + len(effects), "cells")
        measured = np.array([effect.measured for effect in effects])
        for index, (batch, effect) in enumerate(zip(parts, effects, strict=True)):
            along = found[index]
            # Of a batch of one sequence that is the measurement itself.
            n_sequences = len(batch.tokens)
            alone = {(ONE_SEQUENCE, 0, 1 / n_sequences): effect.first} if n_sequences > 1 else {}
            predicted = {
                # The last point is the clean end.
                (PATCHING, 1, 2 / len(places)): along[-2],
                **alone,
                (OTHER_BATCH, 0, 1.0): measured[index - 1],
                (SIZE, 0, 0.0): sizes[index],
                (GRADIENT_SIZE, 1, 2 / len(places)): along[-1],
            }
            for (rule, n), (t, weights) in wanted.items():
                predicted[rule, n, 2.0 * n] = weights @ along[np.searchsorted(at, t)]
            for (method, n, passes), value in predicted.items():
                rows.append(
                    {
                        "kind": kind, "component": place, "batch": index, "method": method,
                        "points": n, "passes": passes, "predicted_nats": float(value),
                        "measured_nats": effect.measured, "clean_nats": effect.clean,
                        "n_tokens": batch.n_tokens,
                    }
                )  # fmt: skip
    progress.close()
    return rows


# --- how well --------------------------------------------------------------------------------


def two_way(
    rng: np.random.Generator, rows: int, columns: int, resamples: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Numbers of rows and of columns of a table, (rows,) and (columns,), both drawn anew, `resamples` times; first, all of
    them as they are."""
    drawn = [
        (rng.integers(0, rows, rows), rng.integers(0, columns, columns)) for _ in range(resamples)
    ]
    return [(np.arange(rows), np.arange(columns)), *drawn]


def summary(rows: Sequence[Row], resamples: int, *cell: object) -> list[Row]:
    """Rows of `COLUMNS`, without the member's: every method over the cells of each group of kinds.

    ``pearson`` and ``spearman`` of predicted with measured effects; ``relative_error``, Σ|predicted −
    measured| / Σ|measured|; ``worst_error``, the largest |predicted − measured| over the largest |measured|;
    ``pearson_by_batch``, as published: over the components of one batch, the mean over batches.
    Intervals are 95 % of bootstrap resamples of components and of batches, both drawn anew: the cells
    of one component are no independent ones.
    """
    # Imported here: SciPy, which those who plan a run do without.

    found: list[Row] = []
    for kinds in GROUPS:
        chosen = [row for row in rows if row["kind"] in kinds]
        if not chosen:
            continue
        components = list(dict.fromkeys(row["component"] for row in chosen))
        n_batches = 1 + max(row["batch"] for row in chosen)
        rng = generator("attribution", *cell, *kinds)
        draws = two_way(rng, len(components), n_batches, resamples)
        methods = list(dict.fromkeys((r["method"], r["points"], r["passes"]) for r in chosen))
        for method, n, passes in methods:
            grid = np.full((2, len(components), n_batches), np.nan)
            for row in chosen:
                if (row["method"], row["points"]) == (method, n):
                    place = components.index(row["component"])
                    grid[:, place, row["batch"]] = row["predicted_nats"], row["measured_nats"]
            drawn = [grid[:, c][:, :, b] for c, b in draws]
            metrics = {
                "pearson": [pearson(*g.reshape(2, -1)) for g in drawn],
                "spearman": [pearson(*ranks(g.reshape(2, -1))) for g in drawn],
                "pearson_by_batch": [
                    float(np.mean([pearson(g[0, :, b], g[1, :, b]) for b in range(n_batches)]))
                    for g in drawn
                ],
            }
            if method in IN_NATS:
                metrics["relative_error"] = [
                    float(np.abs(g[0] - g[1]).sum() / np.abs(g[1]).sum()) for g in drawn
                ]
                metrics["worst_error"] = [
                    float(np.abs(g[0] - g[1]).max() / np.abs(g[1]).max()) for g in drawn
                ]
            for metric, values in metrics.items():
                row = {"kinds": "+".join(kinds), "method": method, "points": n, "passes": passes}
                value = estimate(np.array(values))._asdict()
                found.append({**row, "metric": metric, **value, "n_cells": grid[0].size})
    return found
