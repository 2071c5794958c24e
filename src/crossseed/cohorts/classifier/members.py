"""Members of cohorts of classifiers: reading activations of padded sentences, and running on from one place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from crossseed.cohorts.hub.members import HubMember, load_source
from crossseed.cohorts.neox.members import checked_source
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class ClassifierMember(HubMember):
    """A loaded classifier without its head; see `crossseed.cohorts.base.Member`.

    Padding is told from the tokens, and no token attends to it. What is read at padding is of no use.
    """

    def activations(self, tokens_nt: np.ndarray, sites: list[str]) -> dict[str, np.ndarray]:
        """See `crossseed.cohorts.hub.reading.Reader.activations`."""
        return self._reader.activations(tokens_nt, sites, attended(tokens_nt, self.model.config))

    def activations_on_device(
        self, tokens_nt: np.ndarray | torch.Tensor, sites: list[str]
    ) -> dict[str, torch.Tensor]:
        """See `crossseed.cohorts.hub.reading.Reader.activations_on_device`."""
        tokens = tokens_nt if isinstance(tokens_nt, np.ndarray) else tokens_nt.cpu().numpy()
        attend = attended(tokens, self.model.config)
        return self._reader.activations_on_device(tokens_nt, sites, attend)


def attended(tokens_nt: np.ndarray, config: PretrainedConfig) -> np.ndarray:
    """True where there is a token, False at padding.

    Raises:
        UserError: the model's configuration does not say which token is padding.
    """
    pad = getattr(config, "pad_token_id", None)
    if pad is None:
        raise UserError(
            "the model's config.json has no pad_token_id, so that padding cannot be told; add it"
        )
    found: np.ndarray = np.asarray(tokens_nt) != pad
    return found


def load(
    spec: Mapping[str, Any], paths: Sequence[Path], sites: Sequence[str], device: str
) -> ClassifierMember:
    """One checkpoint of a trained member.

    Args:
        spec: ``cohort``, ``seed``, ``checkpoint`` and ``precision``.
        paths: the files of its transformers folder.
        sites: sites that will be read.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: the folder is damaged, edited, or of another member.
    """
    source = checked_source(spec, paths)
    found = load_source(source, list(sites), spec["precision"], device)
    return ClassifierMember(found.model, found.shape, source.model_id, device)
