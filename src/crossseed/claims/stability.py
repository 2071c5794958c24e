"""How the claims on SAEs of several seeds are measured (arXiv 2501.16615).

A claim's name ends in the variant it is about, where that is not the run's own: ``dual-k64`` is measured on the
dictionary ``topk-k64`` of a run whose ``claims.dictionary`` is a ``topk``. Pairs are SAE seeds of one member.
"""

from __future__ import annotations

import pandas as pd

from crossseed.claims.cells import Cells, Values, Wiring, none
from crossseed.dictionary_names import name_of, parts_of

ALL, LIVE = "all", "live"


def _pairs(quantity: str, part: str, variant: str, value: str = "value") -> Values:
    def rows(c: Cells) -> pd.DataFrame:
        return c.of_sae_seeds(_dictionary(c, variant), quantity=quantity, part=part, value=value)

    return rows


def _dictionary(c: Cells, variant: str) -> str:
    """The run's own, or what the study compares with it."""
    own, expansion = parts_of(c.dictionary)
    if variant:
        own = variant if variant in ARCHITECTURES else f"{own}-{variant}"
    return name_of(own, expansion)


def _of_two(quantity: str, variant: str) -> Wiring:
    """Of all latents as they stand, as published; of those that fire, with encoders on data, as it should be."""
    rigorous = ON_DATA.get(quantity, quantity)
    weighed = ", encoders weighed by the covariance of activations" if quantity in ON_DATA else ""
    return Wiring(
        _pairs(quantity, ALL, variant),
        _pairs(rigorous, LIVE, variant),
        # Random directions share next to nothing, whatever is published: no control.
        _pairs(rigorous, LIVE, variant, "shuffled"),
        "falls",
        f"of latents that fire{weighed}; against SAEs trained on shuffled features",
        "SAEs of several seeds of that size and variant",
    )


def _together(quantity: str, part: str) -> Wiring:
    """Of all SAE seeds: of all latents with a partner for the decoder and one for the encoder, as published; and of latents
    that fire, with one partner for both, encoders on data.

    Args:
        quantity: with braces where its name says which of the two it is.
    """
    published, rigorous = quantity.format("_published"), quantity.format("")
    return Wiring(
        lambda c: c.of_all_sae_seeds(c.dictionary, quantity=published, part=part),
        lambda c: c.of_all_sae_seeds(c.dictionary, quantity=rigorous, part=part),
        none,
        "never",
        "membership by explicit pairs, of latents that fire, encoders weighed by the covariance of activations",
        "as many SAE seeds",
    )


OF_BOTH = ("dual", "agree", "pw_mcc", "encoder_mcc", "mmcs")
# By variant, what the study printed of it: its own, other k and lengths, and at their own names other architectures.
ARCHITECTURES = ("relu", "gated", "topk")
PRINTED = {
    "": (*OF_BOTH, "strict", "dec", "encoder_mmcs"),
    **dict.fromkeys(("k64", "k128", "k256", "short", "long"), OF_BOTH),
    **dict.fromkeys(ARCHITECTURES, ("dec", "agree")),
}
ON_DATA = {
    "agree": "agree_on_data",
    "dual": "strict_on_data",
    "strict": "strict_on_data",
    "encoder_mcc": "encoder_mcc_on_data",
}


def _name(quantity: str, variant: str) -> str:
    return "-".join(["sae-seeds", quantity.replace("_", "-"), *([variant] if variant else [])])


WIRED: dict[str, Wiring] = {
    **{
        _name(quantity, variant): _of_two(quantity, variant)
        for variant, quantities in PRINTED.items()
        for quantity in quantities
    },
    **{f"sae-seeds-alone-{k}": _together("alone{}", str(k)) for k in range(2, 10)},
    **{f"sae-seeds-in-exactly-{k}": _together("in_exactly{}", str(k)) for k in range(1, 10)},
    **{f"sae-seeds-decay-{name}": _together("decay{}_offset", name) for name in ("a", "b", "c")},
    "sae-seeds-cycle": _together("cycle{}", "decoder"),
    "sae-seeds-cycle-agree": _together("cycle{}", "agree"),
}
