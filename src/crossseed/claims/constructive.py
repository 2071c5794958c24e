"""How the claims on bars, weights and decoys are measured."""

from __future__ import annotations

import pandas as pd

from crossseed import bars as b
from crossseed import gauge
from crossseed.claims.cells import SEED_VALUES, Cells, Values, Wiring, less
from crossseed.gauge import joint


def _bar(candidate: str, value: str = "value", **wanted: str) -> Values:
    """Rows of the bars table about a candidate."""
    return lambda c: c.between("bars", candidate=candidate, value=value, **wanted)


def _weights(arm: str, metric: str) -> Values:
    return lambda c: c.between("weights", arm=arm, tensor="all", metric=metric)


def _joint(method: str) -> Values:
    """The largest squared difference after the published search and one more rotation, at λ = 0."""
    return lambda c: c.between(
        "joint",
        start=gauge.PUBLISHED,
        objective=joint.PUBLISHED,
        method=method,
        lambda_=0.0,
        det=1,
        value="max_mse",
    )


def _over_itself(candidate: str, quantity: str) -> Values:
    """A behavioural figure of a decoy over that of the model it is made from."""

    def ratio(c: Cells) -> pd.DataFrame:
        named = {"bar": b.B, "quantity": quantity, "part": "pooled mean"}
        keys = SEED_VALUES[:-1]
        decoy, own = (_bar(name, **named)(c) for name in (candidate, b.ITSELF))
        both = decoy.merge(own, on=keys, suffixes=("", "_own"))
        return both.assign(value=both.value / both.value_own)[SEED_VALUES]

    return ratio


_SMOOTHED = {"bar": b.B, "quantity": "smoothed_divergence", "part": "pooled mean"}
_COMPONENTS = {"bar": b.C, "protocol": b.PUBLISHED, "predictor": b.INTEGRATED}
_PARAMETRIC = Wiring(
    _weights(gauge.PUBLISHED, "max_mse"),
    _weights(gauge.MENDED, "max_mse"),
    (_weights(gauge.RANDOM, "max_mse"), _weights(gauge.ZERO, "max_mse")),
    "passes",
    "the same search with its rotation mended, against random alignments and the zero predictor",
    "two members whose weights are aligned",
)

WIRED: dict[str, Wiring] = {
    "bar-behavioural": Wiring(
        _bar(b.ITSELF, **_SMOOTHED),
        _bar(b.ITSELF, bar=b.B, quantity="cross_entropy", part="all mean"),
        less(
            _bar(b.ITSELF, **_SMOOTHED),
            _bar(b.ITSELF, bar=b.B, quantity="cross_entropy", part="pooled mean"),
        ),
        "never",
        "cross-entropy without smoothing, every distribution by its share; beside what smoothing adds",
        "the bars",
    ),
    "bar-behavioural-cross": Wiring(
        _bar(b.SIBLING, bar=b.B, quantity="kl", part="train mean"),
        _bar(b.SIBLING, bar=b.B, quantity="kl", part="all mean"),
        _bar(b.SIBLING, bar=b.B, quantity="kl", part="all mean", value="null"),
        "never",
        "over all distributions, beside an untrained model; no alignment enters",
        "the bars between members",
    ),
    "bar-parametric": _PARAMETRIC,
    "bar-parametric-independent": _PARAMETRIC,
    "bar-parametric-joint": Wiring(
        _joint(gauge.PUBLISHED),
        _joint(gauge.CLOSED),
        _joint(gauge.GIVEN),
        "never",
        "the closed form, beside no further rotation",
        "two members whose weights are aligned",
    ),
    "bar-causal-within": Wiring(
        _bar(b.ITSELF, **_COMPONENTS),
        _bar(b.ITSELF, part=b.EDGES, protocol=b.RIGOROUS, predictor=b.INTEGRATED),
        _bar(b.ITSELF, part=b.EDGES, protocol=b.RIGOROUS, predictor=b.MEASURED),
        "falls",
        "edges, predicted on other sequences, against the effects themselves measured there, one pass each: on their "
        "own batch integrated gradients are the measurement",
        "the bars",
    ),
    "bar-causal-cross": Wiring(
        _bar(b.SIBLING, **_COMPONENTS),
        _bar(b.SIBLING, bar=b.PR, part=b.COMPONENTS, protocol=b.RIGOROUS, predictor=b.INTEGRATED),
        _bar(
            b.SIBLING,
            bar=b.PR,
            part=b.COMPONENTS,
            protocol=b.RIGOROUS,
            predictor=b.INTEGRATED,
            value="null",
        ),
        "falls",
        "heads matched by the search over all symmetries, on other sequences, against heads under each other's "
        "names",
        "the bars between members",
    ),
    "decoy": Wiring(
        _over_itself(b.AVERAGED, "smoothed_divergence"),
        _over_itself(b.AVERAGED, "cross_entropy"),
        _over_itself(b.TAUGHT, "cross_entropy"),
        "never",
        "by cross-entropy, beside a decoy that was taught to behave alike",
        "the bars",
    ),
}
