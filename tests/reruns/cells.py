"""Keys that bring or change cells: seeds, checkpoints, sites, anchors."""

from __future__ import annotations

import re

from reruns.patterns import (
    CONSTRUCTIVE,
    CONSTRUCTIVE_TABLES,
    DRIFT_TABLE,
    INTERPRETED,
    JOINED,
    KINDS,
    MODEL_TABLES,
    OTHERS,
    PAGE,
    PAIR_STUDY_TABLES,
    PAIR_TABLES,
    PAIRED,
    RUNS,
    SMOKE,
    STORED,
    STUDY_TABLES,
    TABLES,
    TOGETHER,
    TRAINING_TABLES,
    UNBRIDGED,
    Case,
    below,
    joined,
    toy,
)

# What is drawn under Haar measure depends on no cohort.
ALL_TABLES = TABLES.format("(?!power).*")


def new_seed(cohort: str, seeds: list[int], made: str) -> Case:
    anchor, *_, new = seeds
    run = RUNS[KINDS[cohort]]
    tables = (TRAINING_TABLES,) if "models" in made else (below(cohort, "checks", r"1\.csv"),)
    return Case(
        run,
        f"cohorts.{cohort}.seeds",
        seeds,
        (
            below(cohort, made, f"seed{new}/.*"),
            below(cohort, PAIRED, rf"seed{anchor}-seed{new}/.*"),
            below(cohort, "haar", TOGETHER),
            # The old pair now has another, whose rotation it is steered by.
            below(cohort, "steering"),
            below(cohort, "drift", rf"seed{new}(?:/.*|\.csv)"),
            *toy(
                cohort,
                below(cohort, "causes", f"seed{new}/.*"),
                below(cohort, "weights|bars", rf"seed\d+-seed{new}/.*"),
                CONSTRUCTIVE_TABLES,
                # SAE seeds that are matched between members.
                below(cohort, "stability", rf"(?:seed\d+-)?seed{new}/.*"),
                TABLES.format(f"stability|calibration|bridge|{INTERPRETED}"),
            ),
            *tables,
            # Rows of latents are those of the first pair.
            *(
                (
                    below(cohort, "joint", rf"(?:cache/seed{new}|seed{anchor}-seed{new})/.*"),
                    TABLES.format("joint_(?!latents)[a-z_]+"),
                )
                if cohort in JOINED
                else ()
            ),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the new seed's cells, its pairs with the anchor, the tests over all pairs, and steering where the "
        "rotation of another pair is now another's",
    )


def new_checkpoint(cohort: str, new: str, *also: str) -> Case:
    run = RUNS[KINDS[cohort]]
    return Case(
        run,
        f"cohorts.{cohort}.checkpoints",
        [new, "final"],
        (
            below(cohort, STORED, rf"(?:.*/)?{new}(?:/.*|-shared\.csv|-ks\.csv)"),
            below(cohort, "attribution", rf".*/{new}(?:-cells)?\.csv"),
            *toy(cohort, below(cohort, CONSTRUCTIVE, rf".*/{new}[-.].*")),
            *joined(cohort, below(cohort, "joint", rf".*/{new}/.*")),
            *also,
            STUDY_TABLES,
            MODEL_TABLES,
            PAGE,
        ),
        "the new checkpoint's cells",
    )


def new_site(cohort: str, sites: list[str]) -> Case:
    run = RUNS[KINDS[cohort]]
    new = re.escape(sites[-1])
    return Case(
        run,
        f"cohorts.{cohort}.sites",
        sites,
        (
            below(cohort, STORED, rf".*{new}.*"),
            below(cohort, "fits|transfer|haar", r".*-(?:shared|ks)\.csv"),
            below(cohort, "splice|drift"),
            *toy(
                cohort,
                below(cohort, "weights"),
                below(cohort, "bars", OTHERS),
                TABLES.format("weights|joint|bars|claims"),
            ),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the new site's cells, the rotation that all sites share and splicing by it, eigenphases "
        "pooled over sites, and drift, which runs each member once for all its sites",
    )


def other_anchor(cohort: str, anchor: int) -> Case:
    run = RUNS[KINDS[cohort]]
    return Case(
        run,
        f"cohorts.{cohort}.anchor",
        anchor,
        (
            below(cohort, PAIRED, f"seed{anchor}-seed.*"),
            below(cohort, "haar", TOGETHER),
            below(cohort, "activations", rf"(?!seed{anchor}/)[^/]*/step0/.*"),
            below(cohort, "drift"),
            below(cohort, "attribution"),
            *toy(
                cohort,
                below(cohort, "weights|bars", rf"seed{anchor}-seed(?!{anchor}/).*"),
                below(cohort, "lenses"),
            ),
            below(cohort, "dictionaries", rf"seed{anchor}/.*/{UNBRIDGED}-(?:seed|shuffled)\d.*"),
            below(cohort, "stability", rf"(?:seed{anchor}/.*/{UNBRIDGED}|seed\d+-seed\d+/).*"),
            TABLES.format("dictionaries|stability|bridge|absorption|claims"),
            PAIR_TABLES,
            # Effects of cuts are each member's own.
            TABLES.format("attribution|attribution_cells|weights|joint|bars|lenses|claims"),
            DRIFT_TABLE,
            *joined(cohort, below(cohort, "joint", f"seed{anchor}-seed.*")),
            PAGE,
        ),
        "the new anchor's pairs, and drift; where tensors are shared, also the cohort's training "
        "and all that follows",
    )


CASES = [
    new_seed("smoke-shared", [0, 1, 2], "models|activations|dictionaries"),
    new_seed("smoke-neox", [0, 1, 2], "models|activations|dictionaries"),
    new_seed("smoke-hub", [1, 2, 3], "activations|dictionaries"),
    other_anchor("smoke-independent", 101),
    other_anchor("smoke-neox", 1),
    other_anchor("smoke-hub", 2),
    Case(
        SMOKE,
        "cohorts.smoke-shared.anchor",
        1,
        (
            below(
                "smoke-shared",
                f"models|activations|dictionaries|stability|drift|attribution|{CONSTRUCTIVE}",
            ),
            below("smoke-shared", PAIRED, "seed1-seed.*"),
            below("smoke-shared", "haar", TOGETHER),
            ALL_TABLES,
            PAGE,
        ),
        "the new anchor's pairs, and drift; where tensors are shared, also the cohort's training "
        "and all that follows",
    ),
    new_checkpoint("smoke-shared", "step20"),
    new_checkpoint("smoke-neox", "step10"),
    new_checkpoint("smoke-hub", "step10", below("smoke-hub", "checks", r"1\.csv")),
    new_site(
        "smoke-shared",
        ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"],
    ),
    *(
        new_site(
            cohort,
            ["blocks.0.hook_resid_post", "blocks.1.hook_mlp_out", "blocks.1.hook_resid_post"],
        )
        for cohort in ("smoke-neox", "smoke-hub")
    ),
    Case(
        SMOKE,
        "cohorts.smoke-shared.share",
        ["W_E"],
        (
            below("smoke-shared", "models|activations|dictionaries", "seed1/.*"),
            below("smoke-shared", PAIRED, "seed0-seed1/.*"),
            below("smoke-shared", "haar", TOGETHER),
            below("smoke-shared", "drift", r"seed1(?:/.*|\.csv)"),
            below("smoke-shared", "causes", "seed1/.*"),
            below("smoke-shared", "weights|bars", "seed[01]-seed1/.*"),
            below("smoke-shared", "stability", "(?:seed0-)?seed1/.*"),
            TABLES.format("(?!power|attribution|lenses).*"),
            PAGE,
        ),
        "every seed but the anchor, and their pairs",
    ),
]
