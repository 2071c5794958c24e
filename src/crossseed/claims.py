"""Every published figure of a study beside what this run measures, and what its control does.

A row a figure of `resources/published/*.csv`: ``as_published`` is measured under the published
protocol (median, and range over pairs and sites), ``rigorous`` as it should be (with its 95 %
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
FIELDS = ("claim", "quantity", "cohort", "site", "low", "high", "tolerance", "printed")
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


SEED_VALUES = ["source_seed", "target_seed", "value"]


class Claim(NamedTuple):
    """One published figure, a value or a range.

    Attributes:
        claim: its name. quantity: in words.
        cohort: the study's name of the models. site: which of their sites.
        low, high: the range printed; equal for a single value.
        tolerance: how far beyond the range counts as the same.
        printed: where.
    """

    claim: str
    quantity: str
    cohort: str
    site: str
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
            ``control_p``: explained where the control passes the same calibrated test; ``never``:
            the figure is itself a failure or a control.
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
        tables: data frames by name. cohort: of the run. sites: of the cohort, as the claim means.
        dictionary: the one that follows the published recipe.
    """

    tables: Mapping[str, pd.DataFrame]
    cohort: str
    sites: Sequence[str]
    dictionary: str

    def of(self, table: str, **wanted: Any) -> pd.DataFrame:
        """Rows of a table about pairs of different seeds at the claim's sites: the seeds and the
        ``value``, or the column that is wanted as ``value``."""
        rows = self.tables.get(table, pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & rows.site.isin(self.sites)]
        rows = rows[rows.source_seed != rows.target_seed]
        return self._picked(rows, wanted)

    def pooled(self, **wanted: Any) -> pd.DataFrame:
        """Rows of the KS table about all sites and pairs of the cohort together."""
        rows = self.tables.get("ks", pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & (rows.site == ALL_SITES)]
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
            column = rows[name.removesuffix("_")]
            rows = rows[column.isin(what) if isinstance(what, tuple) else column == what]
        found = rows[["source_seed", "target_seed", value]].set_axis(SEED_VALUES, axis=1)
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
        "late": sites[-2:],
        "last": sites[-1:],
    }
    return list(words.get(site, [site] if site in sites else []))


def _published(quantity: str, init: str = "shared") -> Values:
    return lambda c: c.of("published", quantity=quantity, dictionary=c.dictionary, init=init)


def _of_rotation(quantity: str) -> Values:
    return lambda c: c.of("published", quantity=quantity)


def _transfer(arm: str | tuple[str, ...], metric: str, init: str = "independent") -> Values:
    return lambda c: c.of("transfer", arm=arm, metric=metric, dictionary=c.dictionary, init=init)


def _null_of_rule(metric: str) -> Values:
    return lambda c: c.of(
        "evidence", metric=metric, dictionary=c.dictionary, init="independent", value="null"
    )


def _distance(arm: str) -> Values:
    return lambda c: c.of("fits", arm=arm, metric="rotation_distance")


def _cosine(init: str, map_: str, value: str) -> Values:
    return lambda c: c.of(
        "decoder_cosine", init=init, map_=map_, dictionary=c.dictionary, value=value
    )


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
    _transfer("random", "ev"),
    "never",
    "a negative value says that means and scales differ too; a random rotation with matched means "
    "stands beside it",
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


def _firing(arm: str) -> Wiring:
    return Wiring(
        _published(f"firing_{arm}"),
        _transfer("procrustes" if arm == "rotated" else "raw", "firing_r"),
        _null_of_rule("firing_r"),
        "falls" if arm == "rotated" else "never",
        "latents that never fire are counted, not averaged in as 0; against the best map without "
        "pairing",
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
    lambda c: c.moved(arm="procrustes", metric="rotation_distance"),
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
    "raw-ev-worst": _RAW,
    "gaussian-ev": _GAUSSIAN,
    "rotated-ev": _ROTATED,
    "rotation-distance": _DISTANCE,
    "rotation-distance-mean": _DISTANCE,
    "firing-raw": _firing("raw"),
    "firing-rotated": _firing("rotated"),
    "cosine-mean": _COSINE_MEAN,
    "cosine-above": _COSINE_ABOVE,
    "cosine-above-last": _COSINE_ABOVE,
    "mean-cosine": Wiring(
        _of_rotation("mean_cosine"),
        lambda c: c.of("haar", map_="procrustes", statistic="trace_1", value="p"),
        lambda c: c.of("haar", map_="shuffled", statistic="trace_1", value="p"),
        "control_p",
        "the calibrated p of the trace, beside that of rotations fitted on shuffled tokens",
    ),
    "permutation-distance": Wiring(
        _of_rotation("permutation_distance"),
        lambda c: c.of(
            "haar", map_="procrustes", statistic="assignment", basis="neuron", value="p"
        ),
        lambda c: c.of("haar", map_="shuffled", statistic="assignment", basis="neuron", value="p"),
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
ALPHA = 0.05
# A measurement that exceeds its null by less is no better.
NOTICEABLE = 0.05
# What is worst or summed over cells, not their median.
SUMMARY: dict[str, str] = {"raw-ev-worst": "min"}


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
    wiring = WIRED.get(name)
    if cells is None or wiring is None:
        return {**row, "why": f"needs {missing or 'a study that this version does not have'}"}
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
        return {**row, "why": "needs its control, which no cell of this run has"}
    explained = _explained(claim, wiring, null.value, margin)
    return {**row, "verdict": EXPLAINED if explained else REPRODUCED}


def _explained(claim: Claim, wiring: Wiring, null: float, margin: Estimate) -> bool:
    """Whether the control accounts for a figure."""
    if wiring.control == "passes":
        return claim.met_by(null)
    if wiring.control == "control_p":
        return null > ALPHA
    if wiring.control == "falls":
        return margin.value < NOTICEABLE or margin.low <= 0
    return False
