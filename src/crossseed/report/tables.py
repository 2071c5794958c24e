"""The tables of a run as data frames, and the selections the report is made of."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

# At a site where raw activations align this well the two models compute the same thing.
SAME_ACTIVATIONS = 0.999
PAIR = ["cohort", "source_seed", "target_seed", "checkpoint", "site"]


class Tables(NamedTuple):
    """The joined tables of a run."""

    accuracy: pd.DataFrame
    training: pd.DataFrame
    dictionaries: pd.DataFrame
    transfer: pd.DataFrame
    decoder_cosine: pd.DataFrame


def read(folder: Path) -> Tables:
    return Tables(*(pd.read_csv(folder / f"{name}.csv") for name in Tables._fields))


def of_one_checkpoint(tables: Tables) -> Tables:
    """The rows of one checkpoint: `final`, or the last where that is not studied."""
    names = list(dict.fromkeys(tables.transfer.checkpoint))
    name = "final" if "final" in names else names[-1]
    found = {
        key: rows[rows.checkpoint == name] if "checkpoint" in rows else rows
        for key, rows in tables._asdict().items()
    }
    return Tables(**found)


def crossed(transfer: pd.DataFrame) -> pd.DataFrame:
    """Rows of pairs of different seeds."""
    return transfer[transfer.source_seed != transfer.target_seed]


def own(transfer: pd.DataFrame) -> pd.DataFrame:
    """Rows of members with themselves."""
    return transfer[transfer.source_seed == transfer.target_seed]


def same_sites(transfer: pd.DataFrame, cohort: str) -> set[str]:
    """Sites at which all pairs of a cohort have the same activations without any map."""
    rows = crossed(transfer)
    rows = rows[(rows.cohort == cohort) & (rows.arm == "raw") & (rows.metric == "alignment_ev")]
    lowest = rows.groupby("site").value.min()
    return set(lowest[lowest > SAME_ACTIVATIONS].index)


def values(
    transfer: pd.DataFrame, cohort: str, dictionary: str, metric: str, skip: set[str]
) -> dict[str, pd.Series]:
    """Values over pairs, sites and inits by arm, and ``self`` for members with themselves."""
    rows = transfer[
        (transfer.cohort == cohort)
        & (transfer.dictionary == dictionary)
        & (transfer.metric == metric)
        & ~transfer.site.isin(skip)
    ]
    between = crossed(rows)
    found = {str(arm): part.value.dropna() for arm, part in between.groupby("arm")}
    found["self"] = own(rows).value.dropna()
    return found
