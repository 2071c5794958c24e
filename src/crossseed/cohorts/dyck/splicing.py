"""Toy models run with activations of another origin in place of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.dyck import members
from crossseed.cohorts.dyck.model import DyckTransformer


class DyckRunner:
    """See `crossseed.cohorts.base.Runner`; heads are tok, depth and valid."""

    def __init__(self, model: DyckTransformer, site: str) -> None:
        self.model, self.site = model, site

    def activations(self, tokens_nt: np.ndarray) -> Tensor:
        with torch.inference_mode():
            return self.model.residuals(self._tokens(tokens_nt), {self.site})[self.site]

    def log_probabilities(self, tokens_nt: np.ndarray, value_ntd: Tensor | None) -> list[Tensor]:
        edits = None if value_ntd is None else {self.site: value_ntd.to(self.model.W_E)}
        with torch.inference_mode():
            return [
                logits.float().log_softmax(-1)
                for logits in self.model(self._tokens(tokens_nt), edits)
            ]

    def targets(self, tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [tokens_nt, labels["depth"], labels["valid"]]

    def _tokens(self, tokens_nt: np.ndarray) -> Tensor:
        return torch.from_numpy(tokens_nt).to(self.model.W_E.device, torch.long)


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> DyckRunner:
    """One checkpoint of a trained member; see `crossseed.cohorts.dyck.members.load`."""
    return DyckRunner(members.load(spec, paths, [site], device).model, site)
