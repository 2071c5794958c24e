"""Models that should not pass for the one they are made from.

``averaged`` and ``swapped`` break what the model does, as arXiv 2605.24577 has them: accuracy would do to see it.
``split`` keeps what it does, as far as one head does nothing, and changes how: in the layer of the head that matters
most, the one that matters least gives way to a copy of that head, and both write half. ``taught`` has then learned from
the model's predictions what was lost. ``program`` (`crossseed.cohorts.dyck.program`) does the same by other means
altogether.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from crossseed.adam import Adam
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.behaviour import SHARES
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.dyck.sites import N_LAYERS
from crossseed.progress import Progress

# Learning rate of teaching; it falls linearly to 0.
TAUGHT_RATE = 1e-3
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
    layer, most = np.unravel_index(effects.argmax(), effects.shape)
    least = int(effects[layer].argmin())
    found = dict(state)
    for name in ("W_Q", "W_K", "W_V", "W_O"):
        tensor = found[f"blocks.{layer}.attn.{name}"].copy()
        if name == "W_O":
            tensor[most] /= 2
        tensor[least] = tensor[most]
        found[f"blocks.{layer}.attn.{name}"] = tensor
    return found


def teach(
    pupil: DyckTransformer,
    teacher: DyckTransformer,
    steps: int,
    rows: int,
    lengths: tuple[int, int],
    rng: np.random.Generator,
) -> None:
    """Trains a model, in place, on another's predictions: the divergence of its own from them, summed over
    heads.

    Args:
        rows: sequences a step. lengths: of their content.
        rng: draws them.
    """
    pupil.requires_grad_(True)
    optimiser = Adam(list(pupil.parameters()))
    names = list(SHARES)
    progress = Progress("taught", steps)
    for step in range(steps):
        which = names[int(rng.choice(len(names), p=list(SHARES.values())))]
        tokens = torch.from_numpy(task.sample(rng, rows, which, lengths)).long()
        scored = tokens != task.PAD
        tokens = tokens.to(teacher.W_E.device)
        with torch.no_grad():
            wanted = [logits[scored].log_softmax(-1) for logits in teacher(tokens)]
        losses = [
            F.kl_div(logits[scored].log_softmax(-1), target, reduction="batchmean", log_target=True)
            for logits, target in zip(pupil(tokens), wanted, strict=True)
        ]
        gradients = torch.autograd.grad(torch.stack(losses).sum(), optimiser.parameters)
        optimiser.step(gradients, TAUGHT_RATE * (1 - step / steps))
        progress.update(step + 1)
    progress.close()
    pupil.requires_grad_(False)
