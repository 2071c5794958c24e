"""BatchTopK: k latents a token on average over a batch (Bussmann et al., arXiv 2412.06410).

Which latents fire depends on the batch, so that a threshold stands in its place where the dictionary is used: the mean
over training batches of their smallest active pre-activation. The file is SAELens's JumpReLU, as SAELens itself has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from crossseed.sae import objective
from crossseed.sae.architectures import jumprelu, topk

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.training import Gradients, Weights

# Share of the running threshold that each batch replaces.
RATE = 0.01


class Config(topk.KeepsK):
    """The k largest pre-activations a token, on average over a batch."""

    architecture: Literal["batchtopk"] = Field(
        description="`batchtopk`: the k largest pre-activations a token, on average over a batch."
    )


def saelens_fields(config: Config) -> dict[str, Any]:
    """JumpReLU to SAELens: after training there is one threshold, and no k."""
    return {"architecture": "jumprelu"}


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, (rows, latents), in place: pre-activations above the threshold."""
    return jumprelu.activate(pre_nf, cfg, more)


def largest_left_out(pre: Tensor, kept: int) -> Tensor:
    """The largest of the values, (n,), that are not among the `kept` largest, of shape (); −∞ where all are."""
    import torch

    rank = len(pre) - kept
    if rank < 1:
        return pre.new_full((), -torch.inf)
    if pre.device.type == "cpu":
        # Ten times as fast as PyTorch's.
        return torch.tensor(np.partition(pre.numpy(), rank - 1)[rank - 1])
    return pre.kthvalue(rank).values


def above(pre_nf: np.ndarray, kept: int) -> tuple[np.ndarray, np.ndarray]:
    """Places in the flattened array, rising, and values of what is above 0 and above the largest that is not among
    the `kept` largest, of pre-activations (rows, latents)."""
    from crossseed.sae import sparse

    at, values = sparse.candidates(pre_nf.reshape(1, -1), kept + 1)
    if len(values) > kept:
        more = values > np.partition(values, len(values) - kept - 1)[len(values) - kept - 1]
        return at[more], values[more]
    return at, values


class Objective(objective.Objective):
    """Loss as TopK's, with k latents a token on average over the batch."""

    in_units = ("b_enc", "threshold")

    def more(self, n_latents: int) -> dict[str, np.ndarray]:
        # Below 0: no batch was seen.
        return {"threshold": np.full(n_latents, -1, np.float32)}

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """See `crossseed.sae.objective.Objective.gradients`."""
        import torch

        from crossseed.sae import sparse

        config, kept = self.config, self.config.k * len(x_bd)

        def choose(pre_nf: np.ndarray) -> sparse.Found:
            at, values = above(pre_nf, kept)
            if len(values):
                self._remember(weights, torch.from_numpy(values).min())
            return at, values

        width, n = weights.W_enc.shape
        if sparse.pays(width, n, config.k, x_bd.device):
            topk.sums(config, weights, x_bd, gradients, choose, whole=True)
            return
        pre = torch.addmm(weights.b_enc, x_bd - weights.b_dec, weights.W_enc).flatten()
        least = largest_left_out(pre, kept).clamp_min(0)
        smallest = torch.where(pre > least, pre, torch.inf).min()
        if torch.isfinite(smallest):
            self._remember(weights, smallest)
        topk.products(config, weights, x_bd, gradients, lambda pre: pre.mul_((pre > least).to(pre)))

    def _remember(self, weights: Weights, smallest: Tensor) -> None:
        """The threshold moves towards the smallest active pre-activation of a batch."""
        running = weights.more["threshold"]
        if running[0] < 0:
            running.copy_(smallest.expand(len(running)))
        else:
            running.lerp_(smallest.expand(len(running)), RATE)

    def export(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {**arrays, "threshold": np.maximum(arrays["threshold"], 0)}
