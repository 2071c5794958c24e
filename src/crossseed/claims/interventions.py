"""How the claims on steering and attribution are measured."""

from __future__ import annotations

import numpy as np
import pandas as pd

from crossseed import attribution as a
from crossseed import steering as s
from crossseed.claims.cells import SEED_VALUES, Cells, Values, Wiring

# Points of integrated gradients in the study.
PUBLISHED_POINTS = 32
KEYS = [*SEED_VALUES[:-1], "concept", "dose"]


def _rows(c: Cells, arm: str, metric: str, concept: str | None) -> pd.DataFrame:
    """Rows of steering at positive doses, with their concept and dose."""
    rows = c.tables.get("steering", pd.DataFrame())
    if rows.empty:
        return pd.DataFrame(columns=[*KEYS, "value"])
    rows = rows[(rows.cohort == c.cohort) & (rows.checkpoint == c.checkpoint)]
    rows = rows[rows.site.isin(c.sites) & (rows.arm == arm) & (rows.metric == metric)]
    rows = rows[(rows.dose > 0) & ((rows.concept == concept) | (concept is None))]
    return rows[[*KEYS, "value"]]


def _over_within(arm: str, metric: str, concept: str | None, dose: float | None) -> Values:
    """A published measure of an arm over that of the source's own vector in the source."""

    def ratio(c: Cells) -> pd.DataFrame:
        rows = _rows(c, arm, f"{metric}_ratio", concept)
        return rows[(rows.dose == dose) | (dose is None)][SEED_VALUES].dropna()

    return ratio


def _equal_dose(arm: str, concept: str) -> Values:
    """How many times the dose an arm takes for half of the largest accuracy drop that the source's own
    vector has in the source; where it never gets there, as if it did at the largest dose."""

    def times(c: Cells) -> pd.DataFrame:
        found = []
        keys = SEED_VALUES[:-1]
        cross = dict(list(_rows(c, arm, "accuracy_drop", concept).groupby(keys)))
        for key, part in _rows(c, s.WITHIN, "accuracy_drop", concept).groupby(keys):
            half = part.value.max() / 2
            if key in cross and half > 0:
                doses = [_dose_of(curve, half) for curve in (cross[key], part)]
                found.append((*key, doses[0] / doses[1]))
        return pd.DataFrame(found, columns=SEED_VALUES)

    return times


def _dose_of(curve: pd.DataFrame, height: float) -> float:
    """The smallest dose at which a curve that starts at nothing reaches a height."""
    curve = curve.sort_values("dose")
    doses, values = np.r_[0.0, curve.dose], np.r_[0.0, curve.value]
    reached = np.flatnonzero(values >= height)
    if not len(reached):
        return float(doses[-1])
    i = int(reached[0])
    share = (height - values[i - 1]) / (values[i] - values[i - 1])
    return float(doses[i - 1] + share * (doses[i] - doses[i - 1]))


def _ratio(arm: str, concept: str | None, measure: str, value: str = "value") -> Values:
    """The signed transfer ratio of an arm."""
    named = {} if concept is None else {"concept": concept}
    return lambda c: c.of(
        "steering", arm=arm, metric="ratio", measure=measure, value=value, **named
    )


_WHY = (
    "the published ratio has no sign; beside it the slope of the raw vector's effect on the intended logit "
    "over that of the native one, "
)


def _steering(published: Values, concept: str, measure: str) -> Wiring:
    return Wiring(
        published,
        _ratio(s.RAW, concept, measure),
        tuple(_ratio(null, concept, measure, "high") for null in s.NULLS),
        "falls",
        _WHY + "against what 97.5 % of random directions stay below",
        "a study of steering at that site, or positions at which accuracy is lost",
    )


def _inverted(metric: str, concept: str | None, dose: float | None) -> Wiring:
    return Wiring(
        _over_within(s.AS_PUBLISHED, metric, concept, dose),
        _ratio(s.RAW, concept, s.MEASURES[0]),
        tuple(_over_within(null, metric, concept, dose) for null in s.NULLS),
        "passes",
        _WHY + "and the published ratio of random directions of the native vector's length",
        "a study of steering at that site, or an effect within the source",
    )


def _attributed(
    method: str, kinds: tuple[str, ...], metric: str, points: int | None = None
) -> Values:
    named = {} if points is None else {"points": points}
    return lambda c: c.own(
        "attribution", method=method, kinds="+".join(kinds), metric=metric, **named
    )


def _integrated(published: tuple[str, ...], rigorous: tuple[str, ...]) -> Wiring:
    return Wiring(
        _attributed(a.RIGHT, published, "pearson_by_batch", PUBLISHED_POINTS),
        _attributed(a.RIGHT, rigorous, "pearson", PUBLISHED_POINTS),
        (
            _attributed(a.ONE_SEQUENCE, rigorous, "pearson"),
            _attributed(a.OTHER_BATCH, rigorous, "pearson"),
        ),
        "falls",
        "over all cells, against ablating one sequence of the batch, or another batch: integrated gradients "
        "converge to the effect that they are compared with, at many times the passes of measuring it",
        "a study of attribution with 32 points of the right Riemann sum",
    )


def _patching(published: tuple[str, ...], rigorous: tuple[str, ...]) -> Wiring:
    return Wiring(
        _attributed(a.PATCHING, published, "pearson_by_batch"),
        _attributed(a.PATCHING, rigorous, "pearson"),
        _attributed(a.OTHER_BATCH, rigorous, "pearson"),
        "never",
        "over all cells, beside the effect measured on another batch",
        "a study of attribution",
    )


WIRED: dict[str, Wiring] = {
    "steering-depth": _steering(
        _over_within(s.AS_PUBLISHED, "accuracy_drop", "depth_shift", 2.0),
        "depth_shift",
        s.MEASURES[0],
    ),
    # A head of two classes: the margin alone.
    "steering-sticky": _steering(
        _equal_dose(s.AS_PUBLISHED, "sticky_suppression"), "sticky_suppression", s.MEASURES[-1]
    ),
    "steering-closer": _inverted("accuracy_drop", "closer_signal", 1.0),
    "pythia-steering": _inverted("kl", None, None),
    "ig": _integrated(a.PARTS, a.PARTS),
    "attribution-patching": _patching(a.PARTS, a.PARTS),
    # What the study calls components of a language model is the whole residual stream after a block.
    "pythia-ig": _integrated(a.RESIDUAL, a.PARTS),
    "pythia-attribution-patching": _patching(a.RESIDUAL, a.PARTS),
}
