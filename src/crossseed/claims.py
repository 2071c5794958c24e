"""Every published figure of a study beside what this run measures, and what its control does.

A row a figure of `resources/published/*.csv`: measured under the published protocol, measured
rigorously, and its null. The verdict is one of `VERDICTS`; a figure whose cohort or study is not in
the run says what it needs, never an empty pass.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from crossseed.errors import UserError

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
    "rigorous_low",
    "rigorous_high",
    "null",
    "null_low",
    "null_high",
    "verdict",
    "why",
    "printed",
)


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
        return self.low - self.tolerance <= value <= self.high + self.tolerance


Values = Callable[["Cells"], pd.Series]


class Wiring(NamedTuple):
    """How a claim is measured.

    Attributes:
        as_published: values under the published protocol, one a cell.
        rigorous: values measured as they should be.
        null: the same of the control.
        control: ``falls``: explained where the rigorous measurement is no better than its null;
            ``passes``: explained where the null itself meets the published figure;
            ``control_p``: explained where the control passes the same calibrated test; ``never``:
            the figure is itself a failure or a control.
        why: what the comparison shows, in a sentence.
    """

    as_published: Values
    rigorous: Values
    null: Values
    control: str
    why: str


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

    def of(self, table: str, **wanted: Any) -> pd.Series:
        """Values of a table's rows of pairs of different seeds at the claim's sites."""
        rows = self.tables.get(table, pd.DataFrame())
        if rows.empty:
            return pd.Series(dtype=float)
        rows = rows[(rows.cohort == self.cohort) & rows.site.isin(self.sites)]
        if "source_seed" in rows:
            rows = rows[rows.source_seed != rows.target_seed]
        value = str(wanted.pop("value", "value"))
        for name, what in wanted.items():
            column = rows[name.removesuffix("_")]
            rows = rows[column.isin(what) if isinstance(what, tuple) else column == what]
        return rows[value].dropna().astype(float)


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
    lambda c: c.of("fits", arm="procrustes", metric="rotation_distance"),
    lambda c: c.of("fits", arm=("random", "shuffled"), metric="rotation_distance"),
    "passes",
    "‖R − I‖² = 2d − 2 tr R: rotations fitted on shuffled tokens have it too",
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
        lambda c: c.of("ks", matrices=1, map_="procrustes", value="ks_published"),
        lambda c: c.of("ks", matrices=1, map_="procrustes", value="p"),
        lambda c: c.of("ks", matrices=1, map_="shuffled", value="p"),
        "control_p",
        "calibrated p: eigenphases repel each other, so that the textbook test never rejects",
    ),
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
    found = {part: getattr(wiring, part)(cells) for part in ("as_published", "rigorous", "null")}
    how = SUMMARY.get(name, "median")
    for part, values in found.items():
        if len(values):
            row[part] = float(values.agg(how))
            row[f"{part}_low"], row[f"{part}_high"] = float(values.min()), float(values.max())
    if found["as_published"].empty:
        return {**row, "why": "needs cells that this run does not have: sites, or dictionaries with "
                "a shared start"}  # fmt: skip
    row["why"] = wiring.why
    if not claim.met_by(row["as_published"]):
        return {**row, "verdict": FAILED}
    return {**row, "verdict": EXPLAINED if _explained(claim, wiring, row, found) else REPRODUCED}


def _explained(
    claim: Claim, wiring: Wiring, row: Mapping[str, Any], found: Mapping[str, pd.Series]
) -> bool:
    if found["null"].empty:
        return False
    if wiring.control == "passes":
        return claim.met_by(row["null"])
    if wiring.control == "control_p":
        return bool(row["null"] > ALPHA)
    if wiring.control == "falls" and len(found["rigorous"]):
        return bool(row["rigorous"] - row["null"] < NOTICEABLE)
    return False
