"""The table of conditions of joint SAEs: a line for each, its null and its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from crossseed.report.joint.vocabulary import MATCHINGS, STARTS, WORDS, Column

ROW = ["condition", "init", "lambda_cross"]


def label(condition: str, init: str, lambda_cross: float, matched_on: str, grid: bool) -> str:
    """A row of the table, in words."""
    parts = [WORDS.get(condition, condition), STARTS.get(init, init)]
    parts += [f"λ {lambda_cross:g}"] if grid else []
    parts += [MATCHINGS.get(matched_on, matched_on)]
    return ", ".join(part for part in parts if part)


def condition_lines(
    rows: pd.DataFrame, single: pd.DataFrame, heads: Mapping[str, Column], kind: str
) -> Iterator[dict[str, Any]]:
    """A line for each condition, start, weight and matching."""
    scored = rows[rows.rows == kind]
    weights = scored[scored.condition == "6"].lambda_cross.nunique()
    for key, part in scored.groupby([*ROW, "matched_on"], sort=False):
        condition, init, weight, matched_on = key
        same = same_row(rows, condition, init, weight)
        own = {**_by_measure(same[same.rows == ""]), **_by_measure(part)}
        one = same_row(single, condition, init, weight)
        alone = {
            **_by_measure(one[one.rows == ""]),
            **_by_measure(one[(one.rows == kind) & (one.matched_on == matched_on)]),
        }
        yield {
            "label": label(condition, init, weight, matched_on, condition == "6" and weights > 1),
            "cells": [
                _cell(own.get(name), alone.get(name), head, _fewer(name, own))
                for name, head in heads.items()
            ],
        }


def _fewer(name: str, by_measure: Mapping[str, Any]) -> list[str]:
    """How many latents a Top-N r is of, where fewer than N are active."""
    used = by_measure.get(name.replace("_r", "_used")) if name.startswith("top") else None
    if used is None or used.mean >= int(name[3:-2]):
        return []
    return [f"of {used.mean:.3g} latents"]


def same_row(rows: pd.DataFrame, condition: str, init: str, weight: float) -> pd.DataFrame:
    """Rows of one condition, start and weight of the cross loss."""
    return rows[(rows.condition == condition) & (rows.init == init) & (rows.lambda_cross == weight)]


def _by_measure(rows: pd.DataFrame) -> dict[str, Any]:
    return {row.measure: row for row in rows.itertuples()}


def _cell(row: Any, alone: Any, head: Column, notes: Sequence[str]) -> dict[str, str]:
    """Mean and standard deviation over pairs, their interval, and the null; of one pair, the interval over texts."""
    if row is None or pd.isna(row.mean):
        return {"value": "–", "more": ""}

    def said(value: float) -> str:
        return format(head.scale * value, head.form)

    value = said(row.mean)
    if row.pairs > 1 and not pd.isna(row.sd):
        value += f" ± {format(head.scale * row.sd, head.form.removeprefix('+'))}"
    low, high = row.low, row.high
    if row.pairs == 1 and alone is not None:
        low, high = alone.low, alone.high
    more = [] if pd.isna(low) else [f"{said(low)} to {said(high)}"]
    more += [] if pd.isna(row.null) else [f"null {said(row.null)}"]
    return {"value": value, "more": "; ".join([*more, *notes])}
