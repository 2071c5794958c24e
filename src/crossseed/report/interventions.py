"""What the page says of steering, single latents, attribution and ported dictionaries; every figure in the
sentences is read from the tables."""

from __future__ import annotations

from typing import Any

import pandas as pd

from crossseed import attribution as a
from crossseed import card, pairs
from crossseed import features as f
from crossseed import steering as s
from crossseed.alignment import ladder
from crossseed.claim_rule import ALPHA
from crossseed.report import tables as t
from crossseed.report.intervention_figures import measure_of
from crossseed.report.spreads import Spread, spread

ARMS = {
    s.NATIVE: "native",
    s.MAPPED: "another seed's, rotated",
    s.RAW: "another seed's, raw",
    s.MISMATCHED: "rotated by another pair's map",
    s.SHUFFLED: "rotated by a map of shuffled tokens",
    s.RANDOM: "random directions",
    s.SHAPED: "directions of the target's covariance",
}
# The dose at which damage to other text is told.
TOLD = 2.0


def steering(tables: t.Tables, cohort: str) -> list[dict[str, Any]]:
    """By concept: a sentence or two, and a line an arm."""
    rows = tables.steering[tables.steering.cohort == cohort]
    skip = t.same_sites(tables.fits, cohort)
    return [
        _concept(str(concept), part[~part.site.isin(skip)])
        for concept, part in rows.groupby("concept", sort=False)
        if len(part[~part.site.isin(skip)])
    ]


def _concept(concept: str, rows: pd.DataFrame) -> dict[str, Any]:
    measure = measure_of(rows)
    of = rows[rows.measure == measure]
    native = of[(of.arm == s.NATIVE) & (of.metric == "slope")]
    works = native[(native.low > 0) | (native.high < 0)]
    sentences = [
        f"The native vector moves the intended logit by {_text(native.value)} per length of itself, and its "
        f"95 % interval excludes 0 in {len(works)} of {len(native)} pairs and sites; ratios are taken there."
    ]
    ratio = of[of.metric == "ratio"].dropna(subset=["value"])
    by = {str(arm): part for arm, part in ratio.groupby("arm")}
    if len(works) and {s.MAPPED, s.RAW, s.RANDOM} <= set(by):
        band = by[s.RANDOM]
        sentences.append(
            f"Another seed's vector has {_text(by[s.MAPPED].value)} of that effect after the rotation and "
            f"{_text(by[s.RAW].value)} raw; 95 % of random directions lie between {band.low.median():.2f} and "
            f"{band.high.median():.2f} (medians). {_beyond(of, works, s.NATIVE)} of {len(works)} native, "
            f"{_beyond(of, works, s.MAPPED)} rotated and {_beyond(of, works, s.RAW)} raw vectors do more than "
            f"random directions at p ≤ {ALPHA:g}."
        )
        if not _beyond(of, works, s.NATIVE):
            sentences.append(
                "Native vectors that do no more than random ones leave nothing to carry."
            )
    return {"concept": concept, "sentences": sentences, "rows": _lines(rows, by)}


def _beyond(of: pd.DataFrame, works: pd.DataFrame, arm: str) -> int:
    """Where an arm does more than random directions, among cells with a native response."""
    rows = of[(of.arm == arm) & (of.metric == f"p_{s.RANDOM}")].merge(works[t.PAIR], on=t.PAIR)
    return int((rows.value <= ALPHA).sum())


def _lines(rows: pd.DataFrame, ratios: dict[str, pd.DataFrame]) -> list[dict[str, Any]]:
    found = []
    for arm, words in ARMS.items():
        part = rows[rows.arm == arm]
        if part.empty:
            continue

        def of(metric: str, part: pd.DataFrame = part, dose: float | None = None) -> Spread | None:
            chosen = part[part.metric == metric]
            chosen = chosen if dose is None else chosen[chosen.dose == dose]
            return spread(chosen.value.dropna())

        band = ""
        if arm in ratios:
            low, high = ratios[arm].low.median(), ratios[arm].high.median()
            band = "" if pd.isna(low) else f"{low:.2f} to {high:.2f}"
        found.append(
            {
                "arm": words,
                "ratio": spread(ratios[arm].value) if arm in ratios else None,
                "interval": band,
                "cosine": of("effect_cosine"),
                "share": of("intended_share", dose=TOLD),
                "damage": of("ce_added", dose=TOLD),
                "kl": of("kl_ratio", dose=TOLD),
            }
        )
    return found


def regimes(tables: t.Tables, cohort: str) -> list[str]:
    """The published regimes as a measured quantity."""
    rows = tables.steering[tables.steering.cohort == cohort]
    if rows.empty:
        return []
    rows = rows[~rows.site.isin(t.same_sites(tables.fits, cohort))]
    keys = [*t.PAIR, "concept"]
    wide = rows[rows.arm == s.NATIVE].pivot_table(index=keys, columns="metric", values="value")
    raw = rows[(rows.arm == s.RAW) & (rows.metric == "ratio")].dropna(subset=["value"])
    if raw.empty:
        return []
    raw = pd.concat([part[part.measure == measure_of(part)] for _, part in raw.groupby("concept")])
    wide = wide.join(raw.set_index(keys).value.rename("raw"), how="inner")
    shared = wide.pinned_share_random.max() > 0
    metric = "pinned_share" if shared else "kept_by_map"
    what = (
        "the share of the native vector in the span of what shared weights fix "
        f"({_text(wide.pinned_share)}, a random direction {wide.pinned_share_random.median():.2f})"
        if shared
        else f"how little the rotation turns the vector (cosine {_text(wide.kept_by_map)})"
    )
    if len(wide) < 4:
        return []
    rho = wide[metric].rank().corr(wide.raw.rank())
    return [
        f"Regimes: over {len(wide)} vectors, {what} has a rank correlation of {rho:.2f} with the transfer "
        "ratio of the raw vector. The study named three regimes by hand."
    ]


