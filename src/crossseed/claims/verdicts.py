"""Every published figure of a study beside what this run measures, and what its control does.

A row a figure of `resources/published/*.csv`: ``as_published`` is measured under the published
protocol (median, or mean where that is what was printed, and range over pairs and sites; for drift, whose activations are never stored, with
maps fitted on other tokens), ``rigorous`` as it should be (with its 95 %
interval over seeds, ``low`` to ``high``), ``null`` is the same of its control, and ``margin`` how
far the rigorous measurement lies above it. The verdict is one of `VERDICTS`; a figure whose cohort
or study is not in the run says what it needs, never an empty pass.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.claim_rule import ALPHA, NOTICEABLE
from crossseed.claims import COLUMNS, constructive, interventions, joint, rotation, stability
from crossseed.claims.cells import Cells, Claim, Wiring
from crossseed.metrics import Estimate, estimate
from crossseed.over_seeds import resampled
from crossseed.seeding import generator

REPRODUCED = "reproduced"
EXPLAINED = "reproduced but explained by its control"
FAILED = "not reproduced"
NOT_RUN = "not run here"
VERDICTS = (REPRODUCED, EXPLAINED, FAILED, NOT_RUN)


# By the claim's name without the study's cohort.
WIRED: dict[str, Wiring] = {
    **rotation.WIRED,
    **interventions.WIRED,
    **constructive.WIRED,
    **stability.WIRED,
    **joint.WIRED,
}
# Controls that the rigorous measurement has to beat.
BEATEN = ("falls", "stands")
# Studies of which no version measures anything yet, by how their claims' names begin.
ABSENT = {
    "weight": "a study of weight edits",
}


def name_of(claim: Claim) -> str:
    """The claim's name without its cohort, and without what tells figures of one kind apart:
    ``toy-independent-raw-ev`` is ``raw-ev``, ``pythia-160m-sae-seeds-dual@x1-3`` is ``sae-seeds-dual``."""
    name = claim.claim.partition("@")[0]
    for prefix in (claim.cohort, claim.cohort.split("-")[0]):
        if name.startswith(f"{prefix}-"):
            return name.removeprefix(f"{prefix}-")
    return name


def judge(claim: Claim, cells: Cells | None, missing: str = "") -> dict[str, Any]:
    """A row of `COLUMNS`.

    Args:
        cells: where the claim is measured; None where its cohort is not in the run.
        missing: what a claim without cells needs.
    """
    row: dict[str, Any] = dict.fromkeys(COLUMNS, float("nan"))
    row |= {
        "claim": claim.claim,
        "quantity": claim.quantity,
        "cohort": cells.cohort if cells else "",
        "site": claim.site,
        "published_low": claim.low,
        "published_high": claim.high,
        "tolerance": claim.tolerance,
        "printed": claim.printed,
        "verdict": NOT_RUN,
    }
    name = name_of(claim)
    wiring = WIRED.get(claim.claim) or WIRED.get(name)
    absent = ABSENT.get(name.split("-")[0])
    if wiring is None and absent is not None:
        return {**row, "why": f"needs {absent}, which this version does not have"}
    if cells is None or wiring is None:
        return {**row, "why": f"needs {missing or 'a study, which this version does not have'}"}
    nulls = wiring.null if isinstance(wiring.null, tuple) else (wiring.null,)
    frames = [measure(cells) for measure in (wiring.as_published, wiring.rigorous, *nulls)]
    if frames[0].empty:
        return {**row, "why": "needs cells that this run does not have: " + wiring.needs}
    values = resampled(generator("claims", claim.claim), frames, wiring.over)
    control = _control(claim, wiring, values[2:])
    as_published, rigorous, null = (estimate(v) for v in (values[0], values[1], control))
    margin = estimate(values[1] - control)
    spread = frames[0].value
    row |= {
        "as_published": as_published.value,
        "as_published_low": float(spread.min()),
        "as_published_high": float(spread.max()),
        "rigorous": rigorous.value,
        "low": rigorous.low,
        "high": rigorous.high,
        "null": null.value,
        "margin": margin.value,
        "margin_low": margin.low,
        "margin_high": margin.high,
        "cells": len(spread),
        "why": wiring.why,
    }
    if not claim.met_by(as_published.value):
        return {**row, "verdict": FAILED}
    if np.isnan(margin.value if wiring.control in BEATEN else null.value):
        if wiring.control != "never":
            return {**row, "why": "needs its control, which no cell of this run has"}
    elif wiring.control == "control_p" and rigorous.value <= ALPHA:
        why = "the figure is the same, but the calibrated test rejects what it was taken to show"
        return {**row, "verdict": FAILED, "why": f"{why}; {wiring.why}"}
    if wiring.control in BEATEN and np.isnan(margin.low):
        row["why"] += "; too few seeds for an interval"
    explained = _explained(claim, wiring, rigorous.value, null.value, margin)
    return {**row, "verdict": EXPLAINED if explained else REPRODUCED}


def _control(claim: Claim, wiring: Wiring, nulls: np.ndarray) -> np.ndarray:
    """Of several controls, (controls, 1 + resamples), the hardest to beat, or the one closest to the published figure."""
    firsts = np.array([null[0] for null in nulls])
    if wiring.control in BEATEN:
        place = np.nan_to_num(firsts, nan=-np.inf).argmax()
    else:
        place = np.argmin([np.nan_to_num(claim.away(first), nan=np.inf) for first in firsts])
    found: np.ndarray = nulls[place]
    return found


def _explained(
    claim: Claim, wiring: Wiring, rigorous: float, null: float, margin: Estimate
) -> bool:
    """Whether the control accounts for a figure."""
    if wiring.control == "passes":
        return claim.met_by(null)
    if wiring.control == "leaves":
        return not claim.met_by(null)
    if wiring.control == "control_p":
        return null > ALPHA
    if wiring.control == "stands" and rigorous < claim.low - claim.tolerance:
        return True
    if wiring.control in BEATEN:
        least = NOTICEABLE * (claim.high if wiring.counts else 1)
        return margin.value < least or margin.low <= 0
    return False
