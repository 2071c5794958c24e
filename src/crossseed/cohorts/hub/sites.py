"""Sites of language models, under TransformerLens names `blocks.{layer}.{hook}`.

In models that normalise before each sublayer, with x the residual stream and + its sums:

    resid_pre -> + attn_out -> resid_mid -> + mlp_out -> resid_post

GPT-NeoX models may run both sublayers on resid_pre; then there is no resid_mid. BERT
normalises after each sum:

    resid_pre -> + attn_out -> resid_mid -> norm -> + mlp_out -> resid_post -> norm
    -> normalized_resid_post

The input of a block is the output of the one below, and goes by the latter's name alone, so
that no cell is trained or counted twice.
"""

from __future__ import annotations

import re

FAMILIES = {
    "gpt_neox": "gpt_neox",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "llama",
    "qwen3": "llama",
    "bert": "bert",
}
"""Models that are built alike, by transformers' `model_type`."""

NORMALIZED_POST = "hook_normalized_resid_post"
HOOKS = (
    "hook_resid_pre",
    "hook_attn_out",
    "hook_resid_mid",
    "hook_mlp_out",
    "hook_resid_post",
    NORMALIZED_POST,
)
"""In the order of the forward pass."""

_SITE = re.compile(rf"blocks\.(0|[1-9]\d*)\.({'|'.join(HOOKS)})")


def name(layer: int, hook: str) -> str:
    """The site of a layer and a hook."""
    return f"blocks.{layer}.{hook}"


def parse(site: str) -> tuple[int, str]:
    """Layer and hook of a site.

    Raises:
        ValueError: not the name of a site.
    """
    found = _SITE.fullmatch(site)
    if found is None:
        raise ValueError(
            f"{site!r} is no site of a language model; expected blocks.LAYER.HOOK with HOOK one "
            f"of {', '.join(HOOKS)}"
        )
    return int(found[1]), found[2]


def depth(site: str) -> tuple[int, int]:
    """Sorts sites by the order of the forward pass."""
    layer, hook = parse(site)
    return layer, HOOKS.index(hook)


def why_not(site: str, family: str, layers: int, parallel: bool) -> str | None:
    """Why a model has no such site, in a sentence with the remedy; None if it has.

    Args:
        site: the site asked for.
        family: a value of `FAMILIES`.
        layers: number of blocks of the model.
        parallel: whether attention and MLP both read the input of the block.
    """
    try:
        layer, hook = parse(site)
    except ValueError as error:
        return str(error)
    if layer >= layers:
        return f"{site!r} does not exist, there are layers 0 to {layers - 1}; name one of these"
    if hook == NORMALIZED_POST and family != "bert":
        return (
            f"{site!r} exists in BERT alone, which normalises after each sum; use "
            f"{name(layer, 'hook_resid_post')!r}"
        )
    if hook == "hook_resid_mid" and parallel:
        return (
            f"{site!r} does not exist, since attention and MLP of this model run in parallel; use "
            f"{name(layer, 'hook_attn_out')!r} or {name(layer, 'hook_resid_post')!r}"
        )
    if hook == "hook_resid_pre" and layer > 0:
        below = name(layer - 1, NORMALIZED_POST if family == "bert" else "hook_resid_post")
        return f"{site!r} is the same tensor as {below!r}; use that name"
    return None


def why_not_cut(site: str, family: str, layers: int) -> str | None:
    """Why a model cannot be cut at a site into what lies below it and what lies above, in a sentence with the
    remedy; None if it can: after a block that has another above it.

    Args:
        site: one that the model has. family, layers: see `why_not`.
    """
    layer, hook = parse(site)
    after = NORMALIZED_POST if family == "bert" else "hook_resid_post"
    if hook != after:
        return (
            f"{site!r} is within a block, and what lies above a site is cut off after a block; use "
            f"{name(layer, after)!r}"
        )
    if layer + 1 == layers:
        return (
            f"{site!r} is the output of its last block, so that there is no next one; use "
            f"{name(max(0, layer - 1), after)!r} or a lower one"
        )
    return None
