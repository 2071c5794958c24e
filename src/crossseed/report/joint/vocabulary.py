"""What parts, conditions and measures of joint SAEs are called on the page, and how their tables are read."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

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


def at_site(table: pd.DataFrame, cohort: str, checkpoint: str, site: str) -> pd.DataFrame:
    """Rows of a table that are of one cohort, checkpoint and site."""
    if table.empty:
        return table
    return table[(table.cohort == cohort) & (table.checkpoint == checkpoint) & (table.site == site)]


def pairs_in_words(n: int) -> str:
    """A number of pairs in words."""
    return f"{n} pair{'s' if n != 1 else ''}"
