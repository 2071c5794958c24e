"""The answer of a run in sentences. Every figure in them is read from the tables, and each
judgement is a comparison of figures, so that another run may say the opposite.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed.claims.verdicts import NOT_RUN
from crossseed.report import absorption, constructive, interpret, interventions, lenses, stability
from crossseed.report import tables as t
from crossseed.report.drift import drift
from crossseed.report.listing import Cell, Table, cell, cells
from crossseed.report.rotation import haar
from crossseed.report.transfer import (
    ARM_WORDS,
    BASELINES,
    NULLS,
    claim_rule,
    companions,
    decoder_cosines,
    features,
    map_spreads,
    reconstruction,
    spreads,
)


def claims(tables: t.Tables) -> dict[str, Any]:
    """Published figures by verdict, the table of those that were measured, and of what the others need."""
    rows = tables.claims
    if rows.empty:
        return {}
    measured = rows[rows.verdict != NOT_RUN]
    counts = measured.verdict.value_counts()
    needs = rows[rows.verdict == NOT_RUN].groupby("why").claim.count()
    heads = ("published figure", "cohort and site", "verdict", "published", "as published")
    return {
        "counts": [(verdict, int(n)) for verdict, n in counts.items()],
        "left_out": int(needs.sum()),
        "table": Table(
            "t-claims",
            "Published figures that this run measures: by the published protocol (small: range over pairs and sites), and as it "
            "should be (small: 95 % interval over seeds where there are enough), beside its control. Small below a verdict: why.",
            [*heads, "rigorous", "null"],
            [_claim(row) for row in measured.itertuples()],
        ),
        "needs": Table(
            "t-not-run",
            "Published figures that this run does not measure, by what they need.",
            ["what it needs", "figures"],
            [cells(why, n) for why, n in needs.items()],
        ),
    }


def _claim(row: Any) -> list[Cell]:
    published = f"{row.published_low:g}"
    if row.published_low != row.published_high:
        published += f" to {row.published_high:g}"
    return [
        cell(row.quantity),
        cell(row.cohort, row.site),
        cell(row.verdict, "" if pd.isna(row.why) else row.why),
        cell(published),
        _measured(row.as_published, row.as_published_low, row.as_published_high),
        _measured(row.rigorous, row.low, row.high),
        _measured(row.null),
    ]


def _measured(value: float, low: float = float("nan"), high: float = float("nan")) -> Cell:
    said = "" if pd.isna(value) else f"{value:.3g}"
    return cell(said, "" if pd.isna(low) else f"{low:.3g} to {high:.3g}")


def of_cohort(tables: t.Tables, cohort: str, info: dict[str, Any]) -> dict[str, Any]:
    """All that the page says of one cohort."""
    skip = sorted(t.same_sites(tables.fits, cohort))
    rows = t.crossed(tables.transfer[tables.transfer.cohort == cohort])
    sections = []
    for dictionary in sorted(rows.dictionary.unique()):
        ev = spreads(tables, cohort, dictionary, "ev")
        firing = spreads(tables, cohort, dictionary, "firing_r")
        above = spreads(tables, cohort, dictionary, "firing_r_above_0.5")
        alignment = map_spreads(tables, cohort, "alignment_ev")
        l0 = spreads(tables, cohort, dictionary, "l0")
        if not {"raw", "procrustes", "self"} <= set(ev):
            continue
        sentences = reconstruction(ev) + features(firing, above, alignment)
        sentences += claim_rule(tables, cohort, dictionary)
        sentences += decoder_cosines(tables, cohort, dictionary)
        if info["width"] and "self" in l0 and l0["self"].median > info["width"]:
            sentences.append(
                f"This dictionary is not sparse: {l0['self'].median:.0f} latents are active per "
                f"token in {info['width']} dimensions."
            )
        rungs = ("permutation", "shared", "procrustes", "ridge")
        arms = ("self", "resampled", *BASELINES, *NULLS, "untrained", *rungs)
        sections.append(
            {
                "dictionary": dictionary,
                "sentences": sentences,
                "rows": [
                    {
                        "arm": ARM_WORDS[arm],
                        "ev": ev.get(arm),
                        "firing": firing.get(arm),
                        "alignment": alignment.get(arm),
                    }
                    for arm in arms
                    if arm in ev
                ],
            }
        )
    said = {
        "sections": sections,
        "companions": companions(tables, cohort),
        "haar": haar(tables, cohort),
        "ports": interventions.ports(tables, cohort),
        "steering": interventions.steering(tables, cohort),
        "regimes": interventions.regimes(tables, cohort),
        "features": interventions.features(tables, cohort),
        "attribution": interventions.attribution(tables, cohort),
        "stability": stability.of_cohort(tables, cohort),
        "absorption": absorption.of_cohort(tables, cohort),
        "interpret": interpret.of_cohort(tables, cohort),
        "weights": constructive.weights(tables, cohort),
        "bars": constructive.bars(tables, cohort),
        "lenses": lenses.of_cohort(tables, cohort),
        "drift": drift(tables, cohort, info),
    }
    return {
        "name": cohort,
        "same_sites": skip,
        # Of cohorts that only joint SAEs are trained on, all is said there.
        "silent": not any(said.values()),
        **said,
        **info,
    }
