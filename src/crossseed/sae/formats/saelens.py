"""SAELens: `cfg.json` beside `sae_weights.safetensors`, also as versions before 6 wrote them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crossseed.errors import UserError
from crossseed.sae.dictionary import PER_LATENT
from crossseed.sae.formats.foreign import Foreign, not_ported, read_arrays, row_lengths

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"


def read(config: Path, weights: Path, cfg: dict[str, Any]) -> Foreign:
    """The dictionary as it is said there; shapes are checked by `foreign.checked`.

    Raises:
        UserError: an activation, an architecture or a scaling that cannot be ported; or an array lacks.
    """
    metadata = cfg.get("metadata") or {}
    architecture = cfg.get("architecture", "standard")
    # Before version 6 a TopK dictionary was a standard one with another activation.
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
    options = cfg.get("activation_fn_kwargs") or {}
    k = cfg.get("k", options.get("k"))
    if architecture == "standard" and activation == "topk":
        architecture = "topk"
    elif activation not in {"relu", "topk"}:
        raise not_ported(config, f"activation {activation!r}")
    if architecture not in PER_LATENT:
        raise not_ported(config, f"architecture {architecture!r}")
    for key, fine in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if (cfg.get(key) or "none") != fine:
            raise UserError(
                f"{config}: {key} = {cfg[key]!r}; only dictionaries of plain activations can be ported. "
                "Fold the scaling into the weights with SAELens, and save again"
            )
    if cfg.get("finetuning_scaling_factor"):
        raise UserError(
            f"{config}: finetuning_scaling_factor is set; fold it into W_dec, and save again"
        )
    site = metadata.get("hook_name", cfg.get("hook_name", cfg.get("hook_point")))
    if "reshape_activations" not in cfg and "hook_z" in (site or ""):
        raise not_ported(config, f"a dictionary of {site}, whose heads SAELens puts side by side,")
    names = ("W_enc", "W_dec", "b_dec", *PER_LATENT[architecture])
    arrays = read_arrays(weights, names)
    kept = {name: arrays[name] for name in names}
    if cfg.get("rescale_acts_by_decoder_norm") and architecture == "topk":
        # Latents are picked by their share of the output: the same with decoder rows of length 1.
        norm = row_lengths(kept["W_dec"])
        kept |= {
            "W_enc": kept["W_enc"] * norm,
            "b_enc": kept["b_enc"] * norm,
            "W_dec": kept["W_dec"] / norm[:, None],
        }
    apply_b_dec = bool(cfg.get("apply_b_dec_to_input", True))
    spec = (metadata.get("crossseed") or {}).get("spec") or {}
    return Foreign(kept, architecture, apply_b_dec, k, site, "SAELens", spec)
