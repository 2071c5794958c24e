"""What the page says of W: retrainings with other maps, errors of maps, and tests without training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from crossseed.report import tables as t
from crossseed.report.joint.vocabulary import (
    COLUMNS,
    COUNT,
    LEVEL,
    NULL_WORDS,
    SHARE,
    Column,
    at_site,
    pairs_in_words,
)


def null_label(null: str, share: float, directions: float, complement: object) -> str:
    """A kind of map in words."""
    if null == "partial":
        return f"W, {100 * share:.0f} % of tokens shuffled"
    if null == "top":
        rest = "random" if complement == "haar" else "as near the identity as can be"
        return f"W on {directions:.0f} directions, the rest {rest}"
    return NULL_WORDS.get(null, null)


def nulls(tables: t.Tables, cohort: str, checkpoint: str, site: str) -> dict[str, Any]:
    """Retrainings with other maps, errors of maps, and tests without training; empty without them."""
    rows = at_site(tables.joint_nulls, cohort, checkpoint, site)
    tests = at_site(tables.joint_tests, cohort, checkpoint, site)
    fits = at_site(tables.joint_fits, cohort, checkpoint, site)
    if rows.empty and fits.empty:
        return {}
    return {
        "sentences": [*_null_sentences(rows, tests), *_untested(tests)],
        "retrained": list(_retrained(rows)),
        "replicated": list(_replicated(tests)),
        "fits": list(_fits(fits)),
        "tests": list(_tests(tests)),
    }


KIND = ["null", "share", "directions", "complement"]


def _retrained(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """A line a kind of map: over pairs and draws."""
    if rows.empty:
        return
    for key, part in rows.groupby(KIND, sort=False, dropna=False):
        count = part[part.measure == COUNT].value
        share = part[part.measure == SHARE].value.dropna()
        nre = part.drop_duplicates(["source_seed", "target_seed", "draw"]).nre
        yield {
            "label": null_label(*key),
            "n": len(count),
            "universal": f"{count.mean():.1f}",
            "range": f"{count.min():.0f} to {count.max():.0f}",
            "share": f"{100 * share.mean():.1f}" if len(share) else "–",
            "nre": f"{nre.mean():.3f}",
        }


def _null_sentences(rows: pd.DataFrame, tests: pd.DataFrame) -> list[str]:
    if rows.empty:
        return []
    counts = rows[rows.measure == COUNT]
    mean = counts.groupby("null").value.mean()
    random = counts[counts.null == "random"]
    said = [f"{mean[name]:.0f} with {words}" for name, words in NULL_WORDS.items() if name in mean and name in ("identity", "true", "mismatched")]  # fmt: skip
    if len(random):
        per_pair = random.groupby(["source_seed", "target_seed"]).value.max()
        said.append(f"at most {per_pair.max():.0f} with random rotations")
    sentences = [f"Universal latents after retraining: {', '.join(said)}."]
    found = tests[(tests.how == "retrained") & (tests.statistic == COUNT)] if len(tests) else tests
    against = found[found.against == "random"] if len(found) else found
    own = against[against["map"] == "true"] if len(against) else against
    if len(own):
        sentences.append(
            f"Against {own.draws.iloc[0]:.0f} random rotations W has p = {_p_range(own.p)}, no less than "
            f"{own.p_least.iloc[0]:.3g} being possible"
            + _of_identity(own, against[against["map"] == "identity"])
        )
    if {"true", "identity"} <= set(mean.index):
        sentences.append(_of_w(counts, tests))
    return sentences


def _of_w(counts: pd.DataFrame, tests: pd.DataFrame) -> str:
    """W against no map, beside what retrainings with one map differ by."""
    said = "What tells is W against no map"
    rows = tests[(tests.how == "replicated") & (tests.statistic == COUNT)] if len(tests) else tests
    if rows.empty:
        by_pair = counts[counts.null.isin(["true", "identity"])].pivot_table(
            index=["source_seed", "target_seed"], columns="null", values="value"
        )
        more = (by_pair["true"] > by_pair["identity"]).sum()
        return (
            f"{said}: it gives more universal latents in {more} of {pairs_in_words(len(by_pair))}, of one retraining with each; by how "
            "much retrainings with one map differ was not measured."
        )
    starts = counts[counts.null == "true"].draw.nunique()
    spread = f"mean over pairs; {rows.value.min():+.1f} to {rows.value.max():+.1f}"
    if len(rows) == 1:
        spread = f"{rows.low.iloc[0]:+.1f} to {rows.high.iloc[0]:+.1f} over starts"
    above = int((rows.low > 0).sum())
    known = int(rows.low.notna().sum())
    return (
        f"{said}, from {starts} equal starts and in equal orders: W gives {rows.value.mean():+.1f} universal "
        f"latents ({spread}); the interval over starts lies above 0 in {above} of {pairs_in_words(known)}. Two retrainings with one "
        f"map differ by {rows.null_sd.mean():.1f} (standard deviation)."
    )


def _untested(tests: pd.DataFrame) -> list[str]:
    """What could not be tested without training, and why."""
    if tests.empty:
        return []
    rows = tests[tests.how == "post_hoc"]
    if rows.empty:
        return ["Nothing is tested without training: that needs an SAE of A alone."]
    by_pair = rows[rows.statistic == "encoder_r"].groupby(["source_seed", "target_seed"]).latents
    silent = int((by_pair.max() == 0).sum())
    if not silent:
        return []
    return [
        f"In {silent} of {pairs_in_words(len(by_pair))} no latent of A’s own SAE fires on enough tokens, so that nothing is said of what "
        "its encoders read."
    ]


def _p_range(p: pd.Series) -> str:
    return f"{p.min():.3g}" if p.min() == p.max() else f"{p.min():.3g} to {p.max():.3g}"


def _of_identity(own: pd.DataFrame, identity: pd.DataFrame) -> str:
    if identity.empty:
        return "."
    said = f"; no map at all has p = {_p_range(identity.p)}"
    if identity.p.max() <= own.p.max():
        return f"{said}, so that this says nothing of W."
    return f"{said}: it does not beat them." if identity.p.min() > LEVEL else f"{said}."


def _fits(fits: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Errors of maps on other sentences than they are fitted on, a line a map."""
    if fits.empty:
        return
    for (name, centred), part in fits.groupby(["map", "centered"], sort=False):
        one = len(part) == 1 and not pd.isna(part.nre_low.iloc[0])
        interval = (
            f"{part.nre_low.iloc[0]:.3f} to {part.nre_high.iloc[0]:.3f}"
            if one
            else f"{part.nre.min():.3f} to {part.nre.max():.3f}"
        )
        yield {
            "label": NULL_WORDS.get(name, name) + (", centred" if centred else ""),
            "nre": f"{part.nre.mean():.3f}",
            "interval": interval,
            "fit": f"{part.nre_fit.mean():.3f}",
            "determinant": ", ".join(sorted({f"{sign:+.0f}" for sign in np.sign(part.determinant.dropna())})) or "–",
        }  # fmt: skip


