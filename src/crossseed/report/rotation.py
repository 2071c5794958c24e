"""What the page says of the tests of rotations against Haar."""

from __future__ import annotations

import pandas as pd

from crossseed.claim_rule import ALPHA
from crossseed.haar.power import IID, PULL
from crossseed.haar.sizes import SMALLEST
from crossseed.report import tables as t
from crossseed.report.spreads import percent, spread

# Share of draws in which a test must reject to be said to see an alternative.
SEEN = 0.8


def haar(tables: t.Tables, cohort: str) -> list[str]:
    """What the calibrated battery says of a cohort's rotations."""
    rows = tables.haar[tables.haar.cohort == cohort]
    rows = rows[~rows.site.isin(t.same_sites(tables.fits, cohort))]
    if rows.empty:
        return []
    tests = rows[rows.holm.notna() & (rows.basis != "across")]
    cells = len(rows[rows.basis != "across"].drop_duplicates(t.PAIR))
    sentences = []
    whole = tests[tests.subspace == "whole"]
    if len(whole):
        told = _rejected(whole[whole.basis == "neuron"])
        count, n = told["procrustes"]
        sentences.append(
            f"Of {n} rotations that the activations decide wholly, {count} are told from a Haar draw by "
            "their eigenangles, or entries in the neuron basis, at a calibrated p ≤ .05, Holm-corrected "
            f"within each (by chance at most {ALPHA * n:.1f})"
            + _controls(told)
            + f". {whole.target_seed.nunique()} of their pairs are independent; the sites of a pair are "
            "not." + _detectable(tables.power, int(whole.dimensions.max()))
        )
        told = _rejected(whole[whole.basis == "principal"])
        if told:
            count, n = told["procrustes"]
            sentences.append(
                f"By entries in each side's principal basis {count} of {n} are told from Haar"
                + _controls(told)
                + _inside(count, told.get("shuffled", (0, 1)))
            )
    inside = tests[tests.subspace == "identified"]
    if len(inside):
        told, size = _rejected(inside), inside.dimensions.median()
        count, n = told["procrustes"]
        sentences.append(
            f"Inside the identified directions ({size:.0f} in the median), by the entries in each "
            f"side's principal basis, {count} of {n} are told from Haar"
            + _controls(told)
            + _inside(count, told.get("shuffled", (0, 1)))
        )
    untested = cells - len(tests.drop_duplicates(t.PAIR))
    if untested:
        sentences.append(
            f"In {untested} of {cells} pairs and sites fewer than {SMALLEST} directions are identified, "
            "and nothing is tested."
        )
    sentences += _ks(tables.ks[tables.ks.cohort == cohort])
    cocycle = tables.cocycle[tables.cocycle.cohort == cohort]
    cocycle = cocycle[~cocycle.site.isin(t.same_sites(tables.fits, cohort))]
    if len(cocycle):
        sentence = (
            "Composed around three seeds, each fit on documents of its own, rotations return to the "
            f"identity, weighted by covariance, to τ = {spread(cocycle.tau_weighted)}; fitted on "
            f"shuffled tokens to {spread(cocycle.tau_weighted_shuffled)}."
        )
        known = cocycle[cocycle.decided == 1]
        if len(known):
            sentence += f" Unweighted, where all three are decided, τ = {spread(known.tau)}."
        sentences.append(sentence)
    return sentences


def _rejected(tests: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """By map: matrices of which some test rejects Haar, and all."""
    found = {}
    for name, part in tests.groupby("map"):
        lowest = part.groupby(t.PAIR).holm.min()
        found[str(name)] = int((lowest <= ALPHA).sum()), len(lowest)
    return found


def _controls(told: dict[str, tuple[int, int]]) -> str:
    words = {
        "shuffled": "fitted on shuffled tokens",
        "covariance_random": "from matched principal axes",
    }
    return "".join(
        f"; {said} {told[k][0]} of {told[k][1]}" for k, said in words.items() if k in told
    )


def _inside(count: int, shuffled: tuple[int, int]) -> str:
    """What a rejection between principal directions means, beside that of shuffled tokens."""
    from scipy.stats import binom

    if not count:
        return ": consistent with Haar there, and no more than that."
    said = ": principal axes of the two models correspond more than chance would have it"
    # More of them than a test of this level lets through where nothing is to be found.
    found, n = shuffled
    also = binom.sf(found - 1, n, ALPHA) < ALPHA
    return f"{said}, but so they do where only positions are paired." if also else f"{said}."


def _detectable(power: pd.DataFrame, d: int) -> str:
    """The smallest pull towards the identity that some calibrated test sees."""
    rows = power[(power.d == d) & (power.alternative == PULL) & (power.test != IID)]
    seen = rows[rows.rejected >= SEEN].strength
    if seen.empty:
        return ""
    return (
        f" The smallest pull towards the identity, of those tried, that some test sees in "
        f"{percent(SEEN)} of draws is {seen.min():g}."
    )


def _ks(rows: pd.DataFrame) -> list[str]:
    """The published test of eigenphases, beside the calibrated one."""
    one = rows[rows.matrices == 1]
    own, shuffled = one[one["map"] == "procrustes"], one[one["map"] == "shuffled"]
    if own.empty:
        return []
    text = (
        "The published test of eigenphases, which takes them as independent, has a median p of "
        f"{own.p_published.median():.2g} over {len(own)} rotations, and of "
        f"{shuffled.p_published.median():.2g} for rotations fitted on shuffled tokens"
    )
    known = own.p.dropna()
    if known.empty:
        return [
            f"{text}; none of them is decided by the activations, so none is tested as a whole."
        ]
    return [
        f"{text}; calibrated, on the {len(known)} that the activations decide, p lies between "
        f"{known.min():.2g} and {known.max():.2g}."
    ]
