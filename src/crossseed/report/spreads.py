"""Medians and ranges, as the page writes them."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Spread(NamedTuple):
    """Median and range of a quantity over pairs and sites."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def spread(values: pd.Series) -> Spread | None:
    """Median and range of some values; None of nothing."""
    if values.empty:
        return None
    return Spread(float(values.median()), float(values.min()), float(values.max()))


def percent(share: float) -> str:
    """A share as whole per cent."""
    return f"{100 * share:.0f} %"
