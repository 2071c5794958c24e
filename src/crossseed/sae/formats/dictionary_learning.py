"""dictionary_learning: `config.json` beside `ae.pt`; one converter a class of dictionaries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.sae.formats.foreign import Arrays, Foreign, not_ported, read_arrays, row_lengths

CONFIG, WEIGHTS = "config.json", "ae.pt"
Converted = tuple[Arrays, str, bool]


def _linear(arrays: Arrays, b_dec: str) -> Arrays:
    """Of torch's linear layers, whose weights are (out, in)."""
    found = {
        "W_enc": arrays["encoder.weight"].T,
        "W_dec": arrays["decoder.weight"].T,
        "b_dec": arrays[b_dec],
    }
    return found | ({"b_enc": arrays["encoder.bias"]} if "encoder.bias" in arrays else {})


def _threshold(arrays: Arrays, n: int) -> np.ndarray:
    """One threshold a latent; a negative one stands for not yet set, and lets everything through."""
    return np.broadcast_to(np.maximum(arrays["threshold"], 0), (n,)).copy()


def _gated(arrays: Arrays) -> Converted:
    # Its latents are scaled by the length of their decoder rows, and divided by it again when decoded.
    found = _linear(arrays, "decoder_bias")
    norm = row_lengths(found["W_dec"])
    found |= {
        "W_dec": found["W_dec"] / norm[:, None],
        "b_gate": arrays["gate_bias"],
        "r_mag": arrays["r_mag"] + np.log(norm),
        "b_mag": arrays["mag_bias"] * norm,
    }
    return found, "gated", True


def _jumprelu(arrays: Arrays) -> Converted:
    norm = row_lengths(arrays["W_dec"])
    found = {
        "W_enc": arrays["W_enc"] * norm,
        "b_enc": arrays["b_enc"] * norm,
        "threshold": _threshold(arrays, len(norm)) * norm,
        "W_dec": arrays["W_dec"] / norm[:, None],
        "b_dec": arrays["b_dec"],
    }
    return found, "jumprelu", False


def _batch_topk(arrays: Arrays) -> Converted:
    found = _linear(arrays, "b_dec")
    found["threshold"] = _threshold(arrays, len(found["b_enc"]))
    return found, "jumprelu", True


def _matryoshka(arrays: Arrays) -> Converted:
    found = {name: arrays[name] for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
    found["threshold"] = _threshold(arrays, len(found["b_enc"]))
    return found, "jumprelu", True


_LAYERS = ("encoder.weight", "encoder.bias", "decoder.weight")
_CLASSES: Mapping[str, tuple[tuple[str, ...], Callable[[Arrays], Converted]]] = {
    "AutoEncoder": ((*_LAYERS, "bias"), lambda a: (_linear(a, "bias"), "standard", True)),
    "AutoEncoderNew": (
        (*_LAYERS, "decoder.bias"),
        lambda a: (_linear(a, "decoder.bias"), "standard", False),
    ),
    "AutoEncoderTopK": ((*_LAYERS, "b_dec"), lambda a: (_linear(a, "b_dec"), "topk", True)),
    "BatchTopKSAE": ((*_LAYERS, "b_dec", "threshold"), _batch_topk),
    "MatryoshkaBatchTopKSAE": (("W_enc", "b_enc", "W_dec", "b_dec", "threshold"), _matryoshka),
    "GatedAutoEncoder": (
        (
            *("encoder.weight", "decoder.weight", "decoder_bias"),
            *("r_mag", "gate_bias", "mag_bias"),
        ),
        _gated,
    ),
    "JumpReluAutoEncoder": (("W_enc", "b_enc", "W_dec", "b_dec", "threshold"), _jumprelu),
}


def read(config: Path, weights: Path, cfg: dict[str, Any]) -> Foreign:
    """The dictionary as it is said there; shapes are checked by `foreign.checked`.

    Raises:
        UserError: an unknown class; or an array lacks.
    """
    trainer = cfg.get("trainer") or {}
    kind = trainer.get("dict_class")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise not_ported(config, f"dict_class {kind!r}")
    needs, convert = _CLASSES[kind]
    arrays = read_arrays(weights, needs)
    found, architecture, apply_b_dec = convert(arrays)
    k = None
    if architecture == "topk":
        k = int(arrays["k"]) if "k" in arrays else trainer.get("k")
    layer, submodule = trainer.get("layer"), trainer.get("submodule_name") or ""
    hook = next((h for h in ("resid_post", "mlp_out", "attn_out") if h in submodule), None)
    site = f"blocks.{layer}.hook_{hook}" if isinstance(layer, int) and hook else None
    return Foreign(found, architecture, apply_b_dec, k, site, "dictionary_learning")
