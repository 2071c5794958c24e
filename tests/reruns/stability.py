"""Keys of SAE seeds: what they share, mean and take over."""

from __future__ import annotations

from typing import Any

import yaml

from reruns.patterns import (
    INTERPRETED,
    PAGE,
    ROOT,
    SMOKE,
    SMOKE_LM,
    TABLES,
    UNBRIDGED,
    Case,
    below,
    each,
)


def scored_by(scorer: str, model: str) -> dict[str, Any]:
    """The explanation of latents in the smoke run, by a language model."""
    config = yaml.safe_load((ROOT / SMOKE).read_text())
    return {**config["stability"]["interpret"], "scorer": scorer, "model": model}


CASES = [
    Case(
        SMOKE,
        "stability.dictionaries",
        ["relu-l1", "jump"],
        (TABLES.format("dictionaries|stability|claims"), PAGE),
        "SAEs of a new variant's seeds, and what they share; the tables",
    ),
    Case(
        SMOKE,
        "stability.seeds",
        4,
        (
            below("[^/]*", "dictionaries", r".*/[a-z0-9-]+-x2-seed4.*"),
            # Their tables of latents are new, and so all that reads them.
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"dictionaries|stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "SAEs of the new seed, and what all seeds share",
    ),
    Case(
        SMOKE,
        "stability.members",
        "all",
        (
            below("[^/]*", "dictionaries", rf"seed1(?:01)?/.*/{UNBRIDGED}-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", rf"seed1(?:01)?/.*/{UNBRIDGED}.*"),
            TABLES.format("dictionaries|stability|claims"),
            PAGE,
        ),
        "SAE seeds of the members that are new to them",
    ),
    Case(
        SMOKE,
        "stability.sites",
        ["blocks.0.hook_resid_pre"],
        (
            below(
                "[^/]*", "dictionaries", r".*/blocks\.0\.hook_resid_pre/.*-x2-(?:seed|shuffled)\d.*"
            ),
            below("[^/]*", "stability"),
            TABLES.format(f"dictionaries|stability|calibration|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "SAE seeds of the new site",
    ),
    Case(
        SMOKE,
        "stability.threshold",
        0.6,
        (
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "what SAE seeds share, of one member and of two, and how well their latents are explained",
    ),
    Case(
        SMOKE,
        "stability.shuffled",
        False,
        (
            # Tables of single latents are written with the others, so that their readers follow.
            below("[^/]*", "stability", r".*-x2(?:-latents\.csv|\.csv|-interpret.*)"),
            TABLES.format(f"dictionaries|stability|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "what SAE seeds share, without that null",
    ),
    Case(
        SMOKE,
        "stability.bridge.dictionaries",
        ["relu-l1", "jump"],
        (
            below("[^/]*", "dictionaries", r"seed1(?:01)?/.*/jump-x2-.*"),
            below("[^/]*", "stability", r"(?:seed1(?:01)?|seed\d+-seed\d+)/.*/jump-x2.*"),
            TABLES.format("dictionaries|stability|bridge|claims"),
            PAGE,
        ),
        "SAE seeds of the variant on the other members, and what they share",
    ),
    Case(
        SMOKE,
        "stability.bridge.seeds",
        3,
        (
            below("[^/]*", "stability", r"seed\d+-seed\d+/.*"),
            TABLES.format("bridge"),
            PAGE,
        ),
        "what SAE seeds of two members share",
    ),
    *each(
        SMOKE,
        "stability.interpret",
        (
            (".latents", 5),
            (".tokens", 3000),
            (".context", 5),
            (".train_examples", 4),
            (".test_examples", 19),
            (".least_windows", 9),
            (".order", 2),
            (".sides", "both"),
            (".embeddings", "sentences"),
            ("", scored_by("openai", "a-model")),
        ),
        (below("[^/]*", "stability", r".*-interpret.*"), TABLES.format(INTERPRETED), PAGE),
        "the explanation of latents of SAE seeds",
    ),
    Case(
        SMOKE,
        "stability.interpret.dictionaries",
        ["relu-l1", "topk"],
        (
            below("[^/]*", "stability", r".*/topk-x2-interpret.*"),
            TABLES.format(INTERPRETED),
            PAGE,
        ),
        "the explanation of latents of the new variant",
    ),
    *each(
        SMOKE_LM,
        "stability.absorption.",
        (
            ("letters_min_tokens", 3),
            ("rows", 31),
            ("permutations", 2),
            ("k", 3),
            ("jump", 0.02),
            ("probe_f1", 0.01),
            ("cosine", 0.03),
            ("share", 0.5),
        ),
        (
            below("[^/]*", "stability", r".*-absorption\.csv"),
            TABLES.format("absorption"),
            PAGE,
        ),
        "first letters in SAE seeds",
    ),
    *each(
        SMOKE,
        "stability.matched.",
        (("l0", 21), ("steps", 11), ("runs", 4)),
        (
            below("[^/]*", "dictionaries", r".*/relu-l1-x2-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", r".*/relu-l1-x2.*"),
            TABLES.format(f"dictionaries|stability|calibration|bridge|{INTERPRETED}|claims"),
            PAGE,
        ),
        "the calibration, and all SAE seeds it is of",
    ),
    Case(
        SMOKE,
        "stability.matched.dictionaries",
        ["relu-l1", "jump"],
        (
            below("[^/]*", "dictionaries", r".*/jump-x2-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", r".*/jump-x2.*"),
            TABLES.format("dictionaries|stability|calibration|claims"),
            PAGE,
        ),
        "the calibration of the new variant, and its SAE seeds",
    ),
    *each(
        SMOKE,
        "dictionaries.jump.",
        (("l0", 2e-3), ("bandwidth", 0.4), ("threshold", 0.4)),
        (
            below("[^/]*", "dictionaries", r".*/jump-x2-(?:seed|shuffled)\d.*"),
            below("[^/]*", "stability", r".*/jump-x2.*"),
            TABLES.format("dictionaries|stability|claims"),
            PAGE,
        ),
        "that variant's SAE seeds, and what they share",
    ),
]
