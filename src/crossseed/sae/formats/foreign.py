"""A dictionary in SAELens's terms, and how files of other tools are read."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from crossseed.errors import UserError
from crossseed.sae.dictionary import PER_LATENT

Arrays = dict[str, np.ndarray]
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


def row_lengths(W_dec: np.ndarray) -> np.ndarray:
    """Lengths (latents,) of decoder rows (latents, d); 1 for a row of zeros, which stays one whatever it is divided by."""
    norm = np.linalg.norm(W_dec, axis=1)
    return np.where(norm > 0, norm, 1.0)


def read_json(path: Path) -> dict[str, Any]:
    """The mapping in a JSON file.

    Raises:
        UserError: it cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: is no readable JSON ({error}); fetch it again") from error
    if not isinstance(found, dict):
        raise UserError(
            f"{path}: holds a {type(found).__name__}, expected a mapping; fetch it again"
        )
    return found


def read_arrays(path: Path, needed: tuple[str, ...]) -> Arrays:
    """Tensors by name, floating ones in float32.

    Raises:
        UserError: the file cannot be read as tensors alone, or one of `needed` is not there.
    """
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


def not_ported(path: Path, what: str) -> UserError:
    """The refusal of what SAELens's terms do not say."""
    return UserError(f"{path}: {what} cannot be ported; what can: {SUPPORTED}")


def checked(path: Path, found: Foreign) -> Foreign:
    """The dictionary, in contiguous float32.

    Raises:
        UserError: shapes do not agree, a value is not finite, or k is no count.
    """
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
