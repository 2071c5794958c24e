"""What the conditions of joint SAEs say, in sentences: what joint training, W and the cross loss add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossseed.metrics import estimate, resample_weights
from crossseed.report.joint.conditions import same_row
from crossseed.report.joint.vocabulary import COUNT, IN_SAMPLE, LEVEL, SHARE, WORDS
from crossseed.seeding import generator

# Draws of pairs behind the interval of a difference.
RESAMPLES = 999
# Under these nothing is correlated, so that rows and matching do not matter.
OF_NO_ROWS = (
    "accuracy_change",
    "accuracy_change_from_independent",
    "l0",
    "fvu",
    "kl",
    "cosine",
)


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
    part = same_row(rows, of.condition, of.init, of.lambda_cross)
    part = part[part.measure == measure]
    if measure not in OF_NO_ROWS and not measure.startswith("accuracy"):
        part = part[(part.rows == "tokens") & (part.matched_on == of.matched_on)]
    return float(part[column].iloc[0]) if len(part) else float("nan")


def difference(single: pd.DataFrame, first: Chosen, second: Chosen, measure: str) -> Any:
    """A measure of one condition less that of another, mean over pairs with its interval over these (none of one pair)."""

    def of(which: Chosen) -> pd.Series:
        part = same_row(single, which.condition, which.init, which.lambda_cross)
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


def baselines(rows: pd.DataFrame) -> list[str]:
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


def behaviour(rows: pd.DataFrame) -> list[str]:
    """How much accuracy models lose with the SAE in their passes."""
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
