"""A toy model opened as a graph on several batches, to be cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from crossseed.attribution import MIDPOINT, RIGHT, nodes
from crossseed.bars.effects import Causes, Effects
from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.dyck import paths
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.progress import Progress

# Points of the published quadrature.
PUBLISHED_POINTS = 32


class Probe:
    """A model opened as a graph on every batch.

    Args:
        subject: the model.
        sets: token sets; means are taken on `fit`, batches from `eval`.
    """

    def __init__(
        self, subject: DyckSubject, sets: Mapping[str, TokenSet], n_batches: int, rows: int
    ) -> None:
        self.components = paths.places(subject)
        self.graphs = paths.opened(subject, sets, n_batches, rows)
        self.clean = np.array([g.losses(g.cut([[]]))[0] for g in self.graphs])

    def causes(self, points: int) -> Causes:
        """Effects of every component and every edge, and with any `points` their predictions too."""
        first = self.graphs[0]
        components = first.without([[place] for place in self.components])
        of_components = self._effects([(place,) for place in self.components], components, points)
        if points:
            t, weights = nodes(RIGHT, PUBLISHED_POINTS)
            # The study's two bars are this on two batches.
            for number, graph in enumerate(self.graphs[:2]):
                of_components.published[:, number] = self._integrated(graph, components, t, weights)
        edges = np.eye(len(first.edges))
        return Causes(
            of_components, self._effects([tuple(edge) for edge in first.edges], edges, points)
        )

    def _effects(self, names: list[tuple[str, ...]], cuts: np.ndarray, points: int) -> Effects:
        found = Effects(names, *np.full((4, len(cuts), len(self.graphs)), np.nan))
        t, weights = nodes(MIDPOINT, max(points, 1))
        progress = Progress("effects", len(self.graphs))
        for number, (graph, clean) in enumerate(zip(self.graphs, self.clean, strict=True)):
            found.measured[:, number] = graph.losses(cuts) - clean
            if points:
                found.integrated[:, number] = self._integrated(graph, cuts, t, weights)
                slope = graph.gradients(np.zeros((1, cuts.shape[1])))[0]
                found.gradient[:, number] = cuts @ slope
            progress.update(number + 1, "batches")
        progress.close()
        return found

    @staticmethod
    def _integrated(
        graph: paths.Paths, cuts: np.ndarray, t: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Σ weight · derivative along each cut. t runs from the mean (0) to the value (1), as in attribution."""
        along = ((1 - t)[:, None, None] * cuts).reshape(-1, cuts.shape[1])
        slope = graph.gradients(along).reshape(len(t), *cuts.shape)
        found: np.ndarray = np.einsum("p,pce,ce->c", weights, slope, cuts)
        return found

    def ablated(self, orders: Sequence[Sequence[int]], told: np.ndarray) -> np.ndarray:
        """What ablating the first 1, 2, … components of each order adds to the loss, mean over the batches `told`,
        (orders, components)."""
        removed = [
            [self.components[i] for i in order[: k + 1]]
            for order in orders
            for k in range(len(order))
        ]
        losses = [
            g.losses(g.without(removed)) - clean
            for g, clean in ((self.graphs[i], self.clean[i]) for i in told)
        ]
        found: np.ndarray = np.mean(losses, axis=0).reshape(len(orders), -1)
        return found
