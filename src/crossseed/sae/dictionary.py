"""A trained dictionary: its arrays, its arithmetic in NumPy, and its SAELens folder.

The folder holds `cfg.json` and `sae_weights.safetensors` under SAELens's names and shapes,
so that SAELens loads it without this project. Provenance lies under `metadata.crossseed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crossseed.errors import UserError
from crossseed.sae.architectures import module_of, names
from crossseed.store import REMEDY, canonical_json, read_tensors, write_tensors, write_text

SCHEMA = "sae/1"
# The version of SAELens's format that is written.
FORMAT = "6.0.0"
CFG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
# Arrays of each of SAELens's architectures beside W_enc, W_dec and b_dec, one value a latent.
PER_LATENT = {
    "standard": ("b_enc",),
    "topk": ("b_enc",),
    "jumprelu": ("b_enc", "threshold"),
    "gated": ("b_gate", "r_mag", "b_mag"),
}


class Dictionary(NamedTuple):
    """One SAE.

    Attributes:
        W_enc: (width, latents). b_enc: (latents,). W_dec: (latents, width). b_dec: (width,).
        cfg: content of SAELens's cfg.json.
        digest: digest of the weight file.
        more: what an architecture has beside these, one value a latent: thresholds, gates.
    """

    W_enc: np.ndarray
    b_enc: np.ndarray
    W_dec: np.ndarray
    b_dec: np.ndarray
    cfg: dict[str, Any]
    digest: str = ""
    more: Mapping[str, np.ndarray] = MappingProxyType({})

    def encode(self, x_nd: np.ndarray) -> np.ndarray:
        """Latents of activations: (tokens, width) to (tokens, latents)."""
        centred = x_nd - self.b_dec if self.cfg.get("apply_b_dec_to_input", True) else x_nd
        pre = centred @ self.W_enc
        pre += self.b_enc
        architecture = self.cfg["metadata"]["crossseed"]["architecture"]
        latents: np.ndarray = module_of(architecture).activate(pre, self.cfg, self.more)
        return latents

    def decode(self, h_nf: np.ndarray) -> np.ndarray:
        """Reconstruction from latents: (tokens, latents) to (tokens, width)."""
        return h_nf @ self.W_dec + self.b_dec

    def unit_decoder(self) -> np.ndarray:
        """Decoder rows of length 1, (latents, width)."""
        rows: np.ndarray = self.W_dec / np.linalg.norm(self.W_dec, axis=1, keepdims=True)
        return rows


def cfg_of(config: Any, expansion: int, width: int, site: str) -> dict[str, Any]:
    """Content of SAELens's cfg.json for a variant, without provenance."""
    own = module_of(config.architecture).saelens_fields(config)
    return saelens_cfg(width, expansion * width, own, site, {"architecture": config.architecture})


def saelens_cfg(
    width: int,
    n_latents: int,
    fields: Mapping[str, Any],
    site: str | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Content of SAELens's cfg.json.

    Args:
        fields: ``architecture`` and its own keys; they win over the defaults.
        site: where it reads and writes, in TransformerLens's words.
        about: kept as ``metadata.crossseed``.
    """
    # Without a version SAELens takes the folder for one of before 6.0, and drops the metadata.
    metadata = {"hook_name": site, "sae_lens_version": FORMAT, "crossseed": dict(about)}
    return {
        "d_in": width,
        "d_sae": n_latents,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **fields,
        "metadata": metadata,
    }


def save(
    folder: Path,
    arrays: dict[str, np.ndarray],
    cfg: dict[str, Any],
    spec: dict[str, Any],
    inputs: dict[str, str],
) -> None:
    """Writes the folder; `cfg.json` last, so that a folder with one is whole."""
    own = {**cfg["metadata"]["crossseed"], "spec": spec, "inputs": inputs}
    cfg = {**cfg, "metadata": {**cfg["metadata"], "crossseed": own}}
    write_tensors(folder / WEIGHTS, arrays, SCHEMA, {"cfg": canonical_json(cfg)}, inputs)
    write_text(folder / CFG, json.dumps(cfg, indent=2, sort_keys=True) + "\n")


def load(folder: Path) -> Dictionary:
    """A dictionary written by `save`.

    Raises:
        UserError: missing, damaged or edited, or of an unknown architecture.
    """
    folder = Path(folder)
    arrays, header = read_tensors(folder / WEIGHTS, SCHEMA)
    try:
        cfg = json.loads((folder / CFG).read_text(encoding="utf-8"))
        architecture = cfg["metadata"]["crossseed"]["architecture"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / CFG}: missing or not a crossseed cfg.json; {REMEDY}") from error
    if canonical_json(cfg) != header.spec["cfg"]:
        raise UserError(f"{folder / CFG}: does not belong to {WEIGHTS} beside it; {REMEDY}")
    if architecture not in names():
        raise UserError(f"{folder}: unknown architecture {architecture!r}; known: {names()}")
    width, n = cfg["d_in"], cfg["d_sae"]
    own = PER_LATENT[cfg["architecture"]]
    shapes = {"W_enc": (width, n), "W_dec": (n, width), "b_dec": (width,)}
    shapes |= dict.fromkeys(own, (n,))
    for name, shape in shapes.items():
        if name not in arrays or arrays[name].shape != shape:
            raise UserError(f"{folder / WEIGHTS}: {name} is not of shape {shape}; {REMEDY}")
    return of_arrays(arrays, cfg, header.digest)


def of_arrays(
    arrays: Mapping[str, np.ndarray], cfg: dict[str, Any], digest: str = ""
) -> Dictionary:
    """A dictionary of its arrays under SAELens's names and its cfg.json."""
    W_enc, W_dec, b_dec = (arrays[name] for name in ("W_enc", "W_dec", "b_dec"))
    b_enc = arrays.get("b_enc", np.zeros(W_enc.shape[1], np.float32))
    more = {name: arrays[name] for name in PER_LATENT[cfg["architecture"]] if name != "b_enc"}
    return Dictionary(W_enc, b_enc, W_dec, b_dec, cfg, digest, more)