def features(tables: t.Tables, cohort: str) -> list[str]:
    """What single latents do in two models."""
    rows = tables.features[(tables.features.cohort == cohort) & tables.features.latent.isna()]
    rows = rows[~rows.site.isin(t.same_sites(tables.fits, cohort))]
    if rows.empty:
        return []

    def of(metric: str, arm: str) -> str:
        return _text(rows[(rows.metric == metric) & (rows.arm == arm)].value)

    name = f"{rows.dictionary.iloc[0]} ({rows.init.iloc[0]} start)"
    sentences = [
        f"Taking a latent of {name} out of the target does what it does in the source with a correlation over "
        f"predictions of {of('agreement', f.PORTED)} if the dictionary is rotated, {of('agreement', f.RAW)} if "
        f"it is not, {of('agreement', f.SHUFFLED)} through a rotation fitted on shuffled tokens, and "
        f"{of('agreement', f.OTHER)} with another latent of the source."
    ]
    ratio = rows[(rows.metric == "transfer_ratio") & (rows.strength == f.PUBLISHED)]
    if len(ratio):
        told = {arm: _text(part.value) for arm, part in ratio.groupby("arm")}
        sentences.append(
            "The published transfer ratio, divergence in the target over that in the source at strength 4, is "
            f"{told[f.PORTED]} rotated, {told[f.RAW]} raw, and {told[f.DIRECTION]} for random directions: it "
            "has no sign."
        )
    if (rows.metric == "auc").any():
        sentences.append(
            "Latents of the target replaced by their matched partners in the source: area under the quality "
            f"curve {of('auc', f.PORTED)} written by rotated directions, {of('auc', f.RAW)} raw, "
            f"{of('auc', f.SHUFFLED)} through shuffled tokens, {of('auc', f.PERMUTED)} with one another's "
            f"partners; {of('match_r', f.PORTED)} is their mean firing correlation on the tokens of the match."
        )
    return sentences


def attribution(tables: t.Tables, cohort: str) -> list[str]:
    """How well attributions predict ablation, beside what it costs to measure."""
    rows = tables.attribution[tables.attribution.cohort == cohort]
    sentences = []
    for kinds, part in rows.groupby("kinds", sort=False):
        most = part[part.method == a.RIGHT].points.max()

        def of(
            metric: str, method: str, points: float | None = None, part: pd.DataFrame = part
        ) -> str:
            chosen = part[(part.metric == metric) & (part.method == method)]
            chosen = chosen if points is None else chosen[chosen.points == points]
            return _text(chosen.value)

        def r(method: str, points: float | None = None, part: pd.DataFrame = part) -> str:
            chosen = part[(part.metric == "pearson") & (part.method == method)]
            chosen = chosen if points is None else chosen[chosen.points == points]
            low, high = chosen.value.min(), chosen.value.max()
            return f"{chosen.value.median():.4f} ({low:.4f} to {high:.4f})"

        gauss = sorted(part[part.method == a.GAUSS].points.unique())
        fewer = ", ".join(f"{of('relative_error', a.GAUSS, n)} with {n:.0f}" for n in gauss[-2:])
        sentences.append(
            f"{str(kinds).replace('+', ' and ')} ({part.n_cells.max():.0f} cells a member): attribution patching "
            f"correlates with measured effects at {r(a.PATCHING)}, integrated gradients with {most:.0f} "
            f"points of the right Riemann sum at {r(a.RIGHT, most)}, its error "
            f"{of('relative_error', a.RIGHT, most)} of the effects; Gauss–Legendre has {fewer} points. Ablating another "
            f"batch, one pass, correlates at {r(a.OTHER_BATCH)}, with an error of "
            f"{of('relative_error', a.OTHER_BATCH)}."
        )
    return sentences


def ports(tables: t.Tables, cohort: str) -> list[dict[str, Any]]:
    """A card a ported dictionary: explained variance, firing and cross-entropy of it, of what it has to
    beat, and of the nulls, of which the best is told."""
    rows = tables.ports[tables.ports.cohort == cohort]
    found = []
    for key, part in rows.groupby([*t.PAIR, "dictionary", "map"], sort=False):
        named = dict(zip([*t.PAIR, "dictionary", "map"], key, strict=True))
        by = part.set_index(["arm", "metric"])
        nulls = [arm for arm in (*ladder.NULLS, pairs.SHUFFLED_LIKE) if arm in set(part.arm)]
        cells = []
        for metric in ("ev", "firing_r", "ce_recovered"):
            best = [by.value.get((arm, metric)) for arm in nulls]
            known = [float(v) for v in best if v is not None and not pd.isna(v)]
            ported, raw, own, source = (
                _value(by, arm, metric) for arm in (card.PORTED, "raw", card.OWN, card.SOURCE)
            )
            cells.append([ported, raw, f"{max(known):.2f}" if known else "–", own, source])
        found.append({**named, "cells": cells})
    return found


def _value(by: pd.DataFrame, arm: str, metric: str) -> str:
    if (arm, metric) not in by.index:
        return "–"
    row = by.loc[(arm, metric)]
    if pd.isna(row.value):
        return "–"
    interval = "" if pd.isna(row.low) else f" ({row.low:.2f} to {row.high:.2f})"
    return f"{row.value:.2f}{interval if arm == card.PORTED else ''}"


def _text(values: pd.Series) -> str:
    found = spread(values.dropna())
    return "nothing measured" if found is None else str(found)