STATISTICS = {
    "nre": "normalised error",
    "encoder_r": "mean r of what A’s encoders read",
    "encoder_share": "share of them at the threshold",
}


def _tests(tests: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """What needs no training, against Haar draws and against maps fitted on shuffled tokens."""
    if tests.empty:
        return
    rows = tests[tests.how == "post_hoc"]
    for (statistic, name, against), part in rows.groupby(
        ["statistic", "map", "against"], sort=False
    ):
        best = part.null_best.min() if statistic == "nre" else part.null_best.max()
        yield {
            "label": f"{STATISTICS.get(statistic, statistic)}, {NULL_WORDS.get(name, name)}",
            "against": NULL_WORDS.get(against, against),
            "value": _number(part.value.mean()),
            "null": f"{_number(part.null_mean.mean())} ± {_number(part.null_sd.mean())}",
            "best": _number(best),
            "draws": f"{part.draws.iloc[0]:.0f}",
            "p": _p_range(part.p.dropna()) if part.p.notna().any() else "–",
        }


def _replicated(tests: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """W less no map over starts, by statistic: of one pair its interval, of several their range."""
    if tests.empty:
        return
    rows = tests[tests.how == "replicated"].dropna(subset=["value"])
    for statistic, part in rows.groupby("statistic", sort=False):
        low, high = (
            (part.low.iloc[0], part.high.iloc[0])
            if len(part) == 1
            else (part.value.min(), part.value.max())
        )
        head = {**COLUMNS, "mean_r": Column("mean r", "")}.get(statistic)
        yield {
            "label": str(statistic).replace("_", " ") if head is None else head.head,
            "value": _signed(statistic, part.value.mean()),
            "interval": f"{_signed(statistic, low)} to {_signed(statistic, high)}",
            "noise": _signed(statistic, part.null_sd.mean()).removeprefix("+"),
            "p": _p_range(part.p),
        }


def _signed(statistic: str, value: float) -> str:
    """A difference: of counts in latents, of shares in points."""
    if statistic == COUNT:
        return f"{value:+.1f}"
    return f"{100 * value:+.1f}" if statistic == SHARE else f"{value:+.3f}"


def _number(value: float) -> str:
    return "–" if pd.isna(value) else f"{value:.3f}"


DRAWS = {
    "published": "the published maps",
    "all": "all maps",
    "no random": "all but random rotations",
}


def regression(tables: t.Tables) -> list[str]:
    """What the error of a map says of the universal latents it gives."""
    rows = tables.joint_regression
    rows = rows[rows["scope"] == "all"]
    if rows.empty:
        return []
    points = dict(zip(rows.draws, rows.points, strict=True))
    if points.get("published") == points.get("all"):
        rows = rows[rows.draws != "all"]
    sentences = []
    for row in rows.itertuples():
        interval = (
            ""
            if pd.isna(row.slope_low)
            else f" ({row.slope_low:.2f} to {row.slope_high:.2f} over pairs)"
        )
        sentences.append(
            f"Over {row.points} retrainings of {pairs_in_words(row.pairs)} with {DRAWS[row.draws]}, universal latents go with 1 less "
            f"the error of the map by r = {row.slope:.2f}{interval}, R² = {row.r2:.2f}."
        )
    if 2 * points.get("no random", 0) < points.get("all", 0):
        sentences.append(
            "Random rotations are most of the points and lie in one place, so that with them R² is mostly the contrast of "
            "two groups."
        )
    sentences.append(
        "Retrainings of a pair are no independent points; the published p takes them as such."
    )
    return sentences
