"""ReLU with an L1 penalty: the recipe of the rotation study (arXiv 2605.24577)."""

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
    """ReLU with an L1 penalty on the latents."""

    architecture: Literal["relu_l1"] = Field(description="`relu_l1`: ReLU with an L1 penalty.")
    l1: NotNegative = Field(
        description="Weight of the mean over tokens of the summed latents, against the mean "
        "over tokens and dimensions of the squared error."
    )


def saelens_fields(config: Config) -> dict[str, Any]:
    """Standard to SAELens: a ReLU, and nothing more."""
    return {"architecture": "standard"}


def activate(pre_nf: np.ndarray, cfg: dict[str, Any], more: Mapping[str, np.ndarray]) -> np.ndarray:
    """Latents, in place: max(pre, 0)."""
    return np.maximum(pre_nf, 0, out=pre_nf)


class Objective(objective.Objective):
    """Loss = mean over tokens and dimensions of ‖x − x̂‖² + l1 · mean over tokens of Σ h."""

    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """See `crossseed.sae.objective.Objective.gradients`."""
        gradients.backpropagate(weights, x_bd, lambda pre: pre.relu_(), l1=self.config.l1)
