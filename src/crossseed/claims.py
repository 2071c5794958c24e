"""Every published figure of a study beside what this run measures, and what its control does.

A row a figure of `resources/published/*.csv`: ``as_published`` is measured under the published
protocol (median, and range over pairs and sites; for drift, whose activations are never stored, with
maps fitted on other tokens), ``rigorous`` as it should be (with its 95 %
interval over seeds, ``low`` to ``high``), ``null`` is the same of its control, and ``margin`` how
far the rigorous measurement lies above it. The verdict is one of `VERDICTS`; a figure whose cohort
or study is not in the run says what it needs, never an empty pass.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossseed.alignment import ladder
from crossseed.claim_rule import ALPHA, NOTICEABLE
from crossseed.errors import UserError
from crossseed.haar.study import ALL_SITES
from crossseed.metrics import Estimate, estimate
from crossseed.over_seeds import resampled
from crossseed.seeding import generator

REPRODUCED = "reproduced"
EXPLAINED = "reproduced but explained by its control"
FAILED = "not reproduced"
NOT_RUN = "not run here"
VERDICTS = (REPRODUCED, EXPLAINED, FAILED, NOT_RUN)
FIELDS = (
    *("claim", "quantity", "cohort", "site", "expansion"),
    *("low", "high", "tolerance", "printed"),
)
COLUMNS = (
    "claim",
    "quantity",
    "cohort",
    "site",
    "published_low",
    "published_high",
    "tolerance",
    "as_published",
    "as_published_low",
    "as_published_high",
    "rigorous",
    "low",
    "high",
    "null",
    "margin",
    "margin_low",
    "margin_high",
    "cells",
    "verdict",
    "why",
    "printed",
)


SEED_VALUES = ["site", "source_seed", "target_seed", "value"]


class Claim(NamedTuple):
    """One published figure, a value or a range.

    Attributes:
        claim: its name. quantity: in words.
        cohort: the study's name of the models. site: which of their sites.
        expansion: of the dictionaries it is about; empty where it is about none, or about the run's.
        low, high: the range printed; equal for a single value.
        tolerance: how far beyond the range counts as the same.
        printed: where.
    """

    claim: str
    quantity: str
    cohort: str
    site: str
    expansion: str
    low: float
    high: float
    tolerance: float
    printed: str

    def met_by(self, value: float) -> bool:
        return self.away(value) <= self.tolerance

    def away(self, value: float) -> float:
        """How far a value lies outside the range printed."""
        return max(self.low - value, value - self.high, 0.0)


Values = Callable[["Cells"], pd.DataFrame]


class Wiring(NamedTuple):
    """How a claim is measured.

    Attributes:
        as_published: values under the published protocol, a row a cell, with its seeds.
        rigorous: values measured as they should be.
        null: the same of the control, or of several, of which the one counts that comes closest to
            the published figure.
        control: ``falls``: explained where the rigorous measurement is no better than its null,
            by `NOTICEABLE` and beyond its interval over seeds;
            ``passes``: explained where the null itself meets the published figure;
            ``leaves``: explained where the null does not: what it adds is what the figure shows;
            ``control_p``: not reproduced where the calibrated test rejects, explained where the
            control passes it too; ``never``: the figure is itself a failure or a control.
        why: what the comparison shows, in a sentence.
        needs: what a run without a value lacks.
    """

    as_published: Values
    rigorous: Values
    null: Values | tuple[Values, ...]
    control: str
    why: str
    needs: str = "sites, or dictionaries with a shared start"


class Cells(NamedTuple):
    """The tables of a run, and which of their rows a claim is about.

    Attributes:
        tables: data frames by name. cohort: of the run. checkpoint: whose models are meant.
        sites: of the cohort, as the claim means.
        dictionary: the one that follows the published recipe.
    """

    tables: Mapping[str, pd.DataFrame]
    cohort: str
    checkpoint: str
    sites: Sequence[str]
    dictionary: str

    def of(self, table: str, **wanted: Any) -> pd.DataFrame:
        """Rows of a table about pairs of different seeds at the claim's sites: the seeds and the
        ``value``, or the column that is wanted as ``value``."""
        rows = self.tables.get(table, pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & (rows.checkpoint == self.checkpoint)]
        rows = rows[rows.site.isin(self.sites) & (rows.source_seed != rows.target_seed)]
        return self._picked(rows, wanted)

    def pooled(self, **wanted: Any) -> pd.DataFrame:
        """Rows of the KS table about all sites and pairs of the cohort together."""
        rows = self.tables.get("ks", pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & (rows.checkpoint == self.checkpoint)]
        rows = rows[rows.site == ALL_SITES]
        return self._picked(rows.assign(source_seed=0, target_seed=0), wanted)

    def moved(self, **wanted: Any) -> pd.DataFrame:
        """Rows of the drift table about the last checkpoint beside the reference of its own seed."""
        rows = self.tables.get("drift", pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & rows.site.isin(self.sites)]
        rows = rows[rows.comparison == "checkpoint"]
        # Checkpoints stand in the order of training.
        rows = rows[rows.checkpoint == rows.checkpoint.iloc[-1]] if len(rows) else rows
        # Seeds are independent here: each is compared with itself.
        return self._picked(rows.assign(source_seed=rows.seed, target_seed=rows.seed), wanted)

    @staticmethod
    def _picked(rows: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
        value = str(wanted.pop("value", "value"))
        for name, what in wanted.items():
            rows = rows[rows[name.removesuffix("_")] == what]
        found = rows[["site", "source_seed", "target_seed", value]].set_axis(SEED_VALUES, axis=1)
        return found.dropna().astype({"source_seed": int, "target_seed": int, "value": float})


def read(path: Path) -> list[Claim]:
    """Published figures of a study.

    Raises:
        UserError: the file is missing, or a line is not as expected.
    """
    try:
        with open(path, newline="", encoding="utf-8") as handle:
            reader = csv.DictReader(handle)
            if tuple(reader.fieldnames or ()) != FIELDS:
                raise UserError(f"{path}: the header is {reader.fieldnames}, expected {FIELDS}")
            rows = list(reader)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            numbers = {key: float(row[key]) for key in ("low", "high", "tolerance")}
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{path}: line {number}: low, high and tolerance are numbers"
            ) from error
        found.append(Claim(**{**row, **numbers}))  # type: ignore[arg-type]
    return found


def chosen(site: str, sites: Sequence[str]) -> list[str]:
    """The sites of a cohort that a claim's word for them means, in the order of the forward pass."""
    words = {
        "all": sites,
        "input": sites[:1],
        "internal": sites[1:],
        "intermediate": sites[1:-1],
        "last": sites[-1:],
    }
    return list(words.get(site, [site] if site in sites else []))


