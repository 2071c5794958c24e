"""Keys of what is measured of whole models: attribution, alignment of weights, lenses, bars."""

from __future__ import annotations

from reruns.patterns import (
    ATTRIBUTION_TABLES,
    ITSELF,
    OTHERS,
    PAGE,
    SMOKE,
    TABLES,
    Case,
    below,
    each,
)

CASES = [
    Case(
        SMOKE,
        "attribution.members",
        "all",
        (below("[^/]*", "attribution", r"seed1(?:01)?/.*"), ATTRIBUTION_TABLES, PAGE),
        "attribution of the members that are new to it",
    ),
    *each(
        SMOKE,
        "attribution.",
        (
            ("right", [2]),
            ("midpoint", [2, 4]),
            ("gauss", [2, 4]),
            ("batches", 3),
            ("sequences", 3),
        ),
        (below("[^/]*", "attribution"), ATTRIBUTION_TABLES, PAGE),
        "attribution",
    ),
    *each(
        SMOKE,
        "weights.",
        (
            ("starts", 3),
            ("sweeps", 3),
            ("published_starts", 2),
            ("draws", 3),
            ("lambdas", 4),
            ("untrained", None),
        ),
        (
            below("[^/]*", "weights"),
            below("[^/]*", "bars", OTHERS),
            TABLES.format("weights|joint|bars|claims"),
            PAGE,
        ),
        "the alignment of weights, and the bars between members",
    ),
    Case(
        SMOKE,
        "lenses.members",
        "all",
        (below("[^/]*", "lenses", r"seed1(?:01)?/.*"), TABLES.format("lenses"), PAGE),
        "lenses of the members that are new to them",
    ),
    *each(
        SMOKE,
        "lenses.",
        (
            ("components", ["mlp"]),
            ("transcoder.expansions", [3]),
            ("transcoder.l1", 2e-3),
            ("transcoder.lr", 2e-3),
            ("transcoder.steps", 9),
            ("thresholds", [0.02]),
            ("rows", 9),
        ),
        (below("[^/]*", "lenses"), TABLES.format("lenses"), PAGE),
        "the lenses",
    ),
    *each(
        SMOKE,
        "bars.",
        (("batch_rows", 32), ("orders", 3)),
        (below("[^/]*", "bars"), TABLES.format("bars|claims"), PAGE),
        "the bars",
    ),
    *(
        Case(
            SMOKE,
            f"bars.{key}",
            value,
            (below("[^/]*", "bars", which), TABLES.format("bars|claims"), PAGE),
            words,
        )
        for key, value, which, words in (
            ("sequences", 200, ITSELF, "the bars of members and their decoys"),
            ("taught_steps", 3, ITSELF, "the bars of members and their decoys"),
            ("sequences_between", 200, OTHERS, "the bars between members"),
        )
    ),
    *each(
        SMOKE,
        "bars.",
        (("batches", 5), ("rows", 5), ("points", 3)),
        (below("[^/]*", "causes|bars"), TABLES.format("causes|bars|claims"), PAGE),
        "the effects of components and edges, and the bars",
    ),
]
