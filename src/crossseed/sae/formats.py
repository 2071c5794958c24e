"""Dictionaries that other tools wrote, as SAELens has them.

Folders of SAELens (`cfg.json`, `sae_weights.safetensors`), sparsify (`cfg.json`, `sae.safetensors`) and
dictionary_learning (`config.json`, `ae.pt`), on disk or in a repository of the hub, are turned into
SAELens's names and shapes with the same latents and the same reconstruction. What cannot be said in
these is refused, not approximated.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crossseed.errors import UserError
from crossseed.sae.dictionary import CFG, PER_LATENT, WEIGHTS, Dictionary, of_arrays, saelens_cfg
from crossseed.store import canonical_json, write_tensors, write_text

# Of ported folders, which stand in no cell of the workflow.
SCHEMA = "ported-sae/1"
Arrays = dict[str, np.ndarray]
FILES = ("cfg.json", "sae_weights.safetensors", "sae.safetensors", "config.json", "ae.pt")
SUPPORTED = (
    "SAELens: standard, topk, jumprelu, gated; sparsify: TopK autoencoders; dictionary_learning: "
    "AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder, AutoEncoderTopK, BatchTopKSAE, "
    "MatryoshkaBatchTopKSAE"
)


class Foreign(NamedTuple):
    """A dictionary in SAELens's terms.

    Attributes:
        arrays: W_enc (d, latents), W_dec (latents, d), b_dec (d,), and those of `PER_LATENT`, float32.
        architecture: one of `PER_LATENT`.
        apply_b_dec_to_input: whether b_dec is taken off the input.
        k: latents a token of ``topk``; None otherwise.
        site: where it was trained, in TransformerLens's words; None if the folder does not say.
        origin: the tool that wrote it.
        spec: what this project trained it from; empty for others.
    """

    arrays: Arrays
    architecture: str
    apply_b_dec_to_input: bool
    k: int | None
    site: str | None
    origin: str
    spec: Mapping[str, Any] = MappingProxyType({})


def read(folder: Path) -> Foreign:
    """The dictionary in a folder.

    Raises:
        UserError: no such folder, of no known tool, damaged, or of an unknown architecture.
    """
    folder = Path(folder)
    for config, weights, reader in (
        ("cfg.json", "sae_weights.safetensors", _saelens),
        ("cfg.json", "sae.safetensors", _sparsify),
        ("config.json", "ae.pt", _dictionary_learning),
    ):
        if (folder / config).is_file() and (folder / weights).is_file():
            found = reader(folder, _json(folder / config))
            return _checked(folder / weights, found)
    what = "does not exist" if not folder.is_dir() else "holds no dictionary of a known tool"
    raise UserError(
        f"{folder}: {what}; expected cfg.json with sae_weights.safetensors (SAELens) or sae.safetensors "
        "(sparsify), or config.json with ae.pt (dictionary_learning)"
    )


def canonical(site: str) -> str:
    """One name for one place: what a block gets is what the block before it leaves."""
    found = re.fullmatch(r"blocks\.([1-9]\d*)\.hook_resid_pre", site)
    return f"blocks.{int(found[1]) - 1}.hook_resid_post" if found else site


def fetch(name: str) -> Path:
    """The folder of ``org/repository[@revision][:folder]`` on the hub, downloaded or from its cache;
    only the files that make a dictionary.

    Raises:
        UserError: not of that form, or the hub does not give it.
    """
    part = r"\w[\w.-]*"
    found = re.fullmatch(rf"({part}/{part})(?:@([\w./-]+))?(?::([\w./-]+))?", name)
    if not found:
        raise UserError(
            f"{name!r} is neither a folder nor a name on the hub like org/repository@revision:folder"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository, revision, inside = found.groups()
    if any(".." in (part or "").split("/") for part in (revision, inside)):
        raise UserError(f"{name!r} leads out of the repository by '..'; name a folder in it")
    try:
        root = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=[f"{inside}/{name}" if inside else name for name in FILES],
        )
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        first = str(error).strip().split("\n")[0]
        raise UserError(
            f"{name}: the hub does not give it ({type(error).__name__}: {first}); check the name, your "
            "access and the network, or download the folder and name it"
        ) from error
    return Path(root) / (inside or "")


def commit_of(folder: Path) -> str | None:
    """The commit of a folder that `fetch` gave; None for any other."""
    parts = folder.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts[:-1] else None


def cfg_of(found: Foreign, site: str | None, about: Mapping[str, Any]) -> dict[str, Any]:
    """Content of SAELens's cfg.json; `about` goes to the project's own part of its metadata."""
    fields: dict[str, Any] = {
        "architecture": found.architecture,
        "apply_b_dec_to_input": found.apply_b_dec_to_input,
    }
    if found.k is not None:
        fields |= {"k": found.k, "rescale_acts_by_decoder_norm": False}
    module = "relu_l1" if found.architecture == "standard" else found.architecture
    width, latents = found.arrays["W_enc"].shape
    return saelens_cfg(width, latents, fields, site, {"architecture": module, **about})


def dictionary_of(found: Foreign) -> Dictionary:
    """The dictionary, ready to encode and decode."""
    return of_arrays(found.arrays, cfg_of(found, found.site, {}))


def save(
    folder: Path,
    found: Foreign,
    dictionary: Dictionary,
    site: str,
    spec: Mapping[str, Any],
    ported: Mapping[str, Any],
    inputs: Mapping[str, str],
) -> None:
    """A SAELens folder of a dictionary that was made from `found`, its cfg.json last.

    Args:
        spec: the member that it is of now.
        ported: where it comes from, and what it is worth; both go to the project's part of the
            metadata.
        inputs: digests, or names of what it was made from.
    """
    names = ("W_enc", "W_dec", "b_dec", "b_enc")
    arrays = {name: getattr(dictionary, name) for name in names} | dict(dictionary.more)
    kept = {name: arrays[name] for name in found.arrays}
    cfg = cfg_of(found, site, {"spec": dict(spec), "ported": dict(ported)})
    write_tensors(folder / WEIGHTS, kept, SCHEMA, {"cfg": canonical_json(cfg)}, inputs)
    write_text(folder / CFG, json.dumps(cfg, indent=2, sort_keys=True) + "\n")


# --- one function a tool ------------------------------------------------------------------


def _saelens(folder: Path, cfg: dict[str, Any]) -> Foreign:
    path = folder / "cfg.json"
    metadata = cfg.get("metadata") or {}
    architecture = cfg.get("architecture", "standard")
    # Before version 6 a TopK dictionary was a standard one with another activation.
    activation = cfg.get("activation_fn", cfg.get("activation_fn_str", "relu"))
    options = cfg.get("activation_fn_kwargs") or {}
    k = cfg.get("k", options.get("k"))
    if architecture == "standard" and activation == "topk":
        architecture = "topk"
    elif activation not in {"relu", "topk"}:
        raise _unknown(path, f"activation {activation!r}")
    if architecture not in PER_LATENT:
        raise _unknown(path, f"architecture {architecture!r}")
    for key, fine in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if (cfg.get(key) or "none") != fine:
            raise UserError(
                f"{path}: {key} = {cfg[key]!r}; only dictionaries of plain activations can be ported. "
                "Fold the scaling into the weights with SAELens, and save again"
            )
    if cfg.get("finetuning_scaling_factor"):
        raise UserError(
            f"{path}: finetuning_scaling_factor is set; fold it into W_dec, and save again"
        )
    site = metadata.get("hook_name", cfg.get("hook_name", cfg.get("hook_point")))
    if "reshape_activations" not in cfg and "hook_z" in (site or ""):
        raise _unknown(path, f"a dictionary of {site}, whose heads SAELens puts side by side,")
    names = ("W_enc", "W_dec", "b_dec", *PER_LATENT[architecture])
    arrays = _arrays(folder / "sae_weights.safetensors", names)
    kept = {name: arrays[name] for name in names}
    if cfg.get("rescale_acts_by_decoder_norm") and architecture == "topk":
        # Latents are picked by their share of the output: the same with decoder rows of length 1.
        norm = _norms(kept["W_dec"])
        kept |= {
            "W_enc": kept["W_enc"] * norm,
            "b_enc": kept["b_enc"] * norm,
            "W_dec": kept["W_dec"] / norm[:, None],
        }
    apply_b_dec = bool(cfg.get("apply_b_dec_to_input", True))
    spec = (metadata.get("crossseed") or {}).get("spec") or {}
    return Foreign(kept, architecture, apply_b_dec, k, site, "SAELens", spec)


# What sparsify and transformers call the stack of blocks, and what they call places in a block.
_STACKS = r"(?:layers|h|layer)"
_PLACES = {
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "attention": "hook_attn_out",
    "attn": "hook_attn_out",
    "self_attn": "hook_attn_out",
}


def _sparsify(folder: Path, cfg: dict[str, Any]) -> Foreign:
    path = folder / "cfg.json"
    for key, fine in (("transcode", False), ("skip_connection", False), ("signed", False)):
        if cfg.get(key, fine) != fine:
            raise _unknown(path, f"{key} = {cfg[key]!r}")
    if cfg.get("activation", "topk") != "topk":
        raise _unknown(path, f"activation {cfg['activation']!r}")
    names = ("encoder.weight", "encoder.bias", "W_dec", "b_dec")
    arrays = _arrays(folder / "sae.safetensors", names)
    found = {
        "W_enc": arrays["encoder.weight"].T,
        "b_enc": arrays["encoder.bias"],
        "W_dec": arrays["W_dec"],
        "b_dec": arrays["b_dec"],
    }
    place = re.fullmatch(rf"{_STACKS}\.(\d+)(?:\.(\w+))?", folder.name)
    hook = _PLACES.get(place[2] or "") if place else None
    site = f"blocks.{place[1]}.{hook}" if place and hook else None
    return Foreign(found, "topk", True, cfg.get("k"), site, "sparsify")


def _dictionary_learning(folder: Path, cfg: dict[str, Any]) -> Foreign:
    path, weights = folder / "config.json", folder / "ae.pt"
    trainer = cfg.get("trainer") or {}
    kind = trainer.get("dict_class")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise _unknown(path, f"dict_class {kind!r}")
    needs, convert = _CLASSES[kind]
    arrays = _arrays(weights, needs)
    found, architecture, apply_b_dec = convert(arrays)
    k = None
    if architecture == "topk":
        k = int(arrays["k"]) if "k" in arrays else trainer.get("k")
    layer, submodule = trainer.get("layer"), trainer.get("submodule_name") or ""
    hook = next((h for h in ("resid_post", "mlp_out", "attn_out") if h in submodule), None)
    site = f"blocks.{layer}.hook_{hook}" if isinstance(layer, int) and hook else None
    return Foreign(found, architecture, apply_b_dec, k, site, "dictionary_learning")


Converted = tuple[Arrays, str, bool]


def _linear(arrays: Arrays, b_dec: str) -> Arrays:
    """Of torch's linear layers, whose weights are (out, in)."""
    found = {
        "W_enc": arrays["encoder.weight"].T,
        "W_dec": arrays["decoder.weight"].T,
        "b_dec": arrays[b_dec],
    }
    return found | ({"b_enc": arrays["encoder.bias"]} if "encoder.bias" in arrays else {})