def dictionary_of(claim: Claim, dictionary: str) -> str:
    """The dictionaries that a claim is about: the run's own, or those of its variant with the
    claim's expansion."""
    variant, _, own = dictionary.rpartition("-x")
    return f"{variant}-x{claim.expansion or own}"


def _published(quantity: str, init: str = "shared") -> Values:
    return lambda c: c.of("published", quantity=quantity, dictionary=c.dictionary, init=init)


def _of_rotation(quantity: str) -> Values:
    return lambda c: c.of("published", quantity=quantity)


def _transfer(arm: str, metric: str, init: str = "independent") -> Values:
    return lambda c: c.of("transfer", arm=arm, metric=metric, dictionary=c.dictionary, init=init)


def _null_of_rule(metric: str) -> Values:
    return lambda c: c.of(
        "evidence", metric=metric, dictionary=c.dictionary, init="independent", value="null"
    )


def _distance(arm: str) -> Values:
    return lambda c: c.of("fits", arm=arm, metric="rotation_distance")


def _alignment(arm: str) -> Values:
    return lambda c: c.of("fits", arm=arm, metric="alignment_ev")


def _cosine(init: str, map_: str, value: str) -> Values:
    return lambda c: c.of(
        "decoder_cosine", init=init, map_=map_, dictionary=c.dictionary, value=value
    )


