"""What a claim is, and the cells of a run that it is measured on."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from crossseed.dictionary_names import name_of, parts_of
from crossseed.errors import UserError
from crossseed.haar.study import ALL_SITES
from crossseed.stability import COLUMNS as STABILITY_COLUMNS

FIELDS = (
    *("claim", "quantity", "cohort", "site", "expansion"),
    *("low", "high", "tolerance", "printed"),
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
        """Whether a value lies in the printed range, within the tolerance."""
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
        null: the same of the control, or of several, of which the one counts that is highest (``falls``, ``stands``), or
            that comes closest to the published figure.
        control: ``falls``: explained where the rigorous measurement is no better than its null,
            by `NOTICEABLE` and beyond its interval over seeds;
            ``stands``: explained too where the rigorous measurement falls short of the published figure;
            ``passes``: explained where the null itself meets the published figure;
            ``leaves``: explained where the null does not: what it adds is what the figure shows;
            ``control_p``: not reproduced where the calibrated test rejects, explained where the
            control passes it too; ``never``: the figure is itself a failure or a control.
        why: what the comparison shows, in a sentence.
        needs: what a run without a value lacks.
        over: how cells are summarised, ``median``, or ``mean`` where that is what was printed.
        counts: the figure is a number of latents: what is noticeable of it is a share of the figure.
    """

    as_published: Values
    rigorous: Values
    null: Values | tuple[Values, ...]
    control: str
    why: str
    needs: str = "sites, or dictionaries with a shared start"
    over: str = "median"
    counts: bool = False


class Cells(NamedTuple):
    """The tables of a run, and which of their rows a claim is about.

    Attributes:
        tables: data frames by name. cohort: of the run. checkpoint: whose models are meant.
        sites: of the cohort, as the claim means. anchor: the member whose SAE seeds stand for the published.
        dictionary: the one that follows the published recipe.
    """

    tables: Mapping[str, pd.DataFrame]
    cohort: str
    checkpoint: str
    sites: Sequence[str]
    dictionary: str
    anchor: int = 0

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

    def own(self, table: str, **wanted: Any) -> pd.DataFrame:
        """Rows of a table about single members."""
        rows = self.tables.get(table, pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & (rows.checkpoint == self.checkpoint)]
        # Seeds are independent here: each is a model of its own.
        rows = rows.assign(source_seed=rows.seed, target_seed=rows.seed, site="model")
        return self._picked(rows, wanted)

    def between(self, table: str, **wanted: Any) -> pd.DataFrame:
        """Rows of a table about whole models, two or one with itself."""
        rows = self.tables.get(table, pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=SEED_VALUES)
        rows = rows[(rows.cohort == self.cohort) & (rows.checkpoint == self.checkpoint)]
        return self._picked(rows.assign(site="model"), wanted)

    def of_sae_seeds(self, dictionary: str, **wanted: Any) -> pd.DataFrame:
        """Rows of the stability table about two SAEs of the cohort's members; seeds are those of the SAEs."""
        rows = self._stable(dictionary)
        rows = rows[rows["first"].notna() & rows["second"].notna()]
        seeds = {
            f"{role}_seed": rows[name].astype(str).str.removeprefix("seed").astype(int)
            for role, name in (("source", "first"), ("target", "second"))
        }
        return self._picked(rows.assign(**seeds), wanted)

    def of_all_sae_seeds(self, dictionary: str, **wanted: Any) -> pd.DataFrame:
        """Rows of the stability table about all SAEs of a member; seeds are those of members."""
        rows = self._stable(dictionary)
        rows = rows[rows["first"].isna()]
        return self._picked(rows.assign(source_seed=rows.seed, target_seed=rows.seed), wanted)

    def _stable(self, dictionary: str) -> pd.DataFrame:
        rows = self.tables.get("stability", pd.DataFrame())
        if rows.empty:
            return pd.DataFrame(columns=[*STABILITY_COLUMNS, "source_seed", "target_seed"])
        rows = rows[(rows.cohort == self.cohort) & (rows.checkpoint == self.checkpoint)]
        rows = rows[rows.site.isin(self.sites) & (rows.dictionary == dictionary)]
        # Other members are there to be matched with the anchor.
        rows = rows[rows.seed == self.anchor]
        # Numbers of seeds are read as such where a column has nothing else.
        return rows.assign(part=rows.part.map(_word))

    @staticmethod
    def _picked(rows: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
        value = str(wanted.pop("value", "value"))
        for name, what in wanted.items():
            column = rows[name.removesuffix("_")]
            rows = rows[column.isna() if what == "" else column == what]
        found = rows[["site", "source_seed", "target_seed", value]].set_axis(SEED_VALUES, axis=1)
        return found.dropna().astype({"source_seed": int, "target_seed": int, "value": float})


def _word(part: Any) -> str:
    """What a quantity is about: a word, or a number without its decimals."""
    if isinstance(part, float):
        return "" if np.isnan(part) else f"{part:g}"
    return str(part)


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


def dictionary_of(claim: Claim, dictionary: str | None) -> str:
    """The dictionaries that a claim is about: the run's own, or those of its variant with the
    claim's expansion; empty where the run names none."""
    if dictionary is None:
        return ""
    variant, own = parts_of(dictionary)
    return name_of(variant, claim.expansion or own)


def less(values: Values, other: Values) -> Values:
    """Cell by cell, one quantity less another."""

    def difference(c: Cells) -> pd.DataFrame:
        keys = SEED_VALUES[:-1]
        both = values(c).merge(other(c), on=keys, suffixes=("", "_other"))
        return both.assign(value=both.value - both.value_other)[SEED_VALUES]

    return difference


def none(c: Cells) -> pd.DataFrame:
    """No value: of a quantity that has none."""
    return pd.DataFrame(columns=SEED_VALUES)
