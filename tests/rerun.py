"""The rerun table: for every config leaf, what one changed value makes run again.

`CASES` says for each leaf of the schema which value is changed in the smoke run and which
output files must then be made again, and no others. The test compares this with Snakemake's
plan; `python tests/rerun.py` prints the table that the README shows.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

# Patterns over output paths. C is a cohort, S a seed, and so on.
TABLES = r"results/reports/smoke[a-z-]*/tables/(?:{})\.csv"
PAGE = r"results/reports/smoke[a-z-]*/(?:index\.html|figures/.*)"
TRANSFER_TABLES = TABLES.format("transfer|decoder_cosine")
SAE_TABLES = TABLES.format("dictionaries|transfer|decoder_cosine|drift")
ALL_TABLES = TABLES.format(".*")


def below(cohort: str, folders: str, rest: str = ".*") -> str:
    return rf"results/{cohort}/(?:{folders})/{rest}"


ANALYSIS = "activations|dictionaries|maps|transfer|decoder_cosine|drift"


class Case(NamedTuple):
    """One changed value.

    Attributes:
        path: where in the config; ``*`` of the leaf replaced by a name.
        value: the new value.
        outputs: patterns of the files made again.
        reruns: the same in words, for the README.
    """

    path: str
    value: Any
    outputs: tuple[str, ...]
    reruns: str


def _training(key: str, value: Any) -> Case:
    return Case(
        f"cohorts.smoke-shared.training.{key}",
        value,
        (below("smoke-shared", f"models|{ANALYSIS}"), ALL_TABLES, PAGE),
        "the cohort's training and all that follows; not its token sets, no other cohort",
    )


def _tokens(key: str, value: Any) -> Case:
    return Case(
        f"cohorts.smoke-shared.tokens.{key}",
        value,
        (below("smoke-shared", f"tokens|{ANALYSIS}"), SAE_TABLES, PAGE),
        "the cohort's token sets, activations and all that follows; no training",
    )


def _sae(variant: str, key: str, value: Any) -> Case:
    return Case(
        f"dictionaries.{variant}.{key}",
        value,
        (
            below("[^/]*", "dictionaries", rf".*/{variant}-x2[-.].*"),
            below("[^/]*", "transfer"),
            below("[^/]*", "decoder_cosine"),
            SAE_TABLES,
            PAGE,
        ),
        "that variant's SAEs, transfer and cosines; no other variant, no map",
    )


CASES = [
    Case(
        "run",
        "smoke2",
        (r"results/reports/smoke2/.*",),
        "the joined tables and the report, under the new name",
    ),
    Case("device", "cpu", (), "nothing"),
    Case("keep_activations", False, (), "nothing"),
    Case(
        "cohorts.smoke-shared.seeds",
        [0, 1, 2],
        (
            below("smoke-shared", "models|activations|dictionaries", "seed2/.*"),
            below("smoke-shared", "maps|transfer|decoder_cosine", r"seed\d+-seed2/.*"),
            ALL_TABLES,
            PAGE,
        ),
        "the new seed's cells and its pairs with the anchor",
    ),
    Case(
        "cohorts.smoke-independent.anchor",
        101,
        (
            below("smoke-independent", "maps|transfer|decoder_cosine", "seed101-seed.*"),
            TRANSFER_TABLES,
            PAGE,
        ),
        "the new anchor's pairs; where tensors are shared, the cohort's training and all that follows",
    ),
    Case(
        "cohorts.smoke-shared.anchor",
        1,
        (
            below("smoke-shared", "models|activations|dictionaries"),
            below("smoke-shared", "maps|transfer|decoder_cosine", "seed1-seed.*"),
            ALL_TABLES,
            PAGE,
        ),
        "the new anchor's pairs; where tensors are shared, the cohort's training and all that follows",
    ),
    Case(
        "cohorts.smoke-shared.checkpoints",
        ["final", "step20"],
        (
            below(
                "smoke-shared",
                "activations|dictionaries|maps|transfer|decoder_cosine",
                r".*/step20/.*",
            ),
            SAE_TABLES,
            PAGE,
        ),
        "the new checkpoint's cells",
    ),
    Case(
        "cohorts.smoke-shared.sites",
        ["blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.1.hook_resid_post"],
        (
            below(
                "smoke-shared",
                "activations|dictionaries|maps|transfer|decoder_cosine",
                r".*blocks\.1\.hook_resid_post.*",
            ),
            SAE_TABLES,
            PAGE,
        ),
        "the new site's cells",
    ),
    Case(
        "cohorts.smoke-shared.share",
        ["W_E"],
        (
            below("smoke-shared", "models|activations|dictionaries", "seed1/.*"),
            below("smoke-shared", "maps|transfer|decoder_cosine", "seed0-seed1/.*"),
            ALL_TABLES,
            PAGE,
        ),
        "every seed but the anchor, and their pairs",
    ),
    _training("steps", 61),
    _training("batch_rows", 15),
    _training("pool_rows", 80),
    _training("lengths", [2, 21]),
    _training("short_first_steps", 0),
    _training("peak_lr", 2e-3),
    _training("warmup_steps", 11),
    _training("final_lr_fraction", 0.03),
    _training("weight_decay", 0.0),
    _training("grad_clip", 2.0),
    _training("precision", "bfloat16"),
    _training("keep_steps", [20, 40]),
    _training("eval_every_steps", 30),
    _training("eval_rows", 65),
    _training("stop.accuracy", 0.5),
    _training("stop.patience_steps", 20),
    _tokens("seed", 1),
    _tokens("sequences", 330),
    _tokens("lengths", [4, 21]),
    _tokens("fit", [0, 95]),
    _tokens("train", [97, 224]),
    _tokens("eval", [225, 320]),
    Case(
        "cohorts.smoke-shared.activation_dtype",
        "float16",
        (below("smoke-shared", ANALYSIS), SAE_TABLES, PAGE),
        "the cohort's activations and all that follows",
    ),
    *(
        _sae(variant, key, value)
        for variant in ("relu-l1", "topk")
        for key, value in (
            ("steps", 41),
            ("batch_tokens", 127),
            ("lr", 3e-3),
            ("warmup_steps", 6),
            ("decay_steps", 11),
            ("grad_clip", 0.01),
            ("tied_init", variant == "relu-l1"),
            ("standardise", variant == "relu-l1"),
            ("inits", ["shared"]),
        )
    ),
    _sae("relu-l1", "l1", 2e-3),
    _sae("topk", "k", 7),
    _sae("topk", "aux_coefficient", 0.0),
    _sae("topk", "aux_k", 7),
    _sae("topk", "dead_after_tokens", 511),
    *(
        Case(
            f"dictionaries.{variant}.expansions",
            [2, 3],
            (
                below("[^/]*", "dictionaries", rf".*/{variant}-x3[-.].*"),
                below("[^/]*", "transfer"),
                below("[^/]*", "decoder_cosine"),
                SAE_TABLES,
                PAGE,
            ),
            "the new size's SAEs, transfer and cosines",
        )
        for variant in ("relu-l1", "topk")
    ),
    *(
        Case(
            f"dictionaries.{variant}.members",
            "anchor",
            (below("[^/]*", "decoder_cosine"), TABLES.format("dictionaries|decoder_cosine"), PAGE),
            "the cosines; SAEs of other members are no longer made, or are made anew",
        )
        for variant in ("relu-l1", "topk")
    ),
    Case(
        "transfer.pairs",
        "all",
        (
            below("smoke-shared", "maps|transfer|decoder_cosine", "seed1-seed.*"),
            below("smoke-independent", "maps|transfer|decoder_cosine", "seed101-seed.*"),
            TRANSFER_TABLES,
            PAGE,
        ),
        "the new pairs",
    ),
    Case(
        "transfer.resamples",
        101,
        (below("[^/]*", "transfer"), TABLES.format("transfer"), PAGE),
        "every transfer table; no map, no SAE",
    ),
]

# A tag decides which other keys there are: changing it alone is no valid configuration.
TAGS = {"cohorts.*.kind", "dictionaries.*.architecture"}


def leaf_of(case: Case) -> str:
    """The schema's leaf that a case changes."""
    return re.sub(r"^(cohorts|dictionaries)\.[^.]+\.", r"\1.*.", case.path)


def table() -> str:
    """The rerun table as Markdown, one row a leaf; equal rows of one block are joined."""
    rows: dict[str, list[str]] = {}
    for case in CASES:
        keys = rows.setdefault(case.reruns, [])
        leaf = leaf_of(case)
        if leaf not in keys:
            keys.append(leaf)
    lines = ["| edit this key | → these run again |", "|---|---|"]
    for reruns, keys in rows.items():
        lines += [f"| `{key}` | {reruns} |" for key in keys]
    lines += [
        f"| `{key}` | decides which other keys there are, so it changes with them: all that it names |"
        for key in sorted(TAGS)
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
