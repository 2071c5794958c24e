"""What an architecture adds to training: its loss, and what it has beside the four weights.

Architectures derive their `Objective` from this one and give its gradients; the rest is for those that have more than
encoder and decoder.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from crossseed.sae.training import Gradients, Weights


class Objective(ABC):
    """Attributes:
    config: the variant.
    trained: of what `more` gives, what has gradients.
    in_units: of what `export` gives, what is in units of activations, and grows with them.
    """

    trained: tuple[str, ...] = ()
    in_units: tuple[str, ...] = ("b_enc",)

    def __init__(self, config: Any) -> None:
        self.config = config

    def more(self, n_latents: int) -> dict[str, np.ndarray]:
        """What there is beside the four weights, as it starts; kept with them when training is interrupted."""
        return {}

    @abstractmethod
    def gradients(self, weights: Weights, x_bd: Tensor, gradients: Gradients) -> None:
        """Adds the loss of a batch, (batch, width), and its gradients to `gradients`."""

    def rescale(self, weights: Weights, norms: Tensor) -> None:  # noqa: B027
        """Decoder rows were divided by their norms, (latents,), and encoders multiplied: all else follows, in place."""

    def export(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Arrays of a dictionary's file, from the four weights and `more`."""
        return arrays
