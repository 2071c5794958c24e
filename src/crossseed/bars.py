"""Four bars for the claim that a model is understood (arXiv 2605.24577), as published and in a version that can fail.

The study fixes thresholds: behaviour B below 1e-4 nats, parameters P below 1e-3, causes C and predictions Pr
above .99. A candidate is held against a primary model by all four.

    B   published: divergence of the smoothed labels from the model, mean over heads, which 50 nats of
        confidence alone bring to 3e-5. Rigorous: cross-entropy of the labels of every head and
        distribution; and for another model the divergence from the primary. Intervals over batches.
    P   published: largest mean squared difference of a tensor. Rigorous: relative error by the symmetries of
        the model (`crossseed.gauge`).
    Pr  components (heads, MLPs): what ablating each does. Published: integrated gradients on the very batch on
        which it is measured, which integrate to the measurement. Rigorous: predicted on other batches.
        And cumulative: the components that the prediction ranks first are ablated together.
    C   edges: what each component does through each reader alone (`crossseed.cohorts.dyck.paths`). The
        study called components edges and took the same ten numbers twice.

Predictors of C and Pr, all of the primary and on other batches than those that are predicted: ``measured``, the
effects themselves; ``integrated``, integrated gradients; ``gradient``, one gradient at the clean run. Between
seeds components are matched by the alignment of weights. The null gives the heads of every layer other names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from crossseed.attribution import MIDPOINT, RIGHT, nodes
from crossseed.cohorts.base import TokenSet, spread
from crossseed.gauge.study import PAIR
from crossseed.metrics import Estimate, estimate, pearson, resample_weights
from crossseed.progress import Progress
from crossseed.seeding import generator

COLUMNS = (
    *(*PAIR, "candidate", "bar", "protocol", "quantity", "part", "predictor", "value", "low"),
    *("high", "null", "null_high", "p", "threshold", "passes", "n"),
)
_VALUES = ("measured", "integrated", "gradient", "published")
CAUSE_COLUMNS = (
    *("cohort", "seed", "checkpoint", "source", "destination", "batch"),
    *(f"{name}_nats" for name in _VALUES),
)
B, P, C, PR = "B", "P", "C", "Pr"
THRESHOLD = {B: 1e-4, P: 1e-3, C: 0.99, PR: 0.99}
# The published threshold of squared differences as one of relative errors.
RELATIVE_ERROR = THRESHOLD[P] ** 0.5
PUBLISHED, RIGOROUS = "published", "rigorous"
ITSELF, SIBLING = "itself", "sibling"
MEASURED, INTEGRATED, GRADIENT = "measured", "integrated", "gradient"
COMPONENTS, EDGES, CUMULATIVE = "components", "edges", "cumulative"
# Points of the published quadrature.
PUBLISHED_POINTS = 32
NAMES_DRAWN = 500
# Sequences that means are taken from.
MEAN_SEQUENCES = 2048
Row = dict[str, Any]


class Effects(NamedTuple):
    """What cutting each component, or edge, does to the loss of each batch, in nats; each (names, batches), NaN
    where it was not asked for.

    Attributes:
        names: of what is cut: a component, or an edge's source and destination.
        measured: by doing it. integrated: by integrated gradients. gradient: by one gradient.
        published: by the published quadrature; of components on the first two batches alone.
    """

    names: list[tuple[str, ...]]
    measured: np.ndarray
    integrated: np.ndarray
    gradient: np.ndarray
    published: np.ndarray


class Causes(NamedTuple):
    """Effects of one model."""

    components: Effects
    edges: Effects


def cause_rows(causes: Causes) -> list[Row]:
    """Rows of `CAUSE_COLUMNS`, without the member's."""
    return [
        {
            "source": name[0],
            "destination": name[1] if len(name) > 1 else "",
            "batch": batch,
            **{f"{key}_nats": float(getattr(effects, key)[i, batch]) for key in _VALUES},
        }
        for effects in causes
        for i, name in enumerate(effects.names)
        for batch in range(effects.measured.shape[1])
    ]


