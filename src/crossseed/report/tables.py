"""The tables of a run as data frames, and the selections the report is made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from crossseed import keys
from crossseed.store import read_frame
from crossseed.tables import COLUMNS

# At a site where raw activations align this well the two models compute the same thing.
SAME_ACTIVATIONS = 0.999
# As lists, which is what pandas takes for several columns.
JOURNEY, PAIR = list(keys.JOURNEY), list(keys.PAIR)


class Tables(NamedTuple):
    """The joined tables of a run; one that the run does not make has no rows."""

    quality: pd.DataFrame
    training: pd.DataFrame
    dictionaries: pd.DataFrame
    fits: pd.DataFrame
    directions: pd.DataFrame
    transfer: pd.DataFrame
    evidence: pd.DataFrame
    splice: pd.DataFrame
    decoder_cosine: pd.DataFrame
    haar: pd.DataFrame
    ks: pd.DataFrame
    phases: pd.DataFrame
    cocycle: pd.DataFrame
    power: pd.DataFrame
    over_seeds: pd.DataFrame
    ports: pd.DataFrame
    steering: pd.DataFrame
    features: pd.DataFrame
    attribution: pd.DataFrame
    attribution_cells: pd.DataFrame
    stability: pd.DataFrame
    calibration: pd.DataFrame
    bridge: pd.DataFrame
    absorption: pd.DataFrame
    interpret: pd.DataFrame
    interpret_steps: pd.DataFrame
    weights: pd.DataFrame
    joint: pd.DataFrame
    causes: pd.DataFrame
    bars: pd.DataFrame
    lenses: pd.DataFrame
    joint_conditions: pd.DataFrame
    joint_latents: pd.DataFrame
    joint_training: pd.DataFrame
    joint_fits: pd.DataFrame
    joint_nulls: pd.DataFrame
    joint_tests: pd.DataFrame
    joint_sizes: pd.DataFrame
    joint_halves: pd.DataFrame
    joint_counterfactuals: pd.DataFrame
    joint_contexts: pd.DataFrame
    joint_pooled: pd.DataFrame
    joint_regression: pd.DataFrame
    drift: pd.DataFrame
    published: pd.DataFrame
    claims: pd.DataFrame


def read(folder: Path, made: Sequence[str]) -> Tables:
    """The tables `made` by the run."""
    found = {
        name: read_frame(folder / f"{name}.csv", columns)
        if name in made
        else pd.DataFrame(columns=columns)
        for name, columns in COLUMNS.items()
    }
    return Tables(**found)


COMPARED = ("drift", "stability", "interpret", "interpret_steps")


def of_one_checkpoint(tables: Tables) -> Tables:
    """The rows of one checkpoint: `final`, or the last where that is not studied.

    Tables that compare checkpoints keep them all: drift, and stability with the interpretability of its latents, whose null is the
    untrained model.
    """
    studied = tables.dictionaries if len(tables.dictionaries) else tables.joint_conditions
    names = list(dict.fromkeys(studied.checkpoint))
    if not names:
        return tables
    name = "final" if "final" in names else names[-1]
    found = {
        key: rows[rows.checkpoint == name] if "checkpoint" in rows and key not in COMPARED else rows
        for key, rows in tables._asdict().items()
    }
    return Tables(**found)


def crossed(transfer: pd.DataFrame) -> pd.DataFrame:
    """Rows of pairs of different seeds."""
    return transfer[transfer.source_seed != transfer.target_seed]


def own(transfer: pd.DataFrame) -> pd.DataFrame:
    """Rows of members with themselves."""
    return transfer[transfer.source_seed == transfer.target_seed]


def same_sites(fits: pd.DataFrame, cohort: str) -> set[str]:
    """Sites at which all pairs of a cohort have the same activations without any map."""
    rows = fits
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


def map_values(
    fits: pd.DataFrame, cohort: str, metric: str, skip: set[str]
) -> dict[str, pd.Series]:
    """Values over pairs and sites by arm, of a metric of the maps themselves."""
    rows = fits[(fits.cohort == cohort) & (fits.metric == metric) & ~fits.site.isin(skip)]
    return {str(arm): part.value.dropna() for arm, part in rows.groupby("arm")}
