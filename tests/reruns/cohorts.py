"""Keys of toys, language models and models of the hub: their training, text, token sets and precision."""

from __future__ import annotations

from typing import Any

from reruns.patterns import (
    ANALYSIS,
    ATTRIBUTION_TABLES,
    DRIFT_TABLE,
    MODEL_TABLES,
    NEW_WIDTH,
    PAGE,
    PAIR_STUDY_TABLES,
    PAIRED,
    READ,
    SMOKE_LM,
    STORED,
    STUDY_TABLES,
    TOGETHER,
    TRAINING_TABLES,
    Case,
    below,
    of_cohort,
)

HUB_CORPUS = {
    "source": "hub",
    "dataset": "org/text",
    "name": None,
    "split": "train",
    "revision": None,
    "text_field": "text",
    "min_characters": 50,
}


def training(cohort: str, key: str, value: Any) -> Case:
    return of_cohort(
        cohort,
        f"training.{key}",
        value,
        f"models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort's training and all that follows; not its token sets, no other cohort",
    )


def tokens(cohort: str, key: str, value: Any) -> Case:
    return of_cohort(
        cohort,
        f"tokens.{key}",
        value,
        f"tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort's token sets, activations and all that follows; no training",
    )


def text(key: str, value: Any) -> Case:
    """What decides on which documents the project's own language models are trained."""
    return of_cohort(
        "smoke-neox",
        key,
        value,
        f"tokenizer|tokens|models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: tokenizer, token sets, training and all that follows",
    )


def stored_as(cohort: str, value: str) -> Case:
    return of_cohort(
        cohort,
        "activation_dtype",
        value,
        READ,
        (STUDY_TABLES, DRIFT_TABLE),
        "the cohort's activations and all that follows; no attribution",
    )


def precision(cohort: str) -> Case:
    return of_cohort(
        cohort,
        "precision",
        "bfloat16",
        READ,
        (STUDY_TABLES, DRIFT_TABLE),
        "the cohort's activations and all that follows; no attribution, no SAE of two models",
        joint=False,
    )


def checked(key: str, value: Any) -> Case:
    return of_cohort(
        "smoke-hub",
        f"model.{key}",
        value,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: the check of its members, token sets, and all that follows",
    )


CASES = [
    *(
        training(cohort, key, value)
        for cohort in ("smoke-shared", "smoke-neox")
        for key, value in (
            ("steps", 61),
            ("batch_rows", 15),
            ("peak_lr", 2e-3),
            ("warmup_steps", 11),
            ("final_lr_fraction", 0.03),
            ("weight_decay", 0.0),
            ("grad_clip", 2.0),
            ("precision", "bfloat16"),
            ("keep_steps", [0, 10, 20, 25]),
            ("eval_every_steps", 15),
            ("eval_rows", 65),
        )
    ),
    training("smoke-shared", "pool_rows", 80),
    training("smoke-shared", "lengths", [2, 21]),
    training("smoke-shared", "short_first_steps", 0),
    training("smoke-shared", "stop.accuracy", 0.5),
    training("smoke-shared", "stop.patience_steps", 20),
    training("smoke-neox", "context", 28),
    tokens("smoke-shared", "seed", 1),
    tokens("smoke-shared", "sequences", 330),
    tokens("smoke-shared", "lengths", [4, 21]),
    tokens("smoke-shared", "fit", [0, 95]),
    tokens("smoke-shared", "train", [97, 224]),
    tokens("smoke-shared", "eval", [225, 320]),
    text("tokens.seed", 1),
    text("training.corpus_share", 0.6),
    text("model.vocabulary", 310),
    text("corpus.path", "other"),
    text("corpus.text_field", "content"),
    text("corpus.min_characters", 40),
    text("corpus", HUB_CORPUS),
    *(
        of_cohort(
            "smoke-neox",
            f"model.{key}",
            value,
            f"models|{ANALYSIS}",
            (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort's training and all that follows; not its token sets, no other cohort",
        )
        for key, value in (("layers", 3), ("heads", 1), ("mlp_width", 48))
    ),
    of_cohort(
        "smoke-neox",
        "model.width",
        32,
        f"models|{ANALYSIS}",
        (TRAINING_TABLES, STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE, *NEW_WIDTH),
        "the cohort's training and all that follows, and the null draws of that width",
    ),
    *(
        tokens(cohort, key, value)
        for cohort, packing in (("smoke-neox", "documents"), ("smoke-hub", "packed"))
        for key, value in (
            *((("context", 15),) if cohort == "smoke-neox" else ()),
            ("packing", packing),
            ("most_a_document", 3),
            ("keep_first_position", cohort == "smoke-neox"),
            ("special_tokens", True),
            ("fit", 15),
            ("train", 33),
            ("eval", 17),
        )
    ),
    tokens("smoke-hub", "seed", 1),
    *(
        of_cohort(
            "smoke-hub",
            f"corpus{key}",
            value,
            f"tokens|{ANALYSIS}",
            (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort's token sets, activations and all that follows; no training",
        )
        for key, value in (
            (".path", "other"),
            (".text_field", "content"),
            (".min_characters", 40),
            ("", HUB_CORPUS),
        )
    ),
    checked("folder", "elsewhere"),
    of_cohort(
        "smoke-hub",
        "tokens.context",
        15,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
        "the cohort: the check of its members, token sets, and all that follows",
    ),
    checked("tokenizer", "org/tiny-seed2"),
    # Each of these would be refused by the check: it is not what the models are.
    *(
        of_cohort(
            "smoke-hub",
            f"model.{key}",
            value,
            f"checks|tokens|{ANALYSIS}",
            (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE),
            "the cohort: the check of its members, and all that follows",
        )
        for key, value in (("family", "gpt_neox_sequential"), ("layers", 4))
    ),
    of_cohort(
        "smoke-hub",
        "model.width",
        32,
        f"checks|tokens|{ANALYSIS}",
        (STUDY_TABLES, MODEL_TABLES, DRIFT_TABLE, *NEW_WIDTH),
        "the cohort: the check of its members, and all that follows; and the null draws of that "
        "width",
    ),
    Case(SMOKE_LM, "cohorts.smoke-hub.model.device_map", "auto", (), "nothing"),
    stored_as("smoke-shared", "float16"),
    stored_as("smoke-neox", "float16"),
    stored_as("smoke-hub", "float32"),
    precision("smoke-neox"),
    precision("smoke-hub"),
    Case(
        SMOKE_LM,
        "cohorts.smoke-hub.model.id",
        {1: "org/tiny-seed1@{checkpoint}", 2: "org/other-seed2@{checkpoint}"},
        (
            below("smoke-hub", "checks", r"1\.csv"),
            below("smoke-hub", "activations|dictionaries", "seed2/.*"),
            below("smoke-hub", PAIRED, "seed1-seed2/.*"),
            below("smoke-hub", "haar", TOGETHER),
            below("smoke-hub", "drift", r"seed2(?:/.*|\.csv)"),
            PAIR_STUDY_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the check and the cells of the members that now have another id",
    ),
    Case(
        SMOKE_LM,
        "cohorts.smoke-hub.model.final_id",
        "org/last-seed{seed}",
        (
            below("smoke-hub", "checks", r"1\.csv"),
            below("smoke-hub", STORED, r"(?:.*/)?final(?:/.*|-shared\.csv|-ks\.csv)"),
            below("smoke-hub", "drift|attribution"),
            STUDY_TABLES,
            ATTRIBUTION_TABLES,
            DRIFT_TABLE,
            PAGE,
        ),
        "the check and the cells of the members that now have another id",
    ),
]
