"""The toy as a graph: heads and MLPs, and the edges along which one reads what another wrote.

Every component reads the embedding and what all components before it wrote; the logits read all of it. An
edge can be cut: its reader then sees the writer's mean in place of what the writer wrote, while all others see
what they saw. Cutting one edge is path patching by the mean, with a real destination; cutting all edges of a writer
is its ablation; and cuts may be partial, so that the loss can be differentiated by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.ablation import Batch, means
from crossseed.cohorts.base import FORWARD_TOKENS, TokenSet, batches, spread
from crossseed.cohorts.dyck.interventions import DyckStart, DyckSubject

LOGITS = "logits"
# Sequences that means are taken from.
MEAN_SEQUENCES = 2048


class Edge(NamedTuple):
    """Attributes: source: a component. destination: a later one, or `LOGITS`."""

    source: str
    destination: str


class Paths:
    """The graph of one model on one batch.

    Args:
        subject: the model.
        batch: sequences, and where predictions on them are scored.
        means: what stands for a component whose edge is cut: its mean value, as of
            `crossseed.ablation.means`.
    """

    def __init__(self, subject: DyckSubject, batch: Batch, means: Mapping[str, Tensor]) -> None:
        self.model, self.batch = subject.model, batch
        self.parts = {place: subject.start(batch.tokens, place) for place in places(subject)}
        with torch.no_grad():
            tokens = torch.from_numpy(batch.tokens).to(self.model.W_E.device, torch.long)
            self.embedded = self.model.embed(tokens)
            self.mean = {
                place: part.written(means[place].to(self.embedded))
                for place, part in self.parts.items()
            }
        self.edges = edges(self.parts)
        self._number = {edge: number for number, edge in enumerate(self.edges)}

    def cut(self, removed: Iterable[Iterable[Edge]]) -> np.ndarray:
        """How much of every edge some graphs cut, (graphs, edges)."""
        return np.array(
            [[float(edge in chosen) for edge in self.edges] for chosen in map(set, removed)]
        )

    def without(self, removed: Iterable[Iterable[str]]) -> np.ndarray:
        """The same for graphs that ablate some components each."""
        return np.array(
            [[float(edge.source in chosen) for edge in self.edges] for chosen in map(set, removed)]
        )

    def losses(self, cut_ke: np.ndarray) -> np.ndarray:
        """Loss of each graph in nats, (graphs,)."""
        with torch.no_grad():
            found = [self._losses(torch.from_numpy(part)) for part in self._parts(cut_ke)]
        return np.concatenate([loss.double().cpu().numpy() for loss in found])

    def gradients(self, cut_ke: np.ndarray) -> np.ndarray:
        """What cutting each edge a little further adds to the loss of each graph, (graphs, edges)."""
        found = []
        for part in self._parts(cut_ke):
            cut = torch.from_numpy(part).requires_grad_(True)
            (gradient,) = torch.autograd.grad(self._losses(cut).sum(), cut)
            found.append(gradient.numpy())
        return np.concatenate(found)

    def _parts(self, cut_ke: np.ndarray) -> Iterable[np.ndarray]:
        size = max(1, 4 * FORWARD_TOKENS // self.batch.tokens.size)
        for part in batches(len(cut_ke), size):
            yield cut_ke[part]

    def _losses(self, cut_ke: Tensor) -> Tensor:
        cut = cut_ke.to(self.embedded)
        k = len(cut)
        written: dict[str, Tensor] = {}
        for place, part in self.parts.items():
            value = part.reading(self._read(place, written, cut))
            written[place] = part.written(value).view(k, *self.embedded.shape)
        predicted = self.model.predict(self._read(LOGITS, written, cut))
        return self.batch.scored(list(predicted))[0]

    def _read(self, destination: str, written: Mapping[str, Tensor], cut: Tensor) -> Tensor:
        """What a destination reads in each graph, (graphs · sequences, positions, width)."""
        x = self.embedded.expand(len(cut), *self.embedded.shape)
        for source, value in written.items():
            number = self._number.get(Edge(source, destination))
            if number is not None:
                share = cut[:, number, None, None, None]
                x = x + value + share * (self.mean[source] - value)
        return x.flatten(0, 1)


def places(subject: DyckSubject) -> list[str]:
    """Components in the order of the forward pass."""
    heads, mlps = subject.components["head"], subject.components["mlp"]
    of_layer = len(heads) // len(mlps)
    found = []
    for layer, mlp in enumerate(mlps):
        found += [*heads[layer * of_layer : (layer + 1) * of_layer], mlp]
    return found


def edges(parts: Mapping[str, DyckStart]) -> list[Edge]:
    """Every edge, destinations in the order of the forward pass."""
    found = [
        Edge(source, destination)
        for destination, reader in parts.items()
        for source, writer in parts.items()
        if writer.first < reader.first
    ]
    return found + [Edge(source, LOGITS) for source in parts]


def opened(
    subject: DyckSubject, sets: Mapping[str, TokenSet], n_batches: int, rows: int
) -> list[Paths]:
    """The graph of a model on batches of `eval`; means are taken on `fit`."""
    fit = sets["fit"]
    mean = means(subject, places(subject), fit, spread(len(fit.tokens_nt), MEAN_SEQUENCES))
    return [
        Paths(subject, Batch(subject, *part), mean)
        for part in batches_of(sets["eval"], n_batches, rows)
    ]


def batches_of(
    tokens: TokenSet, n_batches: int, rows: int
) -> Iterator[tuple[TokenSet, np.ndarray]]:
    """Batches of sequences, without the padding that all of a batch share, and the numbers of their rows."""
    chosen = spread(len(tokens.tokens_nt), n_batches * rows)
    for some in np.array_split(chosen, n_batches):
        longest = int(tokens.keep_nt[some].any(axis=0).nonzero()[0][-1]) + 1
        part = TokenSet(
            tokens.tokens_nt[some, :longest],
            tokens.keep_nt[some, :longest],
            {name: values[some, :longest] for name, values in tokens.labels.items()},
            tokens.document_n[some],
        )
        yield part, np.arange(len(some))
