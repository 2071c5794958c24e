"""Keys of text classifiers."""

from __future__ import annotations

from typing import Any

from reruns.patterns import (
    PAGE,
    PAIR_STUDY_TABLES,
    PAIRED,
    SMOKE_CLASSIFIER,
    STORED,
    TRAINING_TABLES,
    Case,
    below,
    joined,
    of_cohort,
)

LABELLED_HUB = {
    "source": "hub",
    "dataset": "org/labelled",
    "name": None,
    "revision": None,
    "train_split": "train",
    "eval_split": "validation",
    "text_field": "text",
    "label_field": "label",
    "classes": ["negative", "positive"],
    "train": 120,
    "development": 20,
    "eval": 40,
}
LABELLED_FILES = {
    "source": "files",
    "train_file": "train.jsonl",
    "eval_file": "eval.jsonl",
    **{
        key: LABELLED_HUB[key]
        for key in ("text_field", "label_field", "classes", "train", "development", "eval")
    },
}
BASE_CHECKPOINT = {
    "source": "checkpoint",
    "id": "org/base",
    "tokenizer": "org/base",
    "folder": "hub",
    "width": 16,
    "layers": 2,
}


def classifier(key: str, value: Any, folders: str, reruns: str, joint: bool = True) -> Case:
    """A key of classifiers, after which whole folders of their cohort are made again."""
    tables = (TRAINING_TABLES,) if "models" in folders else ()
    tables = (*tables, PAIR_STUDY_TABLES)
    return of_cohort("smoke-bert", key, value, folders, tables, reruns, joint)


def of_seed(key: str, value: Any, seed: int, reruns: str, also: tuple[str, ...] = ()) -> Case:
    """A key of classifiers that touches one seed, its pair with the anchor, and `also`."""
    return Case(
        SMOKE_CLASSIFIER,
        f"cohorts.smoke-bert.{key}",
        value,
        (
            below("smoke-bert", "models|activations|dictionaries", f"seed{seed}/.*"),
            below("smoke-bert", PAIRED, f"seed42-seed{seed}/.*"),
            TRAINING_TABLES,
            PAIR_STUDY_TABLES,
            PAGE,
            *also,
        ),
        reruns,
    )


CASES = [
    of_seed(
        "seeds",
        [42, 137, 7],
        7,
        "the new seed's cells, and its pairs with the anchor",
    ),
    of_seed(
        "kind_of_seed",
        "pretrain",
        137,
        "every seed but the anchor, and their pairs",
        joined("smoke-bert", below("smoke-bert", "joint", r"(?:cache/seed137|seed42-seed137)/.*")),
    ),
    classifier(
        "anchor",
        137,
        f"models|activations|dictionaries|{PAIRED}",
        "the cohort's training, since all start from the anchor's base, and all that follows",
    ),
    Case(
        SMOKE_CLASSIFIER,
        "cohorts.smoke-bert.checkpoints",
        ["step0", "final"],
        (
            below("smoke-bert", STORED, r"(?:.*/)?step0(?:/.*|-shared\.csv)"),
            *joined("smoke-bert", below("smoke-bert", "joint", r".*/step0/.*")),
            PAIR_STUDY_TABLES,
            PAGE,
        ),
        "the new checkpoint's cells",
    ),
    Case(
        SMOKE_CLASSIFIER,
        "cohorts.smoke-bert.sites",
        ["blocks.0.hook_normalized_resid_post", "blocks.1.hook_mlp_out"],
        (
            below("smoke-bert", STORED, r".*blocks\.1\.hook_mlp_out.*"),
            below("smoke-bert", "fits|transfer", r".*-shared\.csv"),
            PAIR_STUDY_TABLES,
            PAGE,
        ),
        "the new site's cells, and the rotation that all sites share",
    ),
    *(
        classifier(
            f"data{key}",
            value,
            f"tokenizer|tokens|models|{STORED}",
            "the cohort: tokenizer, token sets, training and all that follows",
        )
        for key, value in (
            (".grammar", "politeness"),
            (".seed", 1),
            (".classes", ["positive", "negative"]),
            (".unlabelled", 61),
            (".train", 121),
            (".development", 21),
            (".eval", 41),
            ("", LABELLED_HUB),
            ("", LABELLED_FILES),
        )
    ),
    classifier(
        "model.vocabulary",
        230,
        f"tokenizer|tokens|models|{STORED}",
        "the cohort: tokenizer, token sets, training and all that follows",
    ),
    *(
        classifier(
            key,
            value,
            f"models|{STORED}",
            "the cohort's training and all that follows; not its token sets, no other cohort",
        )
        for key, value in (
            ("model.width", 32),
            ("model.layers", 3),
            ("model.heads", 4),
            ("model.mlp_width", 48),
            ("model.dropout", 0.2),
            ("model.pretraining.steps", 7),
            ("model.pretraining.batch_rows", 15),
            ("model.pretraining.peak_lr", 1e-3),
            ("model.pretraining.masked", 0.2),
            ("training.epochs", 3),
            ("training.batch_rows", 15),
            ("training.peak_lr", 2e-3),
            ("training.warmup_ratio", 0.2),
            ("training.weight_decay", 0.0),
            ("training.grad_clip", 2.0),
            ("training.patience", 4),
            ("training.precision", "bfloat16"),
        )
    ),
    *(
        classifier(
            key,
            value,
            f"tokens|models|{STORED}",
            "the cohort: token sets, training and all that follows; not the tokenizer",
        )
        for key, value in (("tokens.context", 31), ("model", BASE_CHECKPOINT))
    ),
    *(
        classifier(
            f"tokens.{key}",
            value,
            f"tokens|{STORED}",
            "the cohort's token sets, activations and all that follows; no training",
        )
        for key, value in (
            ("seed", 43),
            ("keep_special_tokens", False),
            ("fit", 39),
            ("train", 59),
            ("eval", 29),
        )
    ),
    *(
        classifier(key, value, STORED, reruns, joint)
        for key, value, reruns, joint in (
            (
                "precision",
                "bfloat16",
                "the cohort's activations and all that follows; no SAE of two models",
                False,
            ),
            ("activation_dtype", "float16", "the cohort's activations and all that follows", True),
        )
    ),
]