def _haar_p(map_: str, statistic: str) -> Values:
    """Calibrated p in the neuron basis of the rotations that are decided wholly."""
    return lambda c: c.of(
        "haar", map_=map_, statistic=statistic, subspace="whole", basis="neuron", value="p"
    )


def _worst_site(values: Values) -> Values:
    """The cells of the site with the lowest mean."""

    def chosen_rows(c: Cells) -> pd.DataFrame:
        rows = values(c)
        if rows.empty:
            return rows
        return rows[rows.site == rows.groupby("site").value.mean().idxmin()]

    return chosen_rows


def _less(values: Values, other: Values) -> Values:
    """Cell by cell, one quantity less another."""

    def difference(c: Cells) -> pd.DataFrame:
        keys = SEED_VALUES[:-1]
        both = values(c).merge(other(c), on=keys, suffixes=("", "_other"))
        return both.assign(value=both.value - both.value_other)[SEED_VALUES]

    return difference


def _none(c: Cells) -> pd.DataFrame:
    return pd.DataFrame(columns=SEED_VALUES)


_ROTATED = Wiring(
    _published("ev_rotated"),
    _transfer("procrustes", "evx_3"),
    _null_of_rule("evx_3"),
    "falls",
    "explained variance of the carried activations rewards second moments; token by token, beyond "
    "three directions, against the best map without pairing",
)
_RAW = Wiring(
    _published("ev_raw"),
    _transfer("raw", "ev"),
    _transfer("mean", "ev"),
    "leaves",
    "raw activations lack the shift of the mean that rotated ones get: a shift alone stands beside them",
)
_RAW_WORST = Wiring(
    _worst_site(_published("ev_raw")),
    _worst_site(_transfer("raw", "ev")),
    _worst_site(_transfer("mean", "ev")),
    "leaves",
    _RAW.why,
    "dictionaries of that expansion",
)
_RAW_INPUT = Wiring(
    _less(_published("ev_raw"), _published("ev_self")),
    _less(_alignment("raw"), _alignment("procrustes")),
    _none,
    "never",
    "where embeddings are shared the activations are the same; beside it what the identity explains "
    "of them less what a rotation does",
)
_GAUSSIAN = Wiring(
    _published("ev_gaussian"),
    _transfer("gaussian", "ev"),
    _transfer("shuffled", "ev"),
    "never",
    "noise without any feature is reconstructed: the control that the study ran and did not apply",
)
_DISTANCE = Wiring(
    _published("rotation_distance"),
    _distance("procrustes"),
    tuple(_distance(arm) for arm in ("random", "shuffled", "covariance_random")),
    "passes",
    "‖R − I‖² = 2d − 2 tr R: a random rotation, one fitted on shuffled tokens or one that matches "
    "principal axes has it too",
)
_COSINE_MEAN = Wiring(
    _cosine("shared", "raw", "mean_max_cosine"),
    _cosine("independent", "rotated", "mean_max_cosine"),
    _cosine("independent", "rotated", "random_floor"),
    "falls",
    "SAEs of one initialisation keep their columns; with independent starts, rotated, against "
    "random directions",
)
_COSINE_ABOVE = _COSINE_MEAN._replace(
    as_published=_cosine("shared", "raw", "share_above_0.5"),
    rigorous=_cosine("independent", "rotated", "share_above_0.5"),
    null=_cosine("independent", "raw", "share_above_0.5"),
    why="SAEs of one initialisation keep their columns; with independent starts, rotated against raw",
)


def _firing(arm: str, published: str | None = None) -> Wiring:
    return Wiring(
        _published(f"firing_{published or arm}"),
        _transfer("procrustes" if arm == "rotated" else "raw", "firing_r"),
        _null_of_rule("firing_r"),
        "falls" if arm == "rotated" else "never",
        "latents that never fire are counted, not averaged in as 0; against the best map without "
        "pairing",
    )


