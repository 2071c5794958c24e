"""Bars C and Pr: whether what a cut does can be told beforehand, and from another model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossseed import bars
from crossseed.bars import Row
from crossseed.bars.effects import Causes, chosen, matched, renamed
from crossseed.bars.probe import Probe
from crossseed.metrics import Estimate, estimate, jackknife, pearson
from crossseed.seeding import generator

NAMES_DRAWN = 500


def causal_rows(
    primary: Causes,
    candidate: Causes,
    heads_lh: np.ndarray,
    published_heads_lh: np.ndarray,
    resamples: int,
    *cell: object,
) -> list[Row]:
    """Bars C and Pr, by both protocols. Values have intervals over components, edges of one source together; how
    far they are below the primary's own (``gap``) has one over batches, the same for both models.

    Args:
        primary: predicts. candidate: is predicted; may be the primary.
        heads_lh: which of the candidate's heads stands for each of the primary's; published_heads_lh: by the
            published alignment.
        resamples: behind each interval.
        cell: names the pair and the candidate.
    """
    rows = _published(primary, candidate, published_heads_lh)
    halves = _halves(primary.edges.measured.shape[1])
    for bar, whole, kind in (
        (bars.PR, bars.COMPONENTS, bars.COMPONENTS),
        (bars.PR, bars.COMPONENTS, bars.HEADS),
        (bars.C, bars.EDGES, bars.EDGES),
        (bars.C, bars.EDGES, bars.HEAD_EDGES),
    ):
        every, others = getattr(primary, whole), getattr(candidate, whole)
        # MLPs have no other names: without them the null moves all that is compared.
        of_heads = kind in (bars.HEADS, bars.HEAD_EDGES)
        ours = chosen(every, [not of_heads or _names_a_head(name) for name in every.names])
        own, effects = (
            matched(whose, names)
            for whose, names in ((every, ours.names), (others, renamed(ours.names, heads_lh)))
        )
        rng = generator("bars-names", *cell, kind)
        # Other names for the heads of the candidate, each layer's among themselves.
        drawn = [
            matched(others, renamed(ours.names, rng.permuted(heads_lh, axis=1)))
            for _ in range(NAMES_DRAWN)
        ]
        draws = _clusters(generator("bars", *cell, kind), ours.names, resamples)
        for predictor in (bars.MEASURED, bars.INTEGRATED, bars.GRADIENT):
            predicted = getattr(ours, predictor)
            values = np.array([_across_halves(predicted[c], effects[c], halves) for c in draws])
            null = np.array([_across_halves(predicted, other, halves) for other in drawn])
            found, gap = estimate(values), _gap(predicted, own, effects, halves)
            rows.append(
                {
                    **bars.row(bar, bars.RIGOROUS, kind, predictor, found.value, n=len(effects)),
                    "low": found.low,
                    "high": found.high,
                    "null": float(null.mean()),
                    "null_high": float(np.quantile(null, 0.95)),
                    "p": float((1 + (null >= found.value).sum()) / (1 + len(null))),
                    "gap": gap.value,
                    "gap_low": gap.low,
                    "gap_high": gap.high,
                    "passes": int(found.low > bars.THRESHOLD[bar]),
                }
            )
    return rows


def _published(primary: Causes, candidate: Causes, heads_lh: np.ndarray) -> list[Row]:
    """One batch, on which what is predicted was measured."""
    names = primary.components.names
    theirs = matched(candidate.components, renamed(names, heads_lh))
    rows = []
    for number, bar in enumerate((bars.C, bars.PR)):
        for predictor, effects in (
            (bars.INTEGRATED, primary.components.published),
            (bars.GRADIENT, primary.components.gradient),
            (bars.MEASURED, primary.components.measured),
        ):
            # On one batch a model's effects are themselves.
            if not (primary is candidate and predictor == bars.MEASURED):
                value = pearson(effects[:, number], theirs[:, number])
                rows.append(
                    bars.row(
                        *(bar, bars.PUBLISHED, bars.COMPONENTS, predictor, value), n=len(names)
                    )
                )
    return rows


def _names_a_head(name: tuple[str, ...]) -> bool:
    return any(".attn.hook_z." in part for part in name)


def _halves(n_batches: int) -> tuple[np.ndarray, np.ndarray]:
    """Batches that predict, and those that are predicted; and the other way."""
    return np.arange(0, n_batches, 2), np.arange(1, n_batches, 2)


def _gap(
    predicted: np.ndarray,
    own: np.ndarray,
    effects: np.ndarray,
    halves: tuple[np.ndarray, np.ndarray],
) -> Estimate:
    """How far effects are predicted worse than the primary's own, with an interval over batches, which both share:
    by leaving out one at a time, since halves of few are too few to draw anew."""

    def of(two: tuple[np.ndarray, np.ndarray]) -> float:
        return _across_halves(predicted, own, two) - _across_halves(predicted, effects, two)

    n = sum(map(len, halves))
    without = [of((halves[0][halves[0] != k], halves[1][halves[1] != k])) for k in range(n)]
    return jackknife(of(halves), np.array(without))


def _across_halves(
    predicted: np.ndarray, effects: np.ndarray, halves: tuple[np.ndarray, np.ndarray]
) -> float:
    """r of predictions, means over one half of the batches, with effects, means over the other; both ways."""
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
    halves = _halves(own.components.measured.shape[1])
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
    row = bars.row(
        bars.PR, bars.RIGOROUS, bars.CUMULATIVE, bars.MEASURED, float(recovered[0]), n=len(of)
    )
    # The study has no such measure, hence no threshold for it: p says whether it beats random orders.
    return {
        **row,
        "null": 0.0,
        "null_high": float(np.quantile(recovered[2:], 0.95)),
        "p": float((1 + (floor >= areas[0]).sum()) / (1 + len(floor))),
        "threshold": float("nan"),
        "passes": "",
    }
