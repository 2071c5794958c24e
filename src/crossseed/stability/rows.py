"""A row of the stability study's table, and means over some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from crossseed.metrics import Estimate, jackknife

# SAE seeds below which no interval is told.
LEAST_SEEDS = 4
NONE = float("nan")
Row = dict[str, Any]


def row_of(
    quantity: str,
    value: float,
    part: object = "",
    *,
    null: float = NONE,
    shuffled: float = NONE,
    n: int = 0,
    low: float = NONE,
    high: float = NONE,
) -> Row:
    """A row of the study's table; of all pairs where no two SAEs are named."""
    return {
        "first": "",
        "second": "",
        "quantity": quantity,
        "part": str(part),
        "value": float(value),
        "low": low,
        "high": high,
        "null": null,
        "shuffled": shuffled,
        "n": n,
    }


def by_key(rows: Sequence[Row]) -> dict[tuple[str, str], float]:
    """Values of rows by quantity and part."""
    return {(row["quantity"], row["part"]): row["value"] for row in rows}


def interval_of(value: float, without_n: np.ndarray) -> Estimate:
    """With few SAE seeds, (seeds,), an interval over them would only look like one."""
    return jackknife(value, without_n) if len(without_n) >= LEAST_SEEDS else Estimate(value)


def median_of(values: np.ndarray) -> float:
    """Median of values, (n,); NaN of nothing."""
    return float(np.median(values)) if len(values) else NONE


def mean_of(values: np.ndarray) -> float:
    """Mean over what of the values, (n,), is not NaN; NaN where nothing is."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
