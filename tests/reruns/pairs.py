"""Keys of what is measured between two members: transfer, splicing, rotations, ports, steering, single latents."""

from __future__ import annotations

from reruns.patterns import (
    ATTRIBUTION_TABLES,
    CARRIED,
    MAPPED,
    OF_DICTIONARIES,
    OF_MAPS,
    OTHERS,
    PAGE,
    PAIRED,
    POOLED,
    SMOKE,
    SMOKE_LM,
    TABLES,
    Case,
    below,
    each,
)

CASES = [
    Case(
        SMOKE,
        "transfer.pairs",
        "all",
        (
            below("smoke-shared", PAIRED, "seed1-seed.*"),
            below("smoke-independent", PAIRED, "seed101-seed.*"),
            below("smoke-shared", "activations", "seed0/step0/.*"),
            below("smoke-independent", "activations", "seed100/step0/.*"),
            TABLES.format(f"{OF_DICTIONARIES}|fits|directions|haar|{CARRIED}|published|claims"),
            PAGE,
        ),
        "the new pairs",
    ),
    Case(
        SMOKE,
        "transfer.resamples",
        101,
        (
            below("[^/]*", f"fits|transfer|splice|attribution|bars|{CARRIED}"),
            TABLES.format(f"fits|directions|transfer|evidence|splice|over_seeds|bars|{CARRIED}"),
            ATTRIBUTION_TABLES,
            PAGE,
        ),
        "every table with intervals; no map, no SAE",
    ),
    Case(
        SMOKE,
        "transfer.directions",
        [2, 3],
        (
            below("[^/]*", "fits|transfer|splice", OTHERS.replace(".*", ".*/.*")),
            TABLES.format("fits|directions|transfer|evidence|splice|over_seeds|claims"),
            PAGE,
        ),
        "fits, transfer and splicing of different members; no SAE",
    ),
    Case(
        SMOKE,
        "transfer.untrained",
        None,
        (
            below("[^/]*", MAPPED, OTHERS),
            below("[^/]*", "haar", POOLED),
            below("[^/]*", "stability", r"seed\d+-seed\d+/.*"),
            TABLES.format(f"bridge|{OF_DICTIONARIES}|{OF_MAPS}|claims"),
            PAGE,
        ),
        "all that is measured on different members; no SAE",
    ),
    Case(
        SMOKE,
        "splice.sequences",
        9,
        (below("[^/]*", "splice"), TABLES.format("splice|evidence|over_seeds|claims"), PAGE),
        "every splicing",
    ),
    Case(
        SMOKE,
        "haar.draws",
        620,
        (
            "results/nulls/.*",
            below("[^/]*", "haar", f"(?:{OTHERS}|{POOLED})"),
            TABLES.format("haar|ks|phases|power|claims"),
            PAGE,
        ),
        "the null draws, and every test; no map",
    ),
    Case(
        SMOKE,
        "haar.power_draws",
        21,
        ("results/nulls/power.*", TABLES.format("power"), PAGE),
        "the power table",
    ),
    *each(
        SMOKE,
        "port.",
        (("dictionaries", ["relu-l1"]), ("map", "scaled"), ("sequences", 9)),
        (below("[^/]*", "ports"), TABLES.format("ports"), PAGE),
        "every ported dictionary",
    ),
    *(
        Case(
            run,
            f"steering.{key}",
            value,
            (
                below("[^/]*", "steering|features"),
                TABLES.format("steering|features" + ("|claims" if run == SMOKE else "")),
                PAGE,
            ),
            "steering, and single latents, which are chosen by its concepts",
        )
        for run, key, value in (
            (SMOKE, "concepts", ["depth_shift"]),
            (SMOKE_LM, "prompts", ["recipient", "sentiment"]),
            (SMOKE, "trials", 25),
        )
    ),
    *each(
        SMOKE,
        "steering.",
        (("directions", 101), ("sequences", 5)),
        (below("[^/]*", "steering"), TABLES.format("steering|claims"), PAGE),
        "steering",
    ),
    *each(
        SMOKE,
        "features.",
        (("dictionary", "relu-l1-x2"), ("latents", 3), ("sequences", 9)),
        (below("[^/]*", "features"), TABLES.format("features"), PAGE),
        "the study of single latents",
    ),
]
