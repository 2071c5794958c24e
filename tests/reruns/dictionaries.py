"""Keys of dictionaries."""

from __future__ import annotations

from typing import Any

from reruns.patterns import DRIFT_TABLE, INTERPRETED, PAGE, SAE_TABLES, SMOKE, TABLES, Case, below


def sae(variant: str, key: str, value: Any) -> Case:
    # Of the two variants, drift, ports and single latents are of the TopK one, the published recipe is
    # the other.
    also = (
        (
            below("[^/]*", "drift"),
            below("[^/]*", "ports|features"),
            DRIFT_TABLE,
            TABLES.format("ports|features"),
        )
        if variant == "topk"
        else (below("[^/]*", "published"), TABLES.format("published"))
    )
    if key != "inits":
        # Seeds have starts of their own; the penalty of one variant's is calibrated.
        also += (
            below("[^/]*", "stability", rf".*/{variant}-x2.*"),
            TABLES.format(
                "stability|claims"
                if variant == "topk"
                else f"stability|calibration|bridge|{INTERPRETED}|claims"
            ),
        )
    return Case(
        SMOKE,
        f"dictionaries.{variant}.{key}",
        value,
        (
            below(
                "[^/]*",
                "dictionaries",
                rf".*/{variant}-x2[-.]{'(?!seed|shuffled)' if key == 'inits' else ''}.*",
            ),
            below("[^/]*", "transfer|splice|decoder_cosine"),
            SAE_TABLES,
            PAGE,
            *also,
        ),
        "that variant's SAEs, transfer, splicing and cosines, and drift, ports and single latents where "
        "they are of it; no other variant, no map",
    )


CASES = [
    *(
        sae(variant, key, value)
        for variant in ("relu-l1", "topk")
        for key, value in (
            ("steps", 41),
            ("batch_tokens", 127),
            ("lr", 3e-3),
            ("lr_latents", 16),
            ("warmup_steps", 6),
            ("decay_steps", 11),
            ("grad_clip", 0.01),
            ("tied_init", variant == "relu-l1"),
            ("absorb_norms", False),
            ("standardise", variant == "relu-l1"),
            ("inits", ["shared"]),
        )
    ),
    sae("relu-l1", "l1", 2e-3),
    sae("topk", "k", 7),
    sae("topk", "aux_coefficient", 0.0),
    sae("topk", "aux_k", 7),
    sae("topk", "dead_after_tokens", 511),
    *(
        Case(
            SMOKE,
            f"dictionaries.{variant}.expansions",
            [2, 3],
            (
                below("[^/]*", "dictionaries", rf".*/{variant}-x3[-.].*"),
                below("[^/]*", "stability", rf".*/{variant}-x3.*"),
                TABLES.format(
                    "stability|claims"
                    if variant == "topk"
                    else f"stability|calibration|bridge|{INTERPRETED}|claims"
                ),
                below("[^/]*", "transfer|splice|decoder_cosine"),
                SAE_TABLES,
                PAGE,
                *(
                    (
                        below("[^/]*", "drift"),
                        below("[^/]*", "ports", r".*/topk-x3-.*"),
                        DRIFT_TABLE,
                        TABLES.format("ports"),
                    )
                    if variant == "topk"
                    else (below("[^/]*", "published"), TABLES.format("published"))
                ),
            ),
            "the new size's SAEs, transfer, splicing and cosines, its ports, and drift or the published "
            "protocol where they try them",
        )
        for variant in ("relu-l1", "topk")
    ),
    *(
        Case(
            SMOKE,
            f"dictionaries.{variant}.members",
            "anchor",
            (
                below("[^/]*", "decoder_cosine"),
                TABLES.format("dictionaries|decoder_cosine|claims"),
                PAGE,
                *(
                    (
                        below("[^/]*", "drift", r"seed1(?:01)?(?:/.*|\.csv)"),
                        below("[^/]*", "ports|features"),
                        DRIFT_TABLE,
                        TABLES.format("ports|features"),
                    )
                    if variant == "topk"
                    else ()
                ),
            ),
            "the cosines, and drift, ports and single latents where they are of that variant; SAEs of other "
            "members are no longer made, or are made anew",
        )
        for variant in ("relu-l1", "topk")
    ),
]
