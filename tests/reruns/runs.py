"""Keys of the whole run, claims and drift."""

from __future__ import annotations

from reruns.patterns import (
    DRIFT_TABLE,
    PAGE,
    SMOKE,
    SMOKE_LM,
    TABLES,
    Case,
    below,
    each,
)

CASES = [
    *(
        Case(
            run,
            "run",
            f"{name}2",
            (rf"results/reports/{name}2/.*",),
            "the joined tables and the report, under the new name",
        )
        for run, name in ((SMOKE, "smoke"), (SMOKE_LM, "smoke-lm"))
    ),
    Case(SMOKE, "device", "cpu", (), "nothing"),
    Case(SMOKE, "slots_per_gpu", 2, (), "nothing"),
    Case(SMOKE, "keep_activations", False, (), "nothing"),
    Case(
        SMOKE,
        "claims.cohorts",
        {"toy-shared": "smoke-shared"},
        (TABLES.format("published|claims"), PAGE),
        "the claims, and pairs of cohorts that are new to them by the published protocol",
    ),
    Case(
        SMOKE,
        "claims.dictionary",
        "topk-x2",
        (below("[^/]*", "published"), TABLES.format("published|claims"), PAGE),
        "the claims, and what is measured by the published protocol",
    ),
    Case(
        SMOKE_LM,
        "drift.checkpoints",
        ["step0", "step10", "final"],
        (
            below("[^/]*", "drift", r"seed\d/step10\.csv"),
            below("[^/]*", "drift", r"seed\d\.csv"),
            below("smoke-hub", "checks", r"1\.csv"),
            DRIFT_TABLE,
            PAGE,
        ),
        "the new checkpoint of every seed",
    ),
    *each(
        SMOKE_LM,
        "drift",
        (
            (".dictionaries", []),
            # A reference with dictionaries has to be among the cohorts' checkpoints.
            ("", {"reference": "step0", "checkpoints": ["step0", "final"], "dictionaries": []}),
        ),
        (below("[^/]*", "drift"), DRIFT_TABLE, PAGE),
        "the drift study",
    ),
]
