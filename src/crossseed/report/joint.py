"""What the page says of SAEs that two models share: conditions, maps, sample size, and edited sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossseed.metrics import estimate, resample_weights
from crossseed.report import tables as t
from crossseed.seeding import generator

ROW = ["condition", "init", "lambda_cross"]
# Conditions in the order of the table, and what they are.
WORDS = {
    "1": "1: SAEs apart, equal index",
    "2": "2: SAEs apart, matched",
    "3": "3: SAEs apart, B rotated, matched",
    "3'": "3′: A’s SAE on both, B rotated",
    "4": "4: one SAE, no map",
    "5": "5: one SAE, W",
    "6": "6: one SAE, W, cross loss",
    "crosscoder": "BatchTopK crosscoder",
    "mutual": "SAEs drawn to each other, matched",
    "universal": "universal SAE",
    "ridge": "one SAE, linear map, cross loss",
}
STARTS = {"shared": "one start", "distinct": "own starts", "": ""}
# `eval` itself: in sample.
MATCHINGS = {"eval": "matched in sample", "train": "matched on train", "fit": "", "index": ""}
IN_SAMPLE = "eval"
SHARE, COUNT = "universal_share", "universal"
LEVEL = 0.05
# Draws of pairs behind the interval of a difference.
RESAMPLES = 999


class Column(NamedTuple):
    """How a measure is written: its head, its format, and by what it is multiplied."""

    head: str
    form: str
    scale: float = 1.0


COLUMNS = {
    COUNT: Column("universal latents", ".0f"),
    SHARE: Column("of active ones, %", ".1f", 100),
    "active": Column("active latents", ".0f"),
    "dead_share": Column("dead, %", ".1f", 100),
    "accuracy_change": Column("accuracy lost, points", "+.2f"),
    "accuracy_change_from_independent": Column("lost against condition 1, points", "+.2f"),
    "l0": Column("L0", ".1f"),
    "fvu": Column("FVU", ".3f"),
    "kl": Column("KL, nats", ".4f"),
    "cosine": Column("mean |cosine|", ".3f"),
}
# Under these nothing is correlated, so that rows and matching do not matter.
OF_NO_ROWS = (
    "accuracy_change",
    "accuracy_change_from_independent",
    "l0",
    "fvu",
    "kl",
    "cosine",
)
NULL_WORDS = {
    "identity": "no map",
    "true": "W",
    "mismatched": "W of shuffled tokens",
    "partial": "W of partly shuffled tokens",
    "top": "W on leading directions alone",
    "random": "random rotations",
    "ridge": "linear map",
    "permutation": "permutation",
}


def text(column: pd.Series) -> pd.Series:
    """A column as text: an empty cell is read as missing, and condition 4 as a number where none has a letter."""
    return column.map(
        lambda value: (
            "" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
        )
    )


def read(table: pd.DataFrame) -> pd.DataFrame:
    """A table with its words as text."""
    words = [name for name in ("condition", "init", "rows", "matched_on") if name in table]
    return table.assign(**{name: text(table[name]) for name in words})


def tops(rows: pd.DataFrame) -> dict[str, Column]:
    """The Top-N r that a table has, ascending."""
    numbers = sorted(
        int(name[3:-2])
        for name in rows.measure.unique()
        if name.startswith("top") and name.endswith("_r")
    )
    return {f"top{n}_r": Column(f"Top-{n} r", ".2f") for n in numbers}


def of_run(tables: t.Tables, edited: Sequence[str]) -> dict[str, Any]:
    """The section on joint SAEs; empty without them.

    Args:
        edited: cohorts whose latents are tried on edited sentences.
    """
    if tables.joint_pooled.empty:
        return {}
    pooled = read(tables.joint_pooled)
    single = read(tables.joint_conditions)
    cohorts = [
        of_cohort(tables, pooled[pooled.cohort == cohort], single[single.cohort == cohort], edited)
        for cohort in pooled.cohort.unique()
    ]
    return {
        "cohorts": cohorts,
        "regression": regression(tables),
        "features": features(tables),
    }


def of_cohort(
    tables: t.Tables, pooled: pd.DataFrame, single: pd.DataFrame, edited: Sequence[str]
) -> dict[str, Any]:
    """All that is said of one cohort; with several sites or checkpoints of each."""
    cohort = str(pooled.cohort.iloc[0])
    parts = []
    for (checkpoint, site), rows in pooled.groupby(["checkpoint", "site"], sort=False):
        of = single[(single.checkpoint == checkpoint) & (single.site == site)]
        heads = {**tops(rows), **COLUMNS}
        heads = {key: head for key, head in heads.items() if key in set(rows.measure)}
        parts.append(
            {
                "where": f"{checkpoint}, {site}",
                "pairs": int(rows.pairs.max()),
                "heads": [head.head for head in heads.values()],
                "tables": [
                    (word, list(_lines(rows, of, heads, kind)))
                    for kind, word in (
                        ("tokens", "per token"),
                        ("texts", "means over a text’s tokens"),
                    )
                    if kind in set(rows.rows)
                ],
                "sentences": [*reading(rows, of), *_baselines(rows), *_behaviour(rows)],
                "nulls": nulls(tables, cohort, checkpoint, site),
                "sizes": sizes(tables, cohort, checkpoint, site),
                "edits": edits(tables, cohort, checkpoint, site) if cohort in edited else {},
            }
        )
    kind = str(pooled.kind_of_seed.iloc[0])
    return {
        "name": cohort,
        "data": str(pooled["data"].iloc[0]),
        "kind": "" if kind == "nan" else kind,
        "parts": parts,
    }


# --- conditions ---------------------------------------------------------------------------


def label(condition: str, init: str, lambda_cross: float, matched_on: str, grid: bool) -> str:
    """A row of the table, in words."""
    parts = [WORDS.get(condition, condition), STARTS.get(init, init)]
    parts += [f"λ {lambda_cross:g}"] if grid else []
    parts += [MATCHINGS.get(matched_on, matched_on)]
    return ", ".join(part for part in parts if part)


def _lines(
    rows: pd.DataFrame, single: pd.DataFrame, heads: Mapping[str, Column], kind: str
) -> Iterator[dict[str, Any]]:
    """A line for each condition, start, weight and matching."""
    scored = rows[rows.rows == kind]
    weights = scored[scored.condition == "6"].lambda_cross.nunique()
    for key, part in scored.groupby([*ROW, "matched_on"], sort=False):
        condition, init, weight, matched_on = key
        same = _same(rows, condition, init, weight)
        own = {**_by_measure(same[same.rows == ""]), **_by_measure(part)}
        one = _same(single, condition, init, weight)
        alone = {
            **_by_measure(one[one.rows == ""]),
            **_by_measure(one[(one.rows == kind) & (one.matched_on == matched_on)]),
        }
        yield {
            "label": label(condition, init, weight, matched_on, condition == "6" and weights > 1),
            "cells": [
                _cell(own.get(name), alone.get(name), head, _fewer(name, own))
                for name, head in heads.items()
            ],
        }


def _fewer(name: str, by_measure: Mapping[str, Any]) -> list[str]:
    """How many latents a Top-N r is of, where fewer than N are active."""
    used = by_measure.get(name.replace("_r", "_used")) if name.startswith("top") else None
    if used is None or used.mean >= int(name[3:-2]):
        return []
    return [f"of {used.mean:.3g} latents"]


def _same(rows: pd.DataFrame, condition: str, init: str, weight: float) -> pd.DataFrame:
    return rows[(rows.condition == condition) & (rows.init == init) & (rows.lambda_cross == weight)]


def _by_measure(rows: pd.DataFrame) -> dict[str, Any]:
    return {row.measure: row for row in rows.itertuples()}


def _cell(row: Any, alone: Any, head: Column, notes: Sequence[str]) -> dict[str, str]:
    """Mean and standard deviation over pairs, their interval, and the null; of one pair, the interval over texts."""
    if row is None or pd.isna(row.mean):
        return {"value": "–", "more": ""}

    def said(value: float) -> str:
        return format(head.scale * value, head.form)

    value = said(row.mean)
    if row.pairs > 1 and not pd.isna(row.sd):
        value += f" ± {format(head.scale * row.sd, head.form.removeprefix('+'))}"
    low, high = row.low, row.high
    if row.pairs == 1 and alone is not None:
        low, high = alone.low, alone.high
    more = [] if pd.isna(low) else [f"{said(low)} to {said(high)}"]
    more += [] if pd.isna(row.null) else [f"null {said(row.null)}"]
    return {"value": value, "more": "; ".join([*more, *notes])}


class Chosen(NamedTuple):
    """The rows that sentences are about: of several starts their own, matched on other sentences."""

    condition: str
    init: str
    lambda_cross: float
    matched_on: str


def chosen(rows: pd.DataFrame, condition: str) -> Chosen | None:
    """Which row stands for a condition; None where it was not run."""
    of = rows[(rows.condition == condition) & (rows.rows == "tokens")]
    if of.empty:
        return None
    init = "distinct" if "distinct" in set(of.init) else str(of.init.iloc[0])
    of = of[of.init == init]
    # The run's own weight comes before those of the grid.
    weight = float(of.lambda_cross.iloc[0])
    on = next(
        (split for split in ("index", "fit", "train", "eval") if split in set(of.matched_on)), ""
    )
    return Chosen(condition, init, weight, on)


def value_of(rows: pd.DataFrame, of: Chosen | None, measure: str, column: str = "mean") -> float:
    """A pooled value; NaN without it."""
    if of is None:
        return float("nan")
    part = _same(rows, of.condition, of.init, of.lambda_cross)
    part = part[part.measure == measure]
    if measure not in OF_NO_ROWS and not measure.startswith("accuracy"):
        part = part[(part.rows == "tokens") & (part.matched_on == of.matched_on)]
    return float(part[column].iloc[0]) if len(part) else float("nan")


def difference(single: pd.DataFrame, first: Chosen, second: Chosen, measure: str) -> Any:
    """A measure of one condition less that of another, mean over pairs with its interval over these (none of one pair)."""

    def of(which: Chosen) -> pd.Series:
        part = _same(single, which.condition, which.init, which.lambda_cross)
        part = part[part.measure == measure]
        part = part[(part.rows == "tokens") & (part.matched_on == which.matched_on)]
        return part.set_index(["source_seed", "target_seed"]).value

    both = (of(first) - of(second)).dropna().to_numpy(float)
    if not len(both):
        return estimate(np.array([np.nan]))
    rng = generator("joint-page", first.condition, second.condition, measure)
    weights = resample_weights(rng, len(both), RESAMPLES if len(both) > 1 else 0)
    return estimate((weights @ both) / len(both))


def _points(found: Any) -> str:
    """A difference of shares, in points."""
    interval = (
        "" if np.isnan(found.low) else f" ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
    )
    return f"{100 * found.value:+.1f}{interval}"


def reading(rows: pd.DataFrame, single: pd.DataFrame) -> list[str]:
    """How much of the agreement is joint training, W, and the cross loss, and what chance gives."""
    of = {name: chosen(rows, name) for name in WORDS}
    shares = {name: value_of(rows, which, SHARE) for name, which in of.items()}
    steps = {
        "2": "for SAEs trained apart and matched",
        "4": "for one SAE without a map",
        "5": "with W",
        "6": "with W and the cross loss",
    }
    apart = of["2"]
    if apart is not None and apart.init == "distinct":
        steps["2"] += " with starts of their own"
    known = {name: words for name, words in steps.items() if not np.isnan(shares[name])}
    if not known:
        return []
    shifted = [value_of(rows, of[name], SHARE, "null") for name in known]
    sentences = [
        "Share of active latents that are universal: "
        + ", ".join(f"{100 * shares[name]:.1f} % {words}" for name, words in known.items())
        + f"; with one model’s tokens shifted {100 * max(shifted):.1f} % at most."
    ]
    gains = []
    for name, before, words in (
        ("4", "2", "training one SAE for both models"),
        ("5", "4", "W"),
        ("6", "5", "the cross loss"),
    ):
        first, second = of[name], of[before]
        if first is not None and second is not None:
            found = difference(single, first, second, SHARE)
            if not np.isnan(found.value):
                gains.append((words, found))
    if gains:
        sentences.append(
            f"So {', '.join(f'{words} adds {_points(found)}' for words, found in gains)} points"
            + (_largest(gains) if len(gains) > 1 else "")
            + "."
        )
    joint = of["4"]
    if joint is not None and apart is not None and apart.init == "distinct":
        found = difference(single, joint, apart._replace(init="shared"), SHARE)
        if not np.isnan(found.value):
            sentences.append(
                f"Against SAEs that share a start, as the study’s do, training one SAE adds {_points(found)}."
            )
    counts = {name: value_of(rows, of[name], COUNT) for name in known}
    active = {name: value_of(rows, of[name], "active") for name in known}
    if len(known) > 1:
        sentences.append(
            "A share rises too where fewer latents are active: in the same order "
            + ", ".join(f"{counts[name]:.0f} of {active[name]:.0f}" for name in known)
            + "."
        )
    return sentences + _of_apart(rows, of, shares)


def _largest(gains: list[tuple[str, Any]]) -> str:
    words, found = max(gains, key=lambda gain: gain[1].value)
    total = sum(gain.value for _, gain in gains)
    # With a loss among them they are no shares of a whole.
    if total < LEVEL or min(gain.value for _, gain in gains) < 0:
        return ""
    said = f": of {100 * total:.1f} points in all, {words} is {100 * found.value / total:.0f} %"
    return (
        said if np.isnan(found.low) or found.low > 0 else f"{said}, of which the interval covers 0"
    )


def _of_apart(
    rows: pd.DataFrame, of: Mapping[str, Chosen | None], shares: Mapping[str, float]
) -> list[str]:
    """What SAEs trained apart say: the start, matching in sample, and W without joint training."""
    sentences = []
    index = of["1"]
    if index is not None and index.init == "distinct":
        shared = value_of(rows, index._replace(init="shared"), SHARE)
        if not np.isnan(shared):
            sentences.append(
                f"Latents of equal index agree in {100 * shares['1']:.1f} % where SAEs have starts of their own, in "
                f"{100 * shared:.1f} % where they share one."
            )
    pair = of["2"]
    if pair is not None and pair.matched_on != IN_SAMPLE:
        in_sample = pair._replace(matched_on=IN_SAMPLE)
        inside, null = (value_of(rows, in_sample, SHARE, column) for column in ("mean", "null"))
        if not np.isnan(inside):
            sentences.append(
                f"Matched in sample, on the very tokens that are scored, condition 2 would have {100 * inside:.1f} %; matched "
                f"and scored on shifted tokens, {100 * null:.1f} %."
            )
    moved = [
        f"{100 * shares[name]:.1f} % {words}"
        for name, words in (
            ("3", "where B’s SAE reads what W carries over, an input it never saw"),
            ("3'", "where A’s SAE does"),
        )
        if not np.isnan(shares[name])
    ]
    if moved:
        sentences.append(f"W without joint training: {', '.join(moved)}.")
    return sentences


def _baselines(rows: pd.DataFrame) -> list[str]:
    """What the study omits, beside its full pipeline."""
    words = {
        "ridge": "a linear map in place of W",
        "crosscoder": "a BatchTopK crosscoder",
        "mutual": "two SAEs drawn to each other",
        "universal": "a universal SAE",
    }
    found = {}
    for name in words:
        share = value_of(rows, chosen(rows, name), SHARE)
        if not np.isnan(share):
            found[name] = share
    if not found:
        return []
    own = value_of(rows, chosen(rows, "6"), SHARE)
    said = ", ".join(f"{words[name]} {100 * share:.1f} %" for name, share in found.items())
    beside = "" if np.isnan(own) else f" (condition 6: {100 * own:.1f} %)"
    # Trained on both together: what it makes of one model's activations is another input.
    note = (
        " A crosscoder is trained on both models’ activations side by side and has one code for both. To correlate it is given "
        "one model’s at a time, at twice their weight, with zeros for the other’s: an input that it never saw. Its L0, FVU, KL "
        "and accuracy are of both together."
        if "crosscoder" in found
        else ""
    )
    return [f"Baselines that the study omits: {said}{beside}.{note}"]


def _behaviour(rows: pd.DataFrame) -> list[str]:
    said = []
    for name in ("1", "4", "5", "6"):
        change = value_of(rows, chosen(rows, name), "accuracy_change")
        if not np.isnan(change):
            said.append(f"{change:+.2f} in condition {name}")
    if not said:
        return []
    clean = value_of(
        rows,
        next(of for name in ("1", "4", "5", "6") if (of := chosen(rows, name)) is not None),
        "accuracy_clean",
    )
    return [
        f"With the SAE in their passes models lose, of {clean:.1f} % accuracy, in points {', '.join(said)} (below 0: a gain)."
    ]


# --- maps ---------------------------------------------------------------------------------


def _at(table: pd.DataFrame, cohort: str, checkpoint: str, site: str) -> pd.DataFrame:
    if table.empty:
        return table
    return table[(table.cohort == cohort) & (table.checkpoint == checkpoint) & (table.site == site)]


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
    rows = _at(tables.joint_nulls, cohort, checkpoint, site)
    tests = _at(tables.joint_tests, cohort, checkpoint, site)
    fits = _at(tables.joint_fits, cohort, checkpoint, site)
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
            f"{said}: it gives more universal latents in {more} of {_pairs(len(by_pair))}, of one retraining with each; by how "
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
        f"latents ({spread}); the interval over starts lies above 0 in {above} of {_pairs(known)}. Two retrainings with one "
        f"map differ by {rows.null_sd.mean():.1f} (standard deviation)."
    )


def _pairs(n: int) -> str:
    return f"{n} pair{'s' if n != 1 else ''}"


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
        f"In {silent} of {_pairs(len(by_pair))} no latent of A’s own SAE fires on enough tokens, so that nothing is said of what "
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
            f"Over {row.points} retrainings of {_pairs(row.pairs)} with {DRAWS[row.draws]}, universal latents go with 1 less "
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


# --- sample size --------------------------------------------------------------------------


def sizes(tables: t.Tables, cohort: str, checkpoint: str, site: str) -> dict[str, Any]:
    """How many sequences decide W, and which part of it; empty without that."""
    curve = _at(tables.joint_sizes, cohort, checkpoint, site)
    halves = _at(tables.joint_halves, cohort, checkpoint, site)
    if curve.empty:
        return {}
    lines = []
    for row in halves.itertuples():
        lines.append(
            {
                "label": f"{row.source_seed}, {row.target_seed}",
                "cells": [
                    f"{row.sequences:.0f}",
                    f"{row.tokens:.0f}",
                    f"{row.sd:.3f}",
                    *(
                        f"{distance:.2f}; {chance:.2f}; {_of_random(share)}"
                        for distance, chance, share in (
                            (row.mean, row.null_mean, row.of_random),
                            (row.inside_mean, row.null_inside, row.inside_of_random),
                            (row.outside_mean, row.null_outside, row.outside_of_random),
                        )
                    ),
                    f"{row.k95:.0f}, {row.k99:.0f}",
                    f"{row.k95_squared:.0f}, {row.k99_squared:.0f}",
                ],
            }
        )
    sentences = [_flat_sentence(curve), _curve_sentence(curve, halves)]
    if len(halves):
        sentences.append(
            "Distance of W’s of two halves of the fitted sequences: "
            + _apart(halves, ("mean", "null_mean", "of_random"), "_mean")
            + f"; over splits its standard deviation is {halves.sd.median():.3f}. A small spread says that halves agree on how "
            "far apart they are, not that they are near."
        )
    return {
        "sentences": sentences,
        "heads": [
            *("sequences", "tokens", "sd over splits"),
            "distance of halves; of wrongly paired tokens’; % of random rotations’",
            *("the same within k99", "outside", "k95, k99", "of squares"),
        ],
        "halves": lines,
    }


def _of_random(share: float) -> str:
    """A distance, in per cent of that of two random rotations; none where k99 leaves nothing outside."""
    return "–" if pd.isna(share) else f"{100 * share:.0f}"


def _flat_sentence(curve: pd.DataFrame) -> str:
    by_pair = curve.sort_values("sequences").groupby(["source_seed", "target_seed"])
    flat = [start for _, pair in by_pair if (start := _flat_from(pair)) is not None]
    if not flat:
        return "Held-out error still falls by more than 1 % a doubling at the last size."
    first = f"{min(flat)}" if min(flat) == max(flat) else f"{min(flat)} to {max(flat)}, by pair,"
    return (
        f"From {first} sequences on every doubling that was measured lowers held-out error by less than 1 % "
        f"({len(flat)} of {_pairs(len(by_pair))})."
    )


def _curve_sentence(curve: pd.DataFrame, halves: pd.DataFrame) -> str:
    """How near W is to W of all sequences, at the size that is next to what it is fitted on."""
    wanted = halves.sequences.median() if len(halves) else curve.sequences.max()
    size = min(curve.sequences.unique(), key=lambda n: abs(np.log(n / wanted)))
    rows = curve[curve.sequences == size]
    return (
        f"Distance of W of {size:.0f} sequences to W of all: "
        + _apart(rows, ("distance", "null_distance", "distance_of_random"), "")
        + f". Its held-out error is {rows.nre.median():.3f}, that of W of as many wrongly paired tokens "
        f"{rows.null_nre.median():.3f}."
    )


def _apart(rows: pd.DataFrame, whole: tuple[str, str, str], suffix: str) -> str:
    """Distances, in whole and by directions, beside those of W’s of wrongly paired tokens and of random rotations."""
    parts = {"in whole": whole}
    for name, words in (
        ("inside", "within the directions that hold 99 % of the singular values"),
        ("outside", "outside these"),
    ):
        parts[words] = (f"{name}{suffix}", f"null_{name}", f"{name}_of_random")
    said = [
        f"{words} {rows[own].median():.2f} (W’s of wrongly paired tokens {rows[null].median():.2f}; "
        f"{_of_random(rows[share].median())} % of random rotations’)"
        for words, (own, null, share) in parts.items()
    ]
    return ", ".join(said)


def _flat_from(pair: pd.DataFrame) -> int | None:
    """The least size from which on every doubling gains little; None without one."""
    known = pair.dropna(subset=["flat"])
    steep = known[known.flat == 0].sequences.max()
    rest = known if pd.isna(steep) else known[known.sequences > steep]
    return int(rest.sequences.min()) if len(rest) else None


# --- edited sentences ---------------------------------------------------------------------


def edits(tables: t.Tables, cohort: str, checkpoint: str, site: str) -> dict[str, Any]:
    """What edits of sentences do to latents of a cohort that is tried on them."""
    rows = _at(tables.joint_counterfactuals, cohort, checkpoint, site)
    if rows.empty:
        none = "No latent that fires in both models tells a class from which an edit starts, so that none is tried."
        return {"sentences": [none], "rows": []}
    return {"sentences": _edit_sentences(rows), "rows": list(_edit_lines(rows))}


def changing(rows: pd.DataFrame) -> pd.Series:
    """Which edits change the class; the others are a placebo."""
    found: pd.Series = rows["class"] != rows.after
    return found


PAIR_KEYS = ["cohort", "source_seed", "target_seed", "checkpoint", "site"]


def feature_name(row: Any) -> str:
    """The file of a latent's page."""
    site = str(row.site).replace(".", "-")
    return f"{row.cohort}-{row.source_seed}-{row.target_seed}-{row.checkpoint}-{site}-{row.latent}.html"


