"""What the page says of weights, bars and decoys; every figure in the sentences is read from the tables."""

from __future__ import annotations

from typing import Any, NamedTuple

import pandas as pd

from crossseed import bars as b
from crossseed import gauge
from crossseed.gauge import joint
from crossseed.report import tables as t
from crossseed.report.spreads import spread

ARMS = {
    gauge.ALIGNED: "best of all symmetries",
    gauge.MENDED: "published search, rotation mended",
    gauge.PUBLISHED: "published search",
    gauge.GIVEN: "no alignment",
    gauge.RANDOM: "random alignments",
    gauge.UNTRAINED: "an untrained model, best of all symmetries",
    gauge.ZERO: "zero weights",
}
CANDIDATES = {
    b.ITSELF: "the model itself",
    b.SIBLING: "another seed",
    b.AVERAGED: "decoy: depths averaged (published)",
    b.SWAPPED: "decoy: layers swapped",
    b.SPLIT: "decoy: a head split in two",
    b.TAUGHT: "decoy: split, then taught to behave alike",
    b.PROGRAM: "the hand-compiled program",
}


class Cell(NamedTuple):
    """A column of the bars' table: which rows it shows.

    Attributes: head: of the column. wanted: column values; those of `part` may be several.
    """

    head: str
    wanted: dict[str, Any]


_PUBLISHED, _RIGOROUS = {"protocol": b.PUBLISHED}, {"protocol": b.RIGOROUS}
_HEADS = [f"all {head}" for head in ("tok", "depth", "valid")]
COLUMNS = (
    Cell("B as published (nats)", {"bar": b.B, "quantity": "smoothed_divergence", "part": "pooled mean"}),
    Cell("B, worst head (nats)", {"bar": b.B, "quantity": "cross_entropy", "part": _HEADS}),
    Cell("divergence from the model, worst head (nats)", {"bar": b.B, "quantity": "kl", "part": _HEADS}),
    Cell("P as published", {"bar": b.P, "part": "all", **_PUBLISHED}),
    Cell("P, relative error", {"bar": b.P, "part": "all", **_RIGOROUS}),
    Cell("C and Pr as published (r)", {"bar": b.C, "predictor": b.INTEGRATED, **_PUBLISHED}),
    Cell("C on edges (r)", {"part": b.EDGES, "predictor": b.INTEGRATED, **_RIGOROUS}),
    Cell(
        "Pr on components (r)",
        {"bar": b.PR, "predictor": b.INTEGRATED, "part": b.COMPONENTS, **_RIGOROUS},
    ),
    Cell("Pr, cumulative", {"bar": b.PR, "part": b.CUMULATIVE}),
)  # fmt: skip


