"""TopK with the AuxK loss against dead latents (Gao et al., arXiv 2406.04093)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from crossseed.config.fields import Count, NotNegative
from crossseed.sae import objective
from crossseed.sae.config import DictionaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.sparse import Choose
    from crossseed.sae.training import Gradients, Weights

# np.sort beats np.partition on short rows, where it stays in vector registers.
SORT_UP_TO_LATENTS = 1024


class KeepsK(DictionaryConfig):
    """k latents a token, and a loss by which dead ones come back."""

    k: Count = Field(description="Latents kept per token.")
    aux_coefficient: NotNegative = Field(
        description="Weight of the AuxK loss, in which dead latents reconstruct the error; "
        "published there: 1/32."
    )
    aux_k: Count = Field(description="Dead latents that AuxK lets fire per token.")
    dead_after_tokens: Count = Field(
        description="Training tokens without firing after which a latent counts as dead."
    )

    def misfit(self, n_latents: int) -> str | None:
        if self.k > n_latents:
            return f"k {self.k} exceeds the {n_latents} latents of the dictionary; lower k"
        return None


class Config(KeepsK):
    """The k largest positive pre-activations."""

    architecture: Literal["topk"] = Field(description="`topk`: the k largest pre-activations.")


def saelens_fields(config: Config) -> dict[str, Any]:
    """TopK to SAELens too, with k, by activations as they are: not scaled by decoder norms."""
    return {"architecture": "topk", "k": config.k, "rescale_acts_by_decoder_norm": False}


def threshold(pre_nf: np.ndarray, k: int) -> np.ndarray:
    """The k-th largest pre-activation of each row, at least 0; shape (rows, 1)."""
    n = pre_nf.shape[1]
    if k >= n:
        return np.zeros((len(pre_nf), 1), dtype=pre_nf.dtype)
    order = (
        np.sort(pre_nf, axis=1) if n <= SORT_UP_TO_LATENTS else np.partition(pre_nf, n - k, axis=1)
    )
    return np.maximum(order[:, n - k : n - k + 1], 0)


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, (rows, latents), in place: the k largest pre-activations of each row where positive, else 0."""
    pre_nf[pre_nf < threshold(pre_nf, cfg["k"])] = 0
    return np.maximum(pre_nf, 0, out=pre_nf)


def activate_torch(pre: Tensor, k: int) -> Tensor:
    """`activate` on a torch tensor, (rows, latents), in place."""
    import torch

    k = min(k, pre.shape[1])
    if pre.device.type == "cpu":
        at_least = torch.from_numpy(threshold(pre.numpy(), k))
    else:
        at_least = pre.topk(k, dim=1, sorted=False).values.amin(dim=1, keepdim=True).clamp_min(0)
    # A mask of floats: multiplying by it is several times faster than filling by one of booleans.
    return pre.mul_(torch.ge(pre, at_least, out=torch.empty_like(pre)))


class Objective(objective.Objective):
    """Loss = mean ‖x − x̂‖² + aux_coefficient · mean ‖(x − x̂) − ê‖², ê by dead latents only;
    both means over tokens and dimensions."""

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """See `crossseed.sae.objective.Objective.gradients`."""
        from crossseed.sae import sparse

        config, k = self.config, self.config.k
        width, n = weights.W_enc.shape
        if sparse.pays(width, n, k, x_bd.device):
            sums(config, weights, x_bd, gradients, lambda pre_nf: sparse.k_largest(pre_nf, k))
        else:
            products(config, weights, x_bd, gradients, lambda pre: activate_torch(pre, k))


def dead_latents(config: KeepsK, weights: Weights) -> Tensor | None:
    """Numbers of the latents that AuxK is for, (dead,); None where there are none."""
    if config.aux_coefficient == 0:
        return None
    found = (weights.silent_tokens >= config.dead_after_tokens).nonzero().squeeze(1)
    return found if len(found) else None


def products(
    config: KeepsK,
    weights: Weights,
    x_bd: Tensor,
    gradients: Gradients,
    activate: Callable[[Tensor], Tensor],
) -> None:
    """Gradients of an SAE whose latents are chosen by `activate`, with the AuxK loss, by dense products.

    Args:
        x_bd: rows of activations, (batch, width). activate: latents from pre-activations, (batch, latents) both.
    """
    gradients.backpropagate(
        weights,
        x_bd,
        activate,
        dead=dead_latents(config, weights),
        activate_dead=lambda pre: activate_torch(pre, config.aux_k),
        aux_coefficient=config.aux_coefficient,
    )


def sums(
    config: KeepsK,
    weights: Weights,
    x_bd: Tensor,
    gradients: Gradients,
    choose: Choose,
    whole: bool = False,
) -> None:
    """As `products`, by sums over the active latents, which are those that `choose` finds.

    Args:
        x_bd: rows of activations, (batch, width). choose, whole: see `crossseed.sae.sparse.backpropagate`.
    """
    from crossseed.sae import sparse

    dead = dead_latents(config, weights)
    aux = config.aux_k, config.aux_coefficient
    sparse.backpropagate(gradients, weights, x_bd, choose, whole, dead, *aux)