def _edit_lines(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Edits that change the class first, then the others."""
    changes = changing(rows)
    for row in pd.concat([rows[changes], rows[~changes]]).itertuples():
        edit = str(row.edit).replace("_", " ")
        yield {
            "file": f"features/{feature_name(row)}",
            "latent": row.latent,
            "pair": f"{row.source_seed}, {row.target_seed}",
            "class": rows.loc[row.Index, "class"],
            "r": f"{row.r:.2f}",
            "edit": edit + (f" (to {row.after})" if changes[row.Index] else " (placebo)"),
            "model": str(row.model).upper(),
            "sentences": f"{row.items:.0f} in {row.groups:.0f}"
            + (f" ({row.silent:.0f} silent)" if row.silent else ""),
            "effect": _percent(row.effect, row.effect_low, row.effect_high),
            "control": _percent(row.control, row.control_low, row.control_high),
            "difference": _percent(row.difference, row.difference_low, row.difference_high),
            "signs": f"{row.groups_lower:.0f} : {row.groups_higher:.0f}",
            "p": f"{row.p:.2g}",
            "holm": f"{row.p_holm:.2g}",
        }


def _percent(value: float, low: float, high: float) -> str:
    if pd.isna(value):
        return "–"
    interval = "" if pd.isna(low) else f" ({100 * low:+.0f} to {100 * high:+.0f})"
    return f"{100 * value:+.0f}{interval}"


def _edit_sentences(rows: pd.DataFrame) -> list[str]:
    """How many latents do what their class would have them do, beside neutral edits, and in both models."""
    known = rows.dropna(subset=["effect", "control"])
    if known.empty:
        return ["No sentence to be edited makes a chosen latent fire."]
    changes = changing(known)
    sentences = [
        _edit_sentence(part, words)
        for part, words in (
            (known[changes], "Edits that change the class"),
            (known[~changes], "A placebo, edits that leave the class,"),
        )
        if len(part)
    ]
    tested = known[changes]
    if len(tested):
        below, above = (
            tested[
                (tested.p_holm < LEVEL) & ((tested.groups_lower > tested.groups_higher) == lower)
            ]
            for lower in (True, False)
        )
        sentences.append(
            "Sentences of one template with one content word are no independent items: they count as one group, of which there "
            f"are {tested.groups.min():.0f} to {tested.groups.max():.0f} an edit. By the sign test over groups, corrected for "
            f"all edits of a pair that change the class, the peak falls more in {len(below)} of {len(tested)}, less in "
            f"{len(above)}; its p cannot be below {2.0 ** (1 - tested.groups.max()):.2g}."
        )
    by_model = known[changes].pivot_table(
        index=[*PAIR_KEYS, "class", "latent", "edit"], columns="model", values="effect"
    )
    by_model = by_model.dropna()
    if by_model.shape[1] == 2 and len(by_model) > 2:
        first, second = (by_model[name] for name in by_model.columns)
        if first.std() > 0 and second.std() > 0:
            sentences.append(
                f"Effects in A and in B correlate by {first.corr(second):.2f} over {len(by_model)} latents and edits that change "
                "the class."
            )
    return sentences


def _edit_sentence(rows: pd.DataFrame, words: str) -> str:
    known = rows.dropna(subset=["difference_low", "difference_high"])
    below, above = (known.difference_high < 0).sum(), (known.difference_low > 0).sum()
    return (
        f"{words} change the peak by {100 * rows.effect.median():+.0f} %, neutral edits of the same sentences by "
        f"{100 * rows.control.median():+.0f} %, a difference of {100 * rows.difference.median():+.0f} points (medians over "
        f"{len(rows)} latents, edits and models). Its interval over groups of sentences lies below 0 in {below}, above 0 in "
        f"{above}, of {len(known)} that have one."
    )


def features(tables: t.Tables) -> list[dict[str, Any]]:
    """A page a latent: the sentences of `eval` in which it peaks highest, in A and in B, and what edits do to it."""
    contexts = tables.joint_contexts
    effects = tables.joint_counterfactuals
    if contexts.empty:
        return []
    found = []
    for key, part in contexts.groupby([*PAIR_KEYS, "latent"], sort=False):
        same = effects
        for name, value in zip([*PAIR_KEYS, "latent"], key, strict=True):
            same = same[same[name] == value]
        one = next(part.itertuples())
        # A latent may be among those of several classes.
        part = part.drop_duplicates(["model", "rank"])
        found.append(
            {
                "file": feature_name(one),
                "latent": one.latent,
                "cohort": one.cohort,
                "where": f"seeds {one.source_seed} (A) and {one.target_seed} (B), {one.checkpoint}, {one.site}",
                "condition": WORDS.get(text(part.condition).iloc[0], str(one.condition)),
                "r": f"{one.r:.2f}",
                "universal": bool(one.universal),
                "tells": [
                    (name, f"{row.tells_a:.2f}", f"{row.tells_b:.2f}")
                    for name, row in (
                        (values["class"].iloc[0], next(values.itertuples()))
                        for _, values in same.groupby("class", sort=False)
                    )
                ],
                "models": [
                    (str(model).upper(), [_context(row) for row in rows.itertuples()])
                    for model, rows in part.groupby("model", sort=True)
                ],
                "edits": list(_edit_lines(same)),
            }
        )
    return found


def _context(row: Any) -> dict[str, Any]:
    before, token, after = marked(str(row.context), str(row.token))
    return {
        "peak": f"{row.peak:.2f}",
        "label": row.label,
        "before": before,
        "token": token,
        "after": after,
    }


def marked(context: str, token: str) -> tuple[str, str, str]:
    """A text before, at and after the token at which a latent peaks, where it stands in it as a word once; else the token
    is told apart from the text."""
    word = token.removeprefix("##")
    places = [i for i in range(len(context)) if context.startswith(word, i)]
    if word and len(places) == 1:
        at = places[0]
        return context[:at], word, context[at + len(word) :]
    return f"{context} (at ", token, ")"
