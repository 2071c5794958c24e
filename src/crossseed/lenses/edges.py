"""Lens 3: which edges a model needs. Edges are pruned one after another, from the logits back, wherever that adds
less than a threshold to the loss; and again, since what may go depends on what is gone, until none goes.

The null prunes as many edges at random. arXiv 2605.24577 named a single comparison of each component's effect with a
threshold so.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.lenses import CAUSAL, MODEL, row

RANDOM_SETS = 20


def prune(graph: Any, threshold: float) -> tuple[np.ndarray, int]:
    """Which edges of a `crossseed.cohorts.dyck.paths.Paths` stay, (edges,) of bool, and how many rounds it took.

    Args:
        threshold: what removing an edge may add to the loss, in nats.
    """
    n = len(graph.edges)
    kept = np.ones(n, dtype=bool)
    loss = graph.losses(np.zeros((1, n)))[0]
    rounds = 0
    while True:
        rounds += 1
        before = kept.copy()
        for edge in reversed(range(n)):
            if not kept[edge]:
                continue
            kept[edge] = False
            without = graph.losses((~kept).astype(float)[None])[0]
            if without - loss < threshold:
                loss = without
            else:
                kept[edge] = True
        if (kept == before).all():
            return kept, rounds


def measure(
    graph: Any, held: Any, thresholds: list[float], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Rows of this lens: edges kept at each threshold, the loss that adds, and of as many random ones.

    Args:
        graph: on the sequences that edges are pruned on. held: on those that losses are told of.
    """
    n = len(graph.edges)
    clean = held.losses(np.zeros((1, n)))[0]
    rows = []
    for threshold in thresholds:
        kept, rounds = prune(graph, threshold)
        removed = (~kept).astype(float)
        random = np.stack([rng.permutation(removed) for _ in range(RANDOM_SETS)])
        losses = held.losses(np.concatenate([removed[None], random])) - clean
        rows += [
            row(CAUSAL, MODEL, "edges_kept", kept.sum(), threshold, n),
            row(CAUSAL, MODEL, "loss_added", losses[0], threshold, np.median(losses[1:])),
            row(CAUSAL, MODEL, "rounds", rounds, threshold),
        ]
        for place in graph.parts:
            of = [k for k, edge in enumerate(graph.edges) if edge.source == place]
            rows.append(row(CAUSAL, place, "edges_kept", kept[of].sum(), threshold, len(of)))
    return rows
