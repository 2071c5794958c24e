"""Folded weights of toy models, and toy models of folded weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.cohorts.dyck import members, task
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.dyck.sites import N_LAYERS
from crossseed.errors import UserError
from crossseed.gauge.weights import Weights, folded

HEADS = tuple(f"W_U_{head}" for head in task.HEADS)
# Tokens that are read where something is scored; the embeddings of others, PAD's too, are what they were
# before training.
USED = slice(task.BOS, task.FIRST_BRACKET + task.N_BRACKETS)
ALL = slice(None)
_ATTENTION = {"query": "W_Q", "key": "W_K", "value": "W_V", "output": "W_O"}
_MLP = {"reads": "W_in", "writes": "W_out"}
_TRANSPOSED = ("output", "writes")


def gains() -> dict[str, str]:
    """The norm gain that each tensor is read through."""
    found = dict.fromkeys(HEADS, "ln_f.gain")
    for layer in range(N_LAYERS):
        block = f"blocks.{layer}"
        found |= {f"{block}.attn.{name}": f"{block}.ln1.gain" for name in ("W_Q", "W_K", "W_V")}
        found[f"{block}.mlp.W_in"] = f"{block}.ln2.gain"
    return found


def load(spec: Mapping[str, Any], path: Path) -> dict[str, np.ndarray]:
    """Tensors of a member under the names of the model, gains folded.

    Args:
        spec: ``cohort``, ``seed`` and ``checkpoint`` of the member.
        path: the file of its seed's checkpoints.

    Raises:
        UserError: the file is of another member; a tensor or a gain is missing, or not finite.
    """
    state, _ = members.read(spec, path)
    for name, value in DyckTransformer(0).state_dict().items():
        found = state[name].shape if name in state else None
        if found != tuple(value.shape):
            raise UserError(
                f"{path}, checkpoint {spec['checkpoint']}: tensor {name} has shape {found}, expected "
                f"{tuple(value.shape)}; it is no toy model, or no such checkpoint is kept"
            )
    return folded(state, gains(), f"{path}, checkpoint {spec['checkpoint']}")


def from_state(state: Mapping[str, np.ndarray], used: slice = USED) -> Weights:
    """Weights from a state without gains, with the tokens of `used`."""

    def layers(name: str, tensor: str) -> np.ndarray:
        stacked = np.stack([state[tensor.format(layer)] for layer in range(N_LAYERS)])
        return np.swapaxes(stacked, -1, -2) if name in _TRANSPOSED else stacked

    found = {name: layers(name, f"blocks.{{}}.attn.{t}") for name, t in _ATTENTION.items()}
    found |= {name: layers(name, f"blocks.{{}}.mlp.{t}") for name, t in _MLP.items()}
    return Weights(
        embedding=state["W_E"][used],
        positions=state["W_pos"],
        unembedding=np.concatenate([state[name] for name in HEADS]),
        classes=tuple(len(state[name]) for name in HEADS),
        **found,
    )


def to_state(weights: Weights) -> dict[str, np.ndarray]:
    """The state of a model with these weights: gains 1; where they are of tokens that occur, other embeddings 0."""
    d = weights.width
    embedding = np.zeros((task.VOCAB, d))
    embedding[ALL if len(weights.embedding) == task.VOCAB else USED] = weights.embedding
    found = {"W_E": embedding, "W_pos": weights.positions, "ln_f.gain": np.ones(d)}
    parts = np.split(weights.unembedding, np.cumsum(weights.classes)[:-1])
    found |= dict(zip(HEADS, parts, strict=True))
    for layer in range(N_LAYERS):
        block = f"blocks.{layer}"
        found |= {f"{block}.ln1.gain": np.ones(d), f"{block}.ln2.gain": np.ones(d)}
        for names, place in ((_ATTENTION, "attn"), (_MLP, "mlp")):
            for name, tensor in names.items():
                value = getattr(weights, name)[layer]
                found[f"{block}.{place}.{tensor}"] = (
                    np.swapaxes(value, -1, -2) if name in _TRANSPOSED else value
                )
    return found