def weights(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences on the alignment and on the joint objective, and a line an arm; empty without the study."""
    if cohort not in set(tables.weights.cohort):
        return {}
    return {
        "sentences": _aligned(tables, cohort),
        "rows": _errors(tables, cohort),
        "joint": _traded(tables, cohort),
    }


def bars(tables: t.Tables, cohort: str) -> dict[str, Any]:
    """Sentences, and a line a candidate: in each cell the median, how many pass, and the null; empty without
    the study."""
    rows = tables.bars[tables.bars.cohort == cohort]
    if rows.empty:
        return {}
    lines = [
        {
            "candidate": words,
            "cells": [_cell(part, column.wanted) for column in COLUMNS],
            "rejected": [
                _rejected(part, protocol) if candidate != b.ITSELF else "–"
                for protocol in (b.PUBLISHED, b.RIGOROUS)
            ],
        }
        for candidate, words in CANDIDATES.items()
        if len(part := rows[rows.candidate == candidate])
    ]
    heads = [c.head for c in COLUMNS] + ["rejected as published by", "rejected rigorously by"]
    return {"sentences": _judged(rows), "heads": heads, "rows": lines}


def _aligned(tables: t.Tables, cohort: str) -> list[str]:
    """How close the symmetries bring the weights of two members."""
    rows = tables.weights[(tables.weights.cohort == cohort) & (tables.weights.tensor == "all")]

    def of(arm: str, metric: str = "relative_error") -> str:
        return _text(rows[(rows.arm == arm) & (rows.metric == metric)].value)

    about = tables.weights[(tables.weights.cohort == cohort) & tables.weights.tensor.isna()]
    converged = about[about.metric == "converged"].value
    same = about[about.metric == "starts_at_best"].value
    aligned = rows[(rows.arm == gauge.ALIGNED) & (rows.metric == "relative_error")]
    untrained = rows[(rows.arm == gauge.UNTRAINED) & (rows.metric == "relative_error")]
    sentences = [
        f"The best element of the symmetry group leaves a relative error of {of(gauge.ALIGNED)} "
        "(0: a copy, 1: zero weights).",
    ]
    if len(untrained):
        both = aligned.merge(untrained, on=t.JOURNEY, suffixes=("", "_untrained"))
        closer = (both.value < both.value_untrained).sum()
        sentences.append(
            f"A model that was never trained is brought to {of(gauge.UNTRAINED)} by the same search; "
            f"{closer} of {len(both)} trained ones come closer."
        )
    sentences.append(
        f"The published search, whose rotation is transposed, ends at {of(gauge.PUBLISHED)}, where random "
        f"alignments have {of(gauge.RANDOM)}; with the rotation mended it ends at {of(gauge.MENDED)}. Largest mean "
        f"squared difference of a tensor: {of(gauge.PUBLISHED, 'max_mse')} as published, "
        f"{of(gauge.MENDED, 'max_mse')} mended, {of(gauge.ZERO, 'max_mse')} for zero weights."
    )
    sentences.append(
        f"{converged.sum():.0f} of {len(converged)} searches converged; the best end was reached by "
        f"{same.median():.0%} of the starts (median)."
    )
    return sentences


def _errors(tables: t.Tables, cohort: str) -> list[dict[str, str]]:
    """A line an arm."""
    rows = tables.weights[(tables.weights.cohort == cohort) & (tables.weights.tensor == "all")]
    found = []
    for arm, words in ARMS.items():
        part = rows[rows.arm == arm]
        if len(part):
            cells = {
                metric: _text(part[part.metric == metric].value, "–")
                for metric in ("relative_error", "max_mse", "global_mse")
            }
            found.append({"arm": words, **cells})
    return found


def _traded(tables: t.Tables, cohort: str) -> list[str]:
    """Whether one rotation can serve weights and activations."""
    rows = tables.joint[tables.joint.cohort == cohort]

    def of(column: str, **wanted: Any) -> pd.Series:
        part = rows
        for name, value in wanted.items():
            part = part[part[name] == value]
        # Of both determinants the one that is the optimum.
        return part.loc[part.groupby(t.JOURNEY).loss.idxmin(), column]

    best = {"start": gauge.ALIGNED, "objective": joint.NORMALISED, "method": gauge.CLOSED}
    ends = [_text(of(e, **best, **{"lambda": lam})) for lam in (0.0, 1.0) for e in ERRORS]
    again = {"start": gauge.PUBLISHED, "objective": joint.PUBLISHED, "lambda": 1.0}
    kept, least, closed = (
        _text(of("activation_error", method=method, **again))
        for method in (gauge.PUBLISHED, gauge.LEAST_LOSS, gauge.CLOSED)
    )
    return [
        f"One more rotation after the best alignment: where weights alone decide it (λ = 0) their relative squared "
        f"error is {ends[0]} and that of activations {ends[1]}; where activations alone do (λ = 1), {ends[2]} and "
        f"{ends[3]}. The optimum is in closed form for every λ: on the tokens it is fitted on the one never "
        "falls where the other does not rise.",
        f"The published optimiser, asked for activations alone, returns an activation error of {kept} (its own "
        f"units): it keeps the state whose worst tensor is closest. Of the states it looked at the one "
        f"of least loss has {least}, and the optimum is {closed}.",
    ]


# Predictors that bars are not decided by.
NOT_HEADLINE = (b.MEASURED, b.GRADIENT)
# Parts of what decides C and Pr, told beside it.
NOT_DECIDED_BY = (b.HEADS, b.HEAD_EDGES)
# What two decimals do not show.
SMALL = 0.05
ERRORS = ("weight_error", "activation_error")


def _cell(rows: pd.DataFrame, wanted: dict[str, Any]) -> dict[str, str]:
    for name, value in wanted.items():
        rows = rows[rows[name].isin(value if isinstance(value, list) else [value])]
    if rows.empty:
        return {"value": "–", "passes": "", "null": ""}
    # Several heads: the worst of each pair.
    worst = rows.loc[rows.groupby(t.JOURNEY).value.idxmax()]
    median = worst.value.median()
    value = f"{median:.2g}" if 0 < abs(median) < SMALL else f"{median:.2f}"
    judged = worst.passes.dropna()
    passes = f"{judged.sum():.0f} of {len(judged)} pass" if len(judged) else ""
    null = worst.null.dropna()
    return {
        "value": value,
        "passes": passes,
        "null": f"null {null.median():.2f}" if len(null) else "",
    }


def _rejected(rows: pd.DataFrame, protocol: str) -> str:
    """The bars of a protocol that reject a candidate, and of how many members or pairs."""
    rows = rows[
        (rows.protocol == protocol)
        & rows.rejected.notna()
        & ~rows.predictor.isin(NOT_HEADLINE)
        & ~rows.part.isin(NOT_DECIDED_BY)
    ]
    if rows.empty:
        return "–"
    # Several rows of a bar, such as those of heads: one is enough.
    by_pair = rows.groupby(["bar", *t.JOURNEY]).rejected.max().groupby("bar")
    found = [
        f"{bar} ({by_pair.sum()[bar]:.0f} of {by_pair.size()[bar]})"
        for bar in (b.B, b.P, b.C, b.PR)
        if bar in by_pair.groups and by_pair.sum()[bar]
    ]
    return ", ".join(found) or "none"


def _judged(rows: pd.DataFrame) -> list[str]:
    """What the bars tell apart."""
    sibling = rows[(rows.candidate == b.SIBLING) & (rows.predictor == b.INTEGRATED)]
    published = sibling[(sibling.protocol == b.PUBLISHED) & (sibling.bar == b.C)].value
    judged = sibling[sibling.protocol == b.RIGOROUS]
    rigorous, edges = (judged[judged.part == part] for part in (b.COMPONENTS, b.EDGES))
    floor = rows[
        (rows.candidate == b.PROGRAM) & (rows.quantity == "smoothed_divergence")
        & (rows.part == "pooled mean")
    ].value  # fmt: skip
    sentences = []
    if len(published) and len(rigorous):
        sentences.append(
            f"Effects of components in one seed predict those in another with r {_text(published)} as published, "
            f"heads matched by the transposed search; matched by all symmetries and on other sequences "
            f"{_text(rigorous.value)}, of edges {_text(edges.value)}, where heads under each other's names have "
            f"{_text(rigorous.null)} and {_text(edges.null)}."
        )
    if len(floor):
        sentences.append(
            f"The hand-compiled program, which is never wrong, has {floor.median():.1e} nats by the published "
            f"measure, whose threshold is {b.THRESHOLD[b.B]:.0e}: its logits are 100 apart, and smoothed labels charge "
            "for confidence."
        )
    return sentences


def _text(values: pd.Series, nothing: str = "nothing measured") -> str:
    """Median and range; two digits of what is small."""
    found = spread(values.dropna())
    if found is None:
        return nothing
    if 0 < abs(found.median) < SMALL:
        return f"{found.median:.2g} ({found.low:.2g} to {found.high:.2g})"
    return str(found)