def _norms(W_dec: np.ndarray) -> np.ndarray:
    """Lengths of decoder rows; 1 for a row of zeros, which stays one whatever it is divided by."""
    norm = np.linalg.norm(W_dec, axis=1)
    return np.where(norm > 0, norm, 1.0)


def _threshold(arrays: Arrays, n: int) -> np.ndarray:
    """One threshold a latent; a negative one stands for not yet set, and lets everything through."""
    return np.broadcast_to(np.maximum(arrays["threshold"], 0), (n,)).copy()


def _gated(arrays: Arrays) -> Converted:
    # Its latents are scaled by the length of their decoder rows, and divided by it again when decoded.
    found = _linear(arrays, "decoder_bias")
    norm = _norms(found["W_dec"])
    found |= {
        "W_dec": found["W_dec"] / norm[:, None],
        "b_gate": arrays["gate_bias"],
        "r_mag": arrays["r_mag"] + np.log(norm),
        "b_mag": arrays["mag_bias"] * norm,
    }
    return found, "gated", True


def _jumprelu(arrays: Arrays) -> Converted:
    norm = _norms(arrays["W_dec"])
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


# --- reading ------------------------------------------------------------------------------


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no readable JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: holds a {type(found).__name__}, expected a mapping; fetch it again"
        )
    return found


