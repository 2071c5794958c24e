"""Conditions over the pairs of a cohort, and what the error of a map says of the universal latents it gives.

Pairs are what is drawn with replacement for an interval: those of a list share no seed, and those with the anchor share it
alone, on which the answer is conditional. Points of a regression are the retrainings of a pair, which are not independent of
each other; there too pairs are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from crossseed.joint.tables import CELL, ROW
from crossseed.metrics import Estimate, estimate, resample_weights
from crossseed.seeding import generator

KEYS = ("cohort", "checkpoint", "site", *ROW, "rows", "matched_on", "measure")
RESAMPLES = 999
OUTCOME = "universal"
RANDOM = "random"
# Maps of the published retrainings, each but random ones trained with once.
PUBLISHED = ("identity", "true", "mismatched", RANDOM)


def over_pairs(
    table: pd.DataFrame, kinship: Mapping[str, Mapping[str, str]]
) -> Iterator[dict[str, Any]]:
    """Mean and standard deviation of everything that is measured of a condition.

    Args:
        table: rows of the conditions of all pairs. kinship: of each cohort ``data`` and ``kind_of_seed``.
    """
    table = table.assign(**{key: table[key].fillna("") for key in ("init", "rows", "matched_on")})
    for key, part in table.dropna(subset=["value"]).groupby(list(KEYS), sort=False):
        values = part.value.to_numpy(float)
        n = len(values)
        cohort = str(key[0])
        weights = resample_weights(generator("joint-pairs", cohort, n), n, RESAMPLES)
        mean = estimate((weights @ values) / n)
        yield {
            **dict(zip(KEYS, key, strict=True)),
            **kinship[cohort],
            "mean": mean.value,
            "sd": float(values.std(ddof=1)) if n > 1 else None,
            "low": mean.low,
            "high": mean.high,
            "null": float(part.null.mean()),
            "pairs": n,
        }


def regressions(table: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Universal latents on 1 − the normalised error of the map, both standardised, over retrainings.

    Args:
        table: rows of the retrainings of all pairs.

    Yields:
        Of all cohorts and of each; of the published maps (one retraining with each but Haar draws), of all maps, and
        without Haar draws, of which there are most and which lie in one place: ``slope``, which standardised is r, with its
        interval over pairs, and ``r2``.
    """
    points = table[table.measure == OUTCOME]
    scopes = {"all": points, **{str(name): part for name, part in points.groupby("cohort")}}
    for scope, part in scopes.items():
        once = part.null.isin(PUBLISHED) & ((part.null == RANDOM) | (part.draw == 0))
        for draws, chosen in (
            ("published", part[once]),
            ("all", part),
            ("no random", part[part.null != RANDOM]),
        ):
            if len(chosen) < 3:
                continue
            slope = _slope(chosen, scope, draws)
            yield {
                "scope": scope,
                "draws": draws,
                "points": len(chosen),
                "pairs": chosen.groupby(list(CELL)).ngroups,
                "slope": slope.value,
                "slope_low": slope.low,
                "slope_high": slope.high,
                "r2": slope.value**2,
            }


def _slope(points: pd.DataFrame, *name: object) -> Estimate:
    x, y = 1 - points.nre.to_numpy(float), points.value.to_numpy(float)
    pair = points.groupby(list(CELL)).ngroup().to_numpy()
    n_pairs = int(pair.max()) + 1
    drawn = resample_weights(generator("joint-regression", *name), n_pairs, RESAMPLES)
    return estimate(np.array([_weighted_r(x, y, row[pair]) for row in drawn]))


def _weighted_r(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> float:
    total = weight.sum()
    # One pair alone is not drawn.
    if not total > 0:
        return float("nan")
    x, y = x - (weight @ x) / total, y - (weight @ y) / total
    spread = float(np.sqrt((weight @ x**2) * (weight @ y**2)))
    return float(weight @ (x * y)) / spread if spread > 0 else float("nan")
