"""JumpReLU with an L0 penalty, trained through straight-through estimators (Rajamanoharan et al., arXiv 2407.14435)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from crossseed.config.fields import NotNegative, Positive
from crossseed.sae import objective
from crossseed.sae.config import DictionaryConfig

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.training import Gradients, Weights

# The key that decides how many latents are active.
PENALTY = "l0"


class Config(DictionaryConfig):
    """A threshold a latent, learned."""

    architecture: Literal["jumprelu"] = Field(
        description="`jumprelu`: a learned threshold a latent, and an L0 penalty."
    )
    l0: NotNegative = Field(
        description="Weight of the mean over tokens of the number of active latents, against the mean over "
        "tokens and dimensions of the squared error."
    )
    bandwidth: Positive = Field(
        description="Width of the window around a threshold in which pre-activations move it, in units of "
        "the activations trained on; published: 0.001, where their mean square is 1."
    )
    threshold: Positive = Field(description="Threshold that latents start with; published: 0.001.")


def saelens_fields(config: Config) -> dict[str, Any]:
    """JumpReLU to SAELens too; thresholds are among the weights."""
    return {"architecture": "jumprelu"}


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, (rows, latents), in place: pre-activations above 0 and above their threshold, else 0."""
    pre_nf[pre_nf <= more["threshold"]] = 0
    return np.maximum(pre_nf, 0, out=pre_nf)


class Objective(objective.Objective):
    """Loss = mean over tokens and dimensions of ‖x − x̂‖² + l0 · mean over tokens of the number of active latents.

    With θ the threshold, z a pre-activation, ε the bandwidth and K(u) = 1 for |u| < 1/2, the estimators are
    ∂h/∂θ = −(θ/ε) K((z − θ)/ε) and ∂1[z > θ]/∂θ = −(1/ε) K((z − θ)/ε) (equations 11 and 12 there). What is
    trained is log θ.
    """

    trained = ("log_threshold",)
    in_units = ("b_enc", "threshold")

    def more(self, n_latents: int) -> dict[str, np.ndarray]:
        return {"log_threshold": np.full(n_latents, np.log(self.config.threshold), np.float32)}

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """See `crossseed.sae.objective.Objective.gradients`."""
        from crossseed.sae.training import scale_of

        theta = weights.more["log_threshold"].exp()
        width, scale = self.config.bandwidth, scale_of(x_bd)
        penalty = self.config.l0 / len(x_bd)
        by_theta = gradients.more["log_threshold"]
        near: list[Tensor] = []

        def active(pre: Tensor) -> Tensor:
            near[:] = [((pre - theta).abs() < width / 2).to(pre)]
            return pre.mul_((pre > theta).to(pre))

        def moved(h: Tensor, g: Tensor) -> None:
            (window,) = near
            # All is multiplied by the scale at the end.
            by_theta.sub_((window * (g * theta + penalty / scale)).sum(dim=0), alpha=1 / width)
            gradients.loss.add_((h > 0).sum(), alpha=penalty)

        gradients.backpropagate(weights, x_bd, active, observe=moved)
        by_theta.mul_(theta)

    def rescale(self, weights: Weights, norms: Tensor) -> None:
        """See `crossseed.sae.objective.Objective.rescale`."""
        weights.more["log_threshold"].add_(norms.log())

    def export(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = dict(arrays)
        found["threshold"] = np.exp(found.pop("log_threshold"))
        return found