def _firing_above(arm: str, published: str) -> Wiring:
    metric = "firing_r_above_0.5"
    return Wiring(
        _published(f"firing_{published}_above"),
        _transfer("procrustes" if arm == "rotated" else "raw", metric),
        tuple(_transfer(null, metric) for null in ladder.NULLS),
        "falls" if arm == "rotated" else "never",
        "a share of the live latents alone, against the map without pairing that comes closest",
    )


_FIRING_SELF = Wiring(
    _published("firing_self"),
    _none,
    _none,
    "never",
    "a latent that fires correlates fully with itself: what is missing from 1 are latents that never "
    "fire, averaged in as 0",
)
_KS_POOLED = Wiring(
    lambda c: c.pooled(map_="procrustes", value="ks_published"),
    lambda c: c.pooled(map_="procrustes", value="p"),
    lambda c: c.pooled(map_="shuffled", value="p"),
    "control_p",
    "calibrated p of the pool, of the rotations that are decided, as if sites of a pair were "
    "independent; beside that of rotations fitted on shuffled tokens",
    "a study of Haar measure",
)


def _drift_ev(published: str, arm: str, null: str, control: str) -> Wiring:
    def ev(arm: str, metric: str) -> Values:
        return lambda c: c.moved(arm=arm, metric=metric, dictionary=c.dictionary)

    return Wiring(
        ev(published, "ev_published"),
        ev(arm, "ev"),
        ev(null, "ev"),
        control,
        "maps fitted on other tokens than those measured; centred by dimension, against a rotation "
        "fitted on shuffled tokens",
        "drift of dictionaries of the early checkpoint",
    )


def _arbitrary(c: Cells) -> pd.DataFrame:
    """√(2(d − rank)): the distance from the identity of a rotation that is the identity wherever
    the activations decide it, and arbitrary elsewhere."""
    found = c.moved(arm="haar", metric="rotation_distance")
    rank = c.moved(arm="procrustes", metric="numerical_rank")
    # √(2d) is what a random rotation has.
    square = np.square(found.value.to_numpy()) - 2 * rank.value.to_numpy()
    return found.assign(value=np.sqrt(np.clip(square, 0, None)))


_DRIFT_DISTANCE = Wiring(
    lambda c: c.moved(arm="procrustes", metric="rotation_distance_published"),
    lambda c: c.moved(arm="procrustes", metric="rotation_distance_identified"),
    _arbitrary,
    "passes",
    "where activations do not span all dimensions the rest of R is arbitrary, and has a distance "
    "from the identity of its own; beside it the distance inside the identified directions",
    "drift from the early checkpoint",
)

