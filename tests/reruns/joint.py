"""Keys of SAEs that two models share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from reruns.patterns import (
    EDITS,
    FITS,
    JOINT_TABLES,
    MEASURED,
    NULLS,
    OF_CONDITIONS,
    OF_EDITS,
    OF_NULLS,
    PAGE,
    SAES,
    SIZES,
    SMOKE_CLASSIFIER,
    SMOKE_LM,
    TABLES,
    TESTS,
    Case,
    below,
)


def of_pair(*parts: str) -> str:
    """Files of the pair of classifiers that shares SAEs."""
    return below("smoke-bert", "joint", f"seed42-seed137/.*/(?:{'|'.join(parts)})")


def joint(key: str, value: Any, parts: tuple[str, ...], tables: str, reruns: str) -> Case:
    """A key of joint SAEs, after which files of the pair and tables are made again; no table, no page."""
    outputs = (of_pair(*parts),) if parts else ()
    outputs += (TABLES.format(tables), PAGE) if tables else ()
    return Case(SMOKE_CLASSIFIER, f"joint.{key}", value, outputs, reruns)


def joint_cases() -> Iterator[Case]:
    """Of every key of joint SAEs."""
    for key in ("cohorts", "sites"):
        yield joint(key, None, (), "", "nothing, where it names all there are; else the new pairs")
    yield Case(
        SMOKE_CLASSIFIER,
        "joint.pairs",
        [[137, 42]],
        (below("smoke-bert", "joint", "seed137-seed42/.*"), JOINT_TABLES, PAGE),
        "the new pairs",
    )
    for key, value in (("development", 6), ("predictions", 2)):
        yield Case(
            SMOKE_LM,
            f"joint.{key}",
            value,
            (below("smoke-neox", "joint"), JOINT_TABLES, PAGE),
            "joint SAEs of language models: all that is clean of them, and what follows",
        )
    more = f"{OF_CONDITIONS}|joint_training"
    for key, value in (
        ("conditions", ["1", "2", "3", "3'", "4", "6"]),
        ("baselines", ["mutual", "universal"]),
    ):
        yield joint(key, value, (), more, "the tables; SAEs of new conditions")
    yield joint(
        "inits",
        ["shared", "distinct"],
        (r"saes/.*-distinct.*", r"conditions/.*-distinct.*"),
        more,
        "SAEs from the new starts, and what is measured of them",
    )
    yield joint(
        "lambda_mutual",
        0.2,
        (r"saes/mutual.*", r"conditions/mutual.*"),
        more,
        "SAEs whose decoders are drawn to each other",
    )
    yield joint(
        "lambda_cross_grid",
        [0.5, 2.0],
        (r"saes/6-lambda2.*", r"conditions/6-lambda2.*"),
        more,
        "condition 6 at the new weight",
    )
    rotated = r"(?:[56](?:-lambda.*)?|mutual.*|ridge)"
    yield joint(
        "center",
        True,
        (
            r"maps\.h5", rf"saes/{rotated}\..*", rf"conditions/(?:3.*|{rotated})(?:-latents)?\.csv",
            NULLS, TESTS, SIZES, EDITS,
        ),
        f"{more}|{OF_NULLS}|{OF_EDITS}|joint_sizes|joint_halves",
        "maps, SAEs trained with one, and all that is measured of these",
    )  # fmt: skip
    every = (SAES, MEASURED, NULLS, TESTS, EDITS)
    followed = f"{more}|{OF_NULLS}|{OF_EDITS}"
    for key, value in (
        ("expansion", 3), ("k", 5), ("relu_after_topk", False), ("norm", "none"), ("mask_ds", False),
        ("lambda_kl", 0.5), ("lambda_ds", 1.0), ("lambda_local", 0.5), ("lambda_aux", 0.0),
        ("aux_k", 7), ("dead_window", 0.4), ("lr", 4e-3), ("weight_decay", 0.0),
        ("warmup_ratio", 0.2), ("grad_clip", 1.0), ("batch", 15), ("epochs", 3), ("init_seed", 41),
        ("precision", "bf16-mixed"),
    ):  # fmt: skip
        yield joint(
            f"training.{key}",
            value,
            every,
            followed,
            "every joint SAE, and all that follows; no map",
        )
    yield joint(
        "training.special_tokens",
        False,
        (*every, r"maps\.h5", FITS, SIZES),
        "joint_[a-z_]+",
        "maps, every joint SAE, and all that follows",
    )
    for key, value in (("batches", 7), ("early_stopping_patience", 4)):
        yield joint(
            f"training.{key}",
            value,
            (SAES, MEASURED, TESTS, EDITS),
            f"{more}|joint_tests|{OF_EDITS}",
            "every joint SAE, and all that follows; no short retraining",
        )
    for key, value, crossed in (
        ("cross_reduction", "sum", r"(?:6|6-lambda0\.5|ridge)"),
        ("lambda_cross", 2.0, r"(?:6|ridge)"),
    ):
        yield joint(
            f"training.{key}",
            value,
            (
                rf"saes/{crossed}\.(?:csv|safetensors)",
                rf"conditions/{crossed}(?:-latents)?\.csv",
                EDITS,
            ),
            f"{more}|{OF_EDITS}",
            "SAEs with a cross loss, and all that follows",
        )
    for key, value, tables in (
        ("active_tokens", 9, f"{OF_CONDITIONS}|{OF_NULLS}|{OF_EDITS}"),
        ("threshold", 0.6, f"{OF_CONDITIONS}|{OF_NULLS}|{OF_EDITS}"),
    ):
        yield joint(
            f"evaluation.{key}",
            value,
            (MEASURED, NULLS, TESTS, EDITS),
            tables,
            "what is measured of conditions, retrainings and edited sentences; no joint SAE",
        )
    yield joint(
        "evaluation.tops",
        [6, 20],
        (MEASURED, NULLS, TESTS),
        f"{OF_CONDITIONS}|{OF_NULLS}",
        "what is measured of conditions and retrainings; no joint SAE",
    )
    yield joint(
        "evaluation.resamples",
        101,
        (FITS, MEASURED),
        f"{OF_CONDITIONS}|joint_fits",
        "tables of conditions and of maps; no joint SAE",
    )
    for key, value, some in (
        ("shifts", 3, ".*"),
        ("match_splits", ["fit"], r"(?:[23]-|mutual).*"),
        ("accuracy_references", ["clean"], ".*"),
    ):
        yield joint(
            f"evaluation.{key}",
            value,
            (rf"conditions/{some}",),
            OF_CONDITIONS,
            "what is measured of the conditions it is about",
        )
    yield joint(
        "nulls.pairs", [[42, 137]], (), "", "nothing, where it names all; else the new pairs"
    )
    for key, value, some in (
        ("batches", 5, ".*"),
        ("lambda_cross", 1.0, ".*"),
        ("replicates", 3, "fitted2"),
        ("random", 3, "random0"),
        ("mismatched", 2, "mismatched"),
        ("shares", [0.4], "partial"),
        ("directions", [4, 6], "top"),
        ("complements", ["identity"], "top"),
    ):
        yield joint(
            f"nulls.{key}",
            value,
            (rf"nulls/{some}\.csv", TESTS),
            OF_NULLS,
            "the retrainings it is about, and tests of the map",
        )
    for key in ("post_hoc", "shuffled"):
        yield joint(f"nulls.{key}", 100, (TESTS,), "joint_tests", "tests of the map")
    for key, value in (("sequences", [10, 20]), ("splits", 4)):
        yield joint(
            f"sizes.{key}",
            value,
            (SIZES,),
            "joint_sizes|joint_halves",
            "how many sequences decide W",
        )
    for key, value in (
        ("files", {"smoke-bert": "politeness"}),
        ("condition", "5"),
        ("latents", 3),
        ("contexts", 4),
    ):
        yield joint(
            f"counterfactuals.{key}", value, (EDITS,), OF_EDITS, "latents in edited sentences"
        )


CASES = list(joint_cases())