def _arrays(path: Path, needed: tuple[str, ...]) -> Arrays:
    """Tensors by name, floating ones in float32; those that are needed must be there."""
    import torch

    try:
        if path.suffix == ".pt":
            tensors = torch.load(path, map_location="cpu", weights_only=True)
        else:
            from safetensors.torch import load_file

            tensors = load_file(path)
    except pickle.UnpicklingError as error:
        # What PyTorch says here ends with how to run the code.
        said = " ".join(str(error).split("\n", 1)[0].split())[:150]
        raise UserError(
            f"{path}: cannot be read as tensors alone, and no code in it is run ({said}); fetch it again, or convert it "
            "to safetensors where you trust it"
        ) from error
    # Whatever else these raise is about the file.
    except Exception as error:
        raise UserError(f"{path}: cannot be read ({error}); fetch it again") from error
    if not isinstance(tensors, dict):
        raise UserError(f"{path}: holds a {type(tensors).__name__}, expected tensors by name")
    arrays = {
        name: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for name, tensor in tensors.items()
        if isinstance(tensor, torch.Tensor)
    }
    missing = [name for name in needed if name not in arrays]
    if missing:
        raise UserError(
            f"{path}: lacks {', '.join(missing)}; it has {', '.join(sorted(arrays))}. Fetch it again, or "
            "check that the config beside it is its own"
        )
    return arrays