# By the claim's name without the study's cohort.
WIRED: dict[str, Wiring] = {
    "raw-ev": _RAW,
    "raw-ev-worst": _RAW_WORST,
    "raw-ev-input": _RAW_INPUT,
    "gaussian-ev": _GAUSSIAN,
    "rotated-ev": _ROTATED,
    "rotation-distance": _DISTANCE,
    "rotation-distance-mean": _DISTANCE,
    "firing-self": _FIRING_SELF,
    "firing-raw": _firing("raw"),
    "firing-rotated": _firing("rotated"),
    # On the toy the study shifts no mean here, on Pythia it does.
    "pythia-firing-rotated": _firing("rotated", "rotated_shifted"),
    "firing-raw-above": _firing_above("raw", "raw"),
    "firing-rotated-above": _firing_above("rotated", "rotated_shifted"),
    "cosine-mean": _COSINE_MEAN,
    "cosine-above": _COSINE_ABOVE,
    "cosine-above-last": _COSINE_ABOVE,
    "mean-cosine": Wiring(
        _of_rotation("mean_cosine"),
        _haar_p("procrustes", "trace_1"),
        _haar_p("shuffled", "trace_1"),
        "control_p",
        "the calibrated p of the trace, beside that of rotations fitted on shuffled tokens",
    ),
    "permutation-distance": Wiring(
        _of_rotation("permutation_distance"),
        _haar_p("procrustes", "assignment"),
        _haar_p("shuffled", "assignment"),
        "control_p",
        "the calibrated p of the best assignment, beside that of rotations fitted on shuffled tokens",
    ),
    "ks": Wiring(
        _of_rotation("ks"),
        lambda c: c.of("ks", matrices=1, map_="procrustes", value="p"),
        lambda c: c.of("ks", matrices=1, map_="shuffled", value="p"),
        "control_p",
        "calibrated p: eigenphases repel each other, so that the textbook test never rejects",
    ),
    "ks-pooled": _KS_POOLED,
    "ks-pooled-p": _KS_POOLED._replace(
        as_published=lambda c: c.pooled(map_="procrustes", value="p_published"),
        null=lambda c: c.pooled(map_="shuffled", value="p_published"),
        control="passes",
        why="the textbook p of rotations fitted on shuffled tokens is the same",
    ),
    "drift-self-ev": _drift_ev("self", "self", "shuffled", "never"),
    "drift-raw-ev": _drift_ev("raw", "raw", "shuffled", "never"),
    "drift-rotated-ev": _drift_ev("procrustes", "procrustes", "shuffled", "falls"),
    "drift-distance": _DRIFT_DISTANCE,
    "drift-distance-input": _DRIFT_DISTANCE,
}
# What is not a median over cells.
SUMMARY: dict[str, str] = {"raw-ev-worst": "mean"}


# Studies of which no version measures anything yet, by how their claims' names begin.
ABSENT = {
    "steering": "a study of steering",
    "bar": "a study of the bars",
    "decoy": "a study of the bars",
    "ig": "a study of attribution",
    "attribution": "a study of attribution",
}


def name_of(claim: Claim) -> str:
    """The claim's name without its cohort: ``toy-independent-raw-ev`` is ``raw-ev``."""
    for prefix in (claim.cohort, claim.cohort.split("-")[0]):
        if claim.claim.startswith(f"{prefix}-"):
            return claim.claim.removeprefix(f"{prefix}-")
    return claim.claim


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
    if cells is None or wiring is None:
        absent = ABSENT.get(name.split("-")[0], "a study")
        return {**row, "why": f"needs {missing or absent + ', which this version does not have'}"}
    nulls = wiring.null if isinstance(wiring.null, tuple) else (wiring.null,)
    frames = [measure(cells) for measure in (wiring.as_published, wiring.rigorous, *nulls)]
    if frames[0].empty:
        return {**row, "why": "needs cells that this run does not have: " + wiring.needs}
    how = SUMMARY.get(name, "median")
    values = resampled(generator("claims", claim.claim), frames, how)
    closest = min(values[2:], key=lambda null: np.nan_to_num(claim.away(null[0]), nan=np.inf))
    as_published, rigorous, null = (estimate(v) for v in (values[0], values[1], closest))
    margin = estimate(values[1] - closest)
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
    if np.isnan(margin.value if wiring.control == "falls" else null.value):
        if wiring.control != "never":
            return {**row, "why": "needs its control, which no cell of this run has"}
    elif wiring.control == "control_p" and rigorous.value <= ALPHA:
        why = "the figure is the same, but the calibrated test rejects what it was taken to show"
        return {**row, "verdict": FAILED, "why": f"{why}; {wiring.why}"}
    if wiring.control == "falls" and np.isnan(margin.low):
        row["why"] += "; too few seeds for an interval"
    explained = _explained(claim, wiring, null.value, margin)
    return {**row, "verdict": EXPLAINED if explained else REPRODUCED}


def _explained(claim: Claim, wiring: Wiring, null: float, margin: Estimate) -> bool:
    """Whether the control accounts for a figure."""
    if wiring.control == "passes":
        return claim.met_by(null)
    if wiring.control == "leaves":
        return not claim.met_by(null)
    if wiring.control == "control_p":
        return null > ALPHA
    if wiring.control == "falls":
        return margin.value < NOTICEABLE or margin.low <= 0
    return False
