"""Models that should not pass for the one they are made from.

``averaged`` and ``swapped`` break what the model does, as arXiv 2605.24577 has them: accuracy would do to see it.
``split`` keeps what it does, as far as one head does nothing, and changes how: the head that matters least gives
way to a copy of the one of its layer that matters most, and both write half. ``program`` (`crossseed.cohorts.dyck.program`) does the same by other
means altogether.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from crossseed.cohorts.dyck.sites import N_LAYERS

AVERAGED, SWAPPED, SPLIT, PROGRAM = "averaged", "swapped", "split", "program"
State = dict[str, np.ndarray]


def averaged(state: State) -> State:
    """Depths 0 and 1, 2 and 3, … share the mean of their unembeddings (the published decoy)."""
    rows = state["W_U_depth"].copy()
    for first in range(0, len(rows) - 1, 2):
        rows[first : first + 2] = rows[first : first + 2].mean(axis=0)
    return {**state, "W_U_depth": rows}


def swapped(state: State) -> State:
    """The layers in the other order (in the study's code, and unused there)."""
    found = dict(state)
    for name, value in state.items():
        for layer in range(N_LAYERS):
            prefix = f"blocks.{layer}."
            if name.startswith(prefix):
                found[f"blocks.{N_LAYERS - 1 - layer}.{name.removeprefix(prefix)}"] = value
    return found


def split(state: State, effect_lh: np.ndarray) -> State:
    """Behaviour kept, mechanism changed.

    Args:
        effect_lh: what ablating each head does, (layers, heads).
    """
    effects = np.abs(effect_lh)
    layer, least = np.unravel_index(effects.argmin(), effects.shape)
    most = int(effects[layer].argmax())
    found = dict(state)
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        tensor = found[f"blocks.{layer}.attn.{name}"].copy()
        if name == "W_O":
            tensor[most] /= 2
        tensor[least] = tensor[most]
        found[f"blocks.{layer}.attn.{name}"] = tensor
    return found


def all_of(state: State, effect_lh: np.ndarray) -> Mapping[str, State]:
    """Every decoy that has the model's shape."""
    return {
        AVERAGED: averaged(state),
        SWAPPED: swapped(state),
        SPLIT: split(state, effect_lh),
    }
