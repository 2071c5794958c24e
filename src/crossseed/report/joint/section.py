"""The page's section on SAEs that two models share: conditions, maps, sample size, and edited sentences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from crossseed.report import tables as t
from crossseed.report.joint.conditions import condition_lines
from crossseed.report.joint.edits import edits, features
from crossseed.report.joint.maps import nulls, regression
from crossseed.report.joint.reading import baselines, behaviour, reading
from crossseed.report.joint.sizes import sizes
from crossseed.report.joint.vocabulary import COLUMNS, read, tops


def of_run(tables: t.Tables, edited: Sequence[str]) -> dict[str, Any]:
    """The section on joint SAEs; empty without them.

    Args:
        edited: cohorts whose latents are tried on edited sentences.
    """
    if tables.joint_pooled.empty:
        return {}
    pooled = read(tables.joint_pooled)
    single = read(tables.joint_conditions)
    cohorts = [
        of_cohort(tables, pooled[pooled.cohort == cohort], single[single.cohort == cohort], edited)
        for cohort in pooled.cohort.unique()
    ]
    return {
        "cohorts": cohorts,
        "regression": regression(tables),
        "features": features(tables),
    }


def of_cohort(
    tables: t.Tables, pooled: pd.DataFrame, single: pd.DataFrame, edited: Sequence[str]
) -> dict[str, Any]:
    """All that is said of one cohort; with several sites or checkpoints of each."""
    cohort = str(pooled.cohort.iloc[0])
    parts = []
    for (checkpoint, site), rows in pooled.groupby(["checkpoint", "site"], sort=False):
        of = single[(single.checkpoint == checkpoint) & (single.site == site)]
        heads = {**tops(rows), **COLUMNS}
        heads = {key: head for key, head in heads.items() if key in set(rows.measure)}
        parts.append(
            {
                "where": f"{checkpoint}, {site}",
                "pairs": int(rows.pairs.max()),
                "heads": [head.head for head in heads.values()],
                "tables": [
                    (word, list(condition_lines(rows, of, heads, kind)))
                    for kind, word in (
                        ("tokens", "per token"),
                        ("texts", "means over a text’s tokens"),
                    )
                    if kind in set(rows.rows)
                ],
                "sentences": [*reading(rows, of), *baselines(rows), *behaviour(rows)],
                "nulls": nulls(tables, cohort, checkpoint, site),
                "sizes": sizes(tables, cohort, checkpoint, site),
                "edits": edits(tables, cohort, checkpoint, site) if cohort in edited else {},
            }
        )
    kind = str(pooled.kind_of_seed.iloc[0])
    return {
        "name": cohort,
        "data": str(pooled["data"].iloc[0]),
        "kind": "" if kind == "nan" else kind,
        "parts": parts,
    }
