"""BatchTopK: k latents a token on average over a batch (Bussmann et al., arXiv 2412.06410).

Which latents fire depends on the batch, so that a threshold stands in its place where the dictionary is used: the mean
over training batches of their smallest active pre-activation. The file is SAELens's JumpReLU, as SAELens itself has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from crossseed.config.fields import Count, NotNegative
from crossseed.sae import objective
from crossseed.sae.architectures import jumprelu
from crossseed.sae.config import DictionaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.training import Gradients, Weights

# Share of the running threshold that each batch replaces.
RATE = 0.01


class Config(DictionaryConfig):
    """The k largest pre-activations a token, on average over a batch."""

    architecture: Literal["batchtopk"] = Field(
        description="`batchtopk`: the k largest pre-activations a token, on average over a batch."
    )
    k: Count = Field(description="Latents kept per token, on average.")
    aux_coefficient: NotNegative = Field(
        description="Weight of the AuxK loss, in which dead latents reconstruct the error; published: 1/32."
    )
    aux_k: Count = Field(description="Dead latents that AuxK lets fire per token.")
    dead_after_tokens: Count = Field(
        description="Training tokens without firing after which a latent counts as dead."
    )

    def misfit(self, n_latents: int) -> str | None:
        if self.k > n_latents:
            return f"k {self.k} exceeds the {n_latents} latents of the dictionary; lower k"
        return None


def saelens_fields(config: Config) -> dict[str, Any]:
    return {"architecture": "jumprelu"}


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, in place: pre-activations above the threshold."""
    return jumprelu.activate(pre_nf, cfg, more)


def largest_left_out(pre: Tensor, kept: int) -> Tensor:
    """The largest of the values that are not among the `kept` largest; −∞ where all are."""
    import torch

    rank = len(pre) - kept
    if rank < 1:
        return pre.new_full((), -torch.inf)
    if pre.device.type == "cpu":
        # Ten times as fast as PyTorch's.
        return torch.tensor(np.partition(pre.numpy(), rank - 1)[rank - 1])
    return pre.kthvalue(rank).values


class Objective(objective.Objective):
    """Loss as TopK's, with k latents a token on average over the batch."""

    in_units = ("b_enc", "threshold")

    def more(self, n_latents: int) -> dict[str, np.ndarray]:
        # Below 0: no batch was seen.
        return {"threshold": np.full(n_latents, -1, np.float32)}

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """Adds the loss of a batch and its gradients to `gradients`."""
        import torch

        from crossseed.sae.architectures.topk import activate_torch

        config = self.config
        n = weights.W_enc.shape[1]
        pre = torch.addmm(weights.b_enc, x_bd - weights.b_dec, weights.W_enc).flatten()
        least = largest_left_out(pre, config.k * len(x_bd)).clamp_min(0)
        smallest = torch.where(pre > least, pre, torch.inf).min()
        if torch.isfinite(smallest):
            running = weights.more["threshold"]
            if running[0] < 0:
                running.copy_(smallest.expand(n))
            else:
                running.lerp_(smallest.expand(n), RATE)
        dead = None
        if config.aux_coefficient > 0:
            found = (weights.silent_tokens >= config.dead_after_tokens).nonzero().squeeze(1)
            dead = found if len(found) else None
        gradients.backpropagate(
            weights,
            x_bd,
            lambda z: z.mul_((z > least).to(z)),
            dead=dead,
            activate_dead=lambda z: activate_torch(z, config.aux_k),
            aux_coefficient=config.aux_coefficient,
        )

    def export(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**arrays, "threshold": np.maximum(arrays["threshold"], 0)}