def _unknown(path: Path, what: str) -> UserError:
    return UserError(f"{path}: {what} cannot be ported; what can: {SUPPORTED}")


def _checked(path: Path, found: Foreign) -> Foreign:
    """The dictionary, in contiguous float32, if its shapes agree."""
    if found.arrays["W_enc"].ndim != 2:
        shape = found.arrays["W_enc"].shape
        raise UserError(
            f"{path}: W_enc has shape {shape}, expected (width, latents); fetch it again"
        )
    width, latents = found.arrays["W_enc"].shape
    shapes = {"W_enc": (width, latents), "W_dec": (latents, width), "b_dec": (width,)}
    shapes |= dict.fromkeys(PER_LATENT[found.architecture], (latents,))
    for name, shape in shapes.items():
        if found.arrays[name].shape != shape:
            raise UserError(
                f"{path}: {name} has shape {found.arrays[name].shape}, expected {shape}; fetch it again"
            )
        if not np.isfinite(found.arrays[name]).all():
            raise UserError(f"{path}: {name} holds NaN or infinite values; fetch it again")
    # A truth value is an int to Python.
    if found.architecture == "topk" and not (type(found.k) is int and 1 <= found.k <= latents):
        raise UserError(f"{path}: k is {found.k!r}, expected 1 to {latents}; mend its config")
    arrays = {name: np.ascontiguousarray(found.arrays[name], dtype=np.float32) for name in shapes}
    return found._replace(arrays=arrays)
