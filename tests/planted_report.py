"""A report of planted tables: published figures with verdicts, joint SAEs, and a file of more rows than a page holds."""

import json

import pandas as pd
import planted_joint

from crossseed.claims import COLUMNS as CLAIM_COLUMNS
from crossseed.report import embedded, page
from crossseed.tables import COLUMNS

COHORT = "sentiment-finetune"
# In no order, with a value below 0, one that text would sort elsewhere, and none.
MEASURED = (0.5, -2.0, 10.0, None, 9.0, 0.07, 1e-5)
# Of others; shown as it is.
HOSTILE = "<script>console.error('run')</script> & \"quoted\""
# As long as those of the claims are.
QUANTITY = "correlation of predicted with measured component effects across seeds, {}"
WHY = "explained variance of the carried activations rewards second moments; token by token, beyond three directions, against the best map without pairing"
N_ROWS = embedded.MOST_ROWS + 7
SPEC = {
    "run": "planted",
    "cohorts": {
        COHORT: {
            "kind": "bert",
            "anchor": 42,
            "seeds": [42, 137],
            "sites": [planted_joint.SITE],
            "width": 8,
            "shared": [],
            "recipe": {"steps": 20},
        }
    },
    "dictionaries": {"topk": {"recipe": {"k": 4, "architecture": "topk"}}},
    "drift": None,
    "edited": list(planted_joint.COHORTS),
    "tables": ["claims", "phases", *planted_joint.NAMES],
}


def claims():
    rows = [
        {
            "claim": f"claim-{number}", "quantity": QUANTITY.format(number), "cohort": COHORT, "site": "internal",
            "published_low": 0.5, "published_high": 0.5, "tolerance": 0.1, "as_published": value,
            "rigorous": value, "low": None if value is None else value - 0.1,
            "high": None if value is None else value + 0.1, "null": 0.1, "cells": 3,
            "verdict": "reproduced" if number % 2 else "not reproduced", "why": WHY,
        }
        for number, value in enumerate(MEASURED)
    ]  # fmt: skip
    rows[0]["quantity"] = HOSTILE
    rows.append({**rows[1], "claim": "other", "verdict": "not run here", "why": "needs more"})
    return pd.DataFrame(rows, columns=list(CLAIM_COLUMNS))


def phases():
    rows = [{**dict.fromkeys(COLUMNS["phases"], ""), "cohort": f"row {n}"} for n in range(N_ROWS)]
    found = pd.DataFrame(rows, columns=list(COLUMNS["phases"]))
    # The least is last.
    found[found.columns[-1]] = [N_ROWS - n + 1 / 3 for n in range(N_ROWS)]
    return found


def write(folder):
    """The page, in results that have logs and benchmarks; where it lies."""
    results = folder / "results"
    report = results / "reports" / "planted"
    frames = {**planted_joint.planted(), "claims": claims(), "phases": phases()}
    planted_joint.written(report / "tables", frames)
    logs, times = results / COHORT / "logs/train", results / COHORT / "benchmarks/train"
    for seed in (42, 137):
        for place in (logs, times):
            place.mkdir(parents=True, exist_ok=True)
        told = json.dumps({"seed": seed, "training": {"batch_rows": 16}})
        weights = f"results/{COHORT}/models/seed{seed}/final/model.safetensors"
        (logs / f"seed{seed}.log").write_text(
            f"$ crossseed train --spec '{told}' --out {weights}\nwrote {seed:032x} {weights}\n"
        )
        (times / f"seed{seed}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seed}.5\t0:00:42\t12.5\n")
    page.write(SPEC, results, report / "index.html")
    return report / "index.html"