def causes_of(rows: Sequence[Mapping[str, str]]) -> Causes:
    """What `cause_rows` were made from."""
    found = []
    for part in (COMPONENTS, EDGES):
        chosen = [row for row in rows if bool(row["destination"]) == (part == EDGES)]
        names = list(
            dict.fromkeys(tuple(filter(None, (r["source"], r["destination"]))) for r in chosen)
        )
        values = np.array(
            [[float(row[f"{key}_nats"] or "nan") for key in _VALUES] for row in chosen]
        )
        found.append(Effects(names, *values.T.reshape(len(_VALUES), len(names), -1)))
    return Causes(*found)


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


class Probe:
    """A model opened as a graph on every batch.

    Args:
        subject: the model, a `crossseed.cohorts.dyck.interventions.DyckSubject`.
        sets: token sets; means are taken on `fit`, batches from `eval`.
    """

    def __init__(
        self, subject: Any, sets: Mapping[str, TokenSet], n_batches: int, rows: int
    ) -> None:
        # Imported here: PyTorch, which those who read the table do without.
        from crossseed import ablation
        from crossseed.cohorts.dyck import paths

        fit = sets["fit"]
        self.components = paths.places(subject)
        mean = ablation.means(
            subject, self.components, fit, spread(len(fit.tokens_nt), MEAN_SEQUENCES)
        )
        self.graphs = [
            paths.Paths(subject, ablation.Batch(subject, *part), mean)
            for part in batches_of(sets["eval"], n_batches, rows)
        ]
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
    def _integrated(graph: Any, cuts: np.ndarray, t: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Σ weight · derivative along each cut. t runs from the mean (0) to the value (1), as in attribution."""
        along = ((1 - t)[:, None, None] * cuts).reshape(-1, cuts.shape[1])
        slope = graph.gradients(along).reshape(len(t), *cuts.shape)
        found: np.ndarray = np.einsum("p,pce,ce->c", weights, slope, cuts)
        return found

    def ablated(self, orders: Sequence[Sequence[int]], told: slice) -> np.ndarray:
        """What ablating the first 1, 2, … components of each order adds to the loss, mean over the batches of `told`,
        (orders, components)."""
        removed = [
            [self.components[i] for i in order[: k + 1]]
            for order in orders
            for k in range(len(order))
        ]
        losses = [
            g.losses(g.without(removed)) - clean
            for g, clean in zip(self.graphs[told], self.clean[told], strict=True)
        ]
        found: np.ndarray = np.mean(losses, axis=0).reshape(len(orders), -1)
        return found


def behaviour_rows(
    stream: Any, name: str, against: str, resamples: int, *cell: object
) -> list[Row]:
    """Bar B of one model of a stream, by both protocols.

    Args:
        stream: a `crossseed.cohorts.dyck.behaviour.Stream`.
        against: ``labels``, or ``primary``: the first model of the stream.
    """
    from crossseed.cohorts.dyck import behaviour, task

    rng = generator("bars-behaviour", *cell, name)
    pooled = stream.rates(name, np.ones((1, len(stream.counts))), range(len(behaviour.SHARES)))
    # Within each distribution, since a stream may draw more of one than of another.
    within = {}
    for number, distribution in enumerate(behaviour.SHARES):
        units = np.flatnonzero(stream.counts[:, number])
        if len(units):
            weights = np.zeros((1 + resamples, len(stream.counts)))
            weights[:, units] = resample_weights(rng, len(units), resamples)
            within[distribution] = stream.rates(name, weights, [number])
    shares = {d: behaviour.SHARES[d] for d in within}
    mixed = sum(share * within[d] for d, share in shares.items()) / sum(shares.values())
    published = behaviour.SMOOTHED if against == "labels" else behaviour.DIVERGENCE
    judged = behaviour.LOSS if against == "labels" else behaviour.DIVERGENCE
    # The study pools all positions of what it drew; between seeds it draws from the first distribution.
    published_part = "pooled mean" if against == "labels" else "train mean"
    wanted = {
        "labels": (behaviour.LOSS, behaviour.SMOOTHED, behaviour.WRONG),
        "primary": (behaviour.DIVERGENCE,),
    }
    rows = []
    for distribution, rates in {"all": mixed, **within, "pooled": pooled}.items():
        parts = {"mean": rates.mean(axis=1)}
        if distribution == "all":
            parts |= {head: rates[:, i] for i, head in enumerate(task.HEADS)}
        for part, values in parts.items():
            for quantity in wanted[against]:
                of = values[:, behaviour.MEASURES.index(quantity)]
                found = estimate(of) if len(of) > 1 else Estimate(float(of[0]))
                where = f"{distribution} {part}"
                # As published, heads are pooled; rigorously each must stay below, its interval too.
                as_published = quantity == published and where == published_part
                judges = quantity == judged and distribution == "all" and part != "mean"
                row = _row(
                    B, PUBLISHED if as_published else RIGOROUS, where, against, found.value,
                    quantity=quantity, n=int(stream.counts.sum()),
                )  # fmt: skip
                if not as_published:
                    row["passes"] = int(found.high < THRESHOLD[B]) if judges else ""
                rows.append({**row, "low": found.low, "high": found.high})
    return rows


def parameter_rows(max_mse: float, relative_error: float, null: float, n: int) -> list[Row]:
    """Bar P, by both protocols.

    Args:
        max_mse: the published measure after the published search.
        relative_error: after the search over all symmetries. null: of an untrained model after the same search.
        n: tensors.
    """
    rigorous = _row(P, RIGOROUS, "all", "aligned", relative_error, quantity="relative_error", n=n)
    return [
        _row(P, PUBLISHED, "all", "aligned", max_mse, quantity="max_mse", n=n),
        {
            **rigorous,
            "null": null,
            "threshold": RELATIVE_ERROR,
            "passes": int(relative_error < RELATIVE_ERROR),
        },
    ]


def renamed(names: Sequence[tuple[str, ...]], heads_lh: np.ndarray) -> list[tuple[str, ...]]:
    """Names of the primary's components or edges in a candidate whose head heads[l, h] stands for head h."""

    def one(name: str) -> str:
        block, _, head = name.partition(".attn.hook_z.")
        if not head:
            return name
        layer = int(block.rpartition(".")[2])
        return f"{block}.attn.hook_z.{heads_lh[layer, int(head)]}"

    return [tuple(one(part) for part in name) for name in names]


def _matched(effects: Effects, names: Sequence[tuple[str, ...]]) -> np.ndarray:
    """Measured effects under other names, (names, batches)."""
    number = {name: i for i, name in enumerate(effects.names)}
    return effects.measured[[number[name] for name in names]]


def causal_rows(
    primary: Causes,
    candidate: Causes,
    heads_lh: np.ndarray,
    published_heads_lh: np.ndarray,
    resamples: int,
    *cell: object,
) -> list[Row]:
    """Bars C and Pr, by both protocols.

    Args:
        primary: predicts. candidate: is predicted; may be the primary.
        heads_lh: which of the candidate's heads stands for each of the primary's; published_heads_lh: by the
            published alignment.
        resamples: behind each interval.
        cell: names the pair and the candidate.
    """
    rows = []
    names = primary.components.names
    theirs = _matched(candidate.components, renamed(names, published_heads_lh))
    for number, bar in enumerate((C, PR)):
        for predictor, effects in (
            (INTEGRATED, primary.components.published),
            (GRADIENT, primary.components.gradient),
            (MEASURED, primary.components.measured),
        ):
            # On one batch a model's effects are themselves.
            if not (primary is candidate and predictor == MEASURED):
                value = pearson(effects[:, number], theirs[:, number])
                rows.append(_row(bar, PUBLISHED, COMPONENTS, predictor, value, n=len(names)))
    for bar, part in ((PR, COMPONENTS), (C, EDGES)):
        ours, others = getattr(primary, part), getattr(candidate, part)
        effects = _matched(others, renamed(ours.names, heads_lh))
        rng = generator("bars-names", *cell, part)
        # Other names for the heads of the candidate, each layer's among themselves.
        drawn = [
            _matched(others, renamed(ours.names, rng.permuted(heads_lh, axis=1)))
            for _ in range(NAMES_DRAWN)
        ]
        draws = _clusters(generator("bars", *cell, part), ours.names, resamples)
        for predictor in (MEASURED, INTEGRATED, GRADIENT):
            predicted = getattr(ours, predictor)
            values = np.array([_across_halves(predicted[c], effects[c]) for c in draws])
            null = np.array([_across_halves(predicted, other) for other in drawn])
            found = estimate(values)
            rows.append(
                {
                    **_row(bar, RIGOROUS, part, predictor, found.value, n=effects.size),
                    "low": found.low,
                    "high": found.high,
                    "null": float(null.mean()),
                    "null_high": float(np.quantile(null, 0.95)),
                    "p": float((1 + (null >= found.value).sum()) / (1 + len(null))),
                    "passes": int(found.low > THRESHOLD[bar]),
                }
            )
    return rows


def _across_halves(predicted: np.ndarray, effects: np.ndarray) -> float:
    """r of predictions, means over one half of the batches, with effects, means over the other; both ways."""
    halves = slice(0, None, 2), slice(1, None, 2)
    return float(
        np.mean(
            [
                pearson(predicted[:, one].mean(axis=1), effects[:, other].mean(axis=1))
                for one, other in (halves, halves[::-1])
            ]
        )
    )


def _clusters(
    rng: np.random.Generator, names: Sequence[tuple[str, ...]], resamples: int
) -> list[np.ndarray]:
    """Rows of a table of effects drawn anew, all of one source together, since these go together; first, all."""
    sources = list(dict.fromkeys(name[0] for name in names))
    rows = [np.flatnonzero([name[0] == source for name in names]) for source in sources]
    drawn = [
        np.concatenate([rows[k] for k in rng.integers(0, len(rows), len(rows))])
        for _ in range(resamples)
    ]
    return [np.arange(len(names)), *drawn]


def cumulative_row(
    primary: Causes, probe: Probe, own: Causes, heads_lh: np.ndarray, orders: int, *cell: object
) -> Row:
    """Bar Pr as a choice: the candidate's components ablated together, in the order that the primary gives them on
    other sequences.

    The area under the loss is put between that of random orders (0) and of the order of the candidate's own single
    effects (1), which is greedy: another order may do better.
    """
    of = {name: i for i, name in enumerate(own.components.names)}
    names = renamed(primary.components.names, heads_lh)
    rng = generator("bars-orders", *cell)
    random = [list(rng.permutation(len(of))) for _ in range(orders)]
    halves = slice(0, None, 2), slice(1, None, 2)
    areas = np.zeros(2 + orders)
    for ranked, told in (halves, halves[::-1]):
        predicted = primary.components.measured[:, ranked].mean(axis=1)
        chosen = [of[names[i]] for i in np.argsort(-predicted, kind="stable")]
        # The candidate's own order from the sequences on which it is told: what a prediction could at best give.
        ideal = own.components.measured[:, told].mean(axis=1)
        best = list(np.argsort(-ideal, kind="stable"))
        areas += probe.ablated([chosen, best, *random], told).mean(axis=1) / 2
    floor = areas[2:]
    recovered = (areas - floor.mean()) / (areas[1] - floor.mean())
    return {
        **_row(PR, RIGOROUS, CUMULATIVE, MEASURED, float(recovered[0]), n=len(of)),
        "null": 0.0,
        "null_high": float(np.quantile(recovered[2:], 0.95)),
        "p": float((1 + (floor >= areas[0]).sum()) / (1 + len(floor))),
        "passes": int(recovered[0] > THRESHOLD[PR]),
    }


def _row(
    bar: str, protocol: str, part: str, predictor: str, value: float, *, n: int, quantity: str = "r"
) -> Row:
    threshold = THRESHOLD[bar]
    passes = value > threshold if bar in (C, PR) else value < threshold
    nan = float("nan")
    return {
        "bar": bar,
        "protocol": protocol,
        "quantity": quantity,
        "part": part,
        "predictor": predictor,
        "value": value,
        "low": nan,
        "high": nan,
        "null": nan,
        "null_high": nan,
        "p": nan,
        "threshold": threshold,
        "passes": int(passes),
        "n": n,
    }
