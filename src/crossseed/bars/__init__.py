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

A candidate is ``rejected`` by a bar that the primary itself passes and it does not; by C and Pr of the rigorous
version also where the primary's effects predict it worse than the primary itself (``gap``), reliably and by more than
`NOTICED`, whatever the threshold, since that is held against sequences that no prediction has seen.
"""

from __future__ import annotations

from typing import Any

from crossseed.keys import JOURNEY, MEMBER

COLUMNS = (
    *(*JOURNEY, "candidate", "bar", "protocol", "quantity", "part", "predictor", "value", "low"),
    *("high", "null", "null_high", "p", "gap", "gap_low", "gap_high", "threshold", "passes"),
    *("rejected", "n"),
)
VALUES = ("measured", "integrated", "gradient", "published")
CAUSE_COLUMNS = (*MEMBER, "source", "destination", "batch", *(f"{name}_nats" for name in VALUES))
B, P, C, PR = "B", "P", "C", "Pr"
THRESHOLD = {B: 1e-4, P: 1e-3, C: 0.99, PR: 0.99}
# The published threshold of squared differences as one of relative errors.
RELATIVE_ERROR = THRESHOLD[P] ** 0.5
# Differences of r below this are none: float32 makes smaller ones.
NOTICED = 0.01
PUBLISHED, RIGOROUS = "published", "rigorous"
ITSELF, SIBLING = "itself", "sibling"
# Decoys (`crossseed.cohorts.dyck.decoys`).
AVERAGED, SWAPPED, SPLIT, TAUGHT = "averaged", "swapped", "split", "taught"
PROGRAM = "program"
# Sequences a step in which `TAUGHT` learns.
TAUGHT_ROWS = 64
MEASURED, INTEGRATED, GRADIENT = "measured", "integrated", "gradient"
COMPONENTS, HEADS, EDGES = "components", "heads", "edges"
HEAD_EDGES, CUMULATIVE = "edges of heads", "cumulative"
# Bar P of the model itself, moved by a random element.
MOVED = "moved copy"
Row = dict[str, Any]


def row(
    bar: str, protocol: str, part: str, predictor: str, value: float, *, n: int, quantity: str = "r"
) -> Row:
    """A row of `COLUMNS`, without the pair's and the candidate's, held against the published threshold."""
    threshold = THRESHOLD[bar]
    passes = value > threshold if bar in (C, PR) else value < threshold
    unknown = dict.fromkeys(
        ("low", "high", "null", "null_high", "p", "gap", "gap_low", "gap_high"), float("nan")
    )
    return {
        "bar": bar,
        "protocol": protocol,
        "quantity": quantity,
        "part": part,
        "predictor": predictor,
        "value": value,
        **unknown,
        "threshold": threshold,
        "passes": int(passes),
        "rejected": "",
        "n": n,
    }
