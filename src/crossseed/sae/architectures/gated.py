"""Gated SAEs: which latents fire, and how strongly, are told apart (Rajamanoharan et al., arXiv 2404.16014)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from crossseed.config.fields import NotNegative
from crossseed.sae import objective
from crossseed.sae.config import DictionaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.training import Gradients, Weights

# The key that decides how many latents are active.
PENALTY = "l1"


class Config(DictionaryConfig):
    """A gate a latent, and a magnitude by the same direction."""

    architecture: Literal["gated"] = Field(
        description="`gated`: a gate a latent, penalised, and a magnitude by the same direction, not penalised."
    )
    l1: NotNegative = Field(
        description="Weight of the mean over tokens of the summed gates, against the mean over tokens and "
        "dimensions of the squared error."
    )


def saelens_fields(config: Config) -> dict[str, Any]:
    """Gated to SAELens too; it has no keys of its own."""
    return {"architecture": "gated"}


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, (rows, latents): magnitudes above 0 where the gate is open; both see the same product (``b_enc`` is 0)."""
    magnitude = pre_nf * np.exp(more["r_mag"]) + more["b_mag"]
    np.maximum(magnitude, 0, out=magnitude)
    magnitude[pre_nf + more["b_gate"] <= 0] = 0
    return magnitude


class Objective(objective.Objective):
    """With p = (x − b_dec) W_enc, gates π = p + b_gate and h = 1[π > 0] · ReLU(p exp(r_mag) + b_mag):

    loss = mean ‖x − x̂(h)‖² + l1 · mean over tokens of Σ ReLU(π) + mean ‖x − x̂'(ReLU(π))‖²,

    means over tokens and dimensions, x̂' by a decoder that gets no gradient (equation 8 there). `Weights.b_enc` is
    the gates' bias.
    """

    trained = ("r_mag", "b_mag")
    in_units = ("b_gate", "b_mag")

    def more(self, n_latents: int) -> dict[str, np.ndarray]:
        return {name: np.zeros(n_latents, np.float32) for name in self.trained}

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """See `crossseed.sae.objective.Objective.gradients`."""
        import torch

        from crossseed.sae.training import scale_of

        scale = scale_of(x_bd)
        factor, b_mag = weights.more["r_mag"].exp(), weights.more["b_mag"]
        # As a share of the scale by which all is multiplied at the end.
        l1 = self.config.l1 / len(x_bd) / scale
        gradients.W_enc.zero_()
        gradients.W_dec.zero_()
        for x in x_bd.split(gradients.block_rows):
            centred = x - weights.b_dec
            p = centred @ weights.W_enc
            gate = (p + weights.b_enc).relu_()
            magnitude = p * factor + b_mag
            on = ((gate > 0) & (magnitude > 0)).to(p)
            h = magnitude * on
            error = h @ weights.W_dec - centred
            by_magnitude = (error @ weights.W_dec.T) * on
            gates_error = gate @ weights.W_dec - centred
            by_gate = (gates_error @ weights.W_dec.T + l1) * (gate > 0)
            by_p = by_magnitude * factor + by_gate
            gradients.W_dec.addmm_(h.T, error)
            gradients.W_enc.addmm_(centred.T, by_p)
            gradients.b_enc += by_gate.sum(dim=0)
            gradients.more["b_mag"] += by_magnitude.sum(dim=0)
            gradients.more["r_mag"] += (by_magnitude * p).sum(dim=0) * factor
            # What is taken off the input gets gradients by both paths; the frozen decoder's bias none.
            gradients.b_dec += error.sum(dim=0) - weights.W_enc @ by_p.sum(dim=0)
            gradients.activity += h.sum(dim=0)
            squares = sum(torch.vdot(e.flatten(), e.flatten()) for e in (error, gates_error))
            gradients.loss += squares * (scale / 2) + gate.sum() * (l1 * scale)
        for gradient in gradients.in_order():
            gradient *= scale

    def rescale(self, weights: Weights, norms: Tensor) -> None:
        """See `crossseed.sae.objective.Objective.rescale`."""
        weights.more["b_mag"].mul_(norms)

    def export(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = dict(arrays)
        found["b_gate"] = found.pop("b_enc")
        return found
