"""sparsify: `cfg.json` beside `sae.safetensors`, in a folder named after the place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from crossseed.sae.formats.foreign import Foreign, not_ported, read_arrays

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"

# What sparsify and transformers call the stack of blocks, and what they call places in a block.
_STACKS = r"(?:layers|h|layer)"
_PLACES = {
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attention": "hook_attn_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
}


def read(config: Path, weights: Path, cfg: dict[str, Any]) -> Foreign:
    """The dictionary as it is said there; shapes are checked by `foreign.checked`.

    Raises:
        UserError: a transcoder, a skip connection, signed latents, another activation; or an array lacks.
    """
    for key, fine in (("transcode", False), ("skip_connection", False), ("signed", False)):
        if cfg.get(key, fine) != fine:
            raise not_ported(config, f"{key} = {cfg[key]!r}")
    if cfg.get("activation", "topk") != "topk":
        raise not_ported(config, f"activation {cfg['activation']!r}")
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    arrays = read_arrays(weights, names)
    found = {
        "W_enc": arrays["encoder.weight"].T,
        "b_enc": arrays["encoder.bias"],
        "W_dec": arrays["W_dec"],
        "b_dec": arrays["b_dec"],
    }
    place = re.fullmatch(rf"{_STACKS}\.(\d+)(?:\.(\w+))?", config.parent.name)
    hook = _PLACES.get(place[2] or "") if place else None
    site = f"blocks.{place[1]}.{hook}" if place and hook else None
    return Foreign(found, "topk", True, cfg.get("k"), site, "sparsify")
