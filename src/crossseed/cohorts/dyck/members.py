"""Members of toy cohorts: loading a checkpoint and reading its activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.dyck.config import CHECKPOINTS_SCHEMA
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.cohorts.dyck.sites import D_MODEL
from crossseed.errors import UserError
from crossseed.store import read_tensors


class DyckMember:
    """A loaded toy model; see `crossseed.cohorts.base.Member`."""

    def __init__(self, model: DyckTransformer, digest: str) -> None:
        self.model = model.eval()
        self.digest = digest

    def width(self, site: str) -> int:
        return D_MODEL

    def activations(self, tokens_nt: np.ndarray, wanted: list[str]) -> dict[str, np.ndarray]:
        found = self.activations_on_device(tokens_nt, wanted)
        return {site: value.cpu().numpy() for site, value in found.items()}

    def activations_on_device(self, tokens_nt: np.ndarray, wanted: list[str]) -> dict[str, Tensor]:
        device = self.model.W_E.device
        with torch.inference_mode():
            found = self.model.residuals(
                torch.from_numpy(tokens_nt).to(device, torch.long), set(wanted)
            )
        return {site: value.float() for site, value in found.items()}


def load(
    spec: Mapping[str, Any], paths: Sequence[Path], sites: Sequence[str], device: str
) -> DyckMember:
    """One checkpoint of a trained member.

    Args:
        spec: ``cohort``, ``seed`` and ``checkpoint`` of the member.
        paths: the file of its seed's checkpoints.
        sites: sites that will be read; the toy is read whole whatever they are.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: the file is damaged, of another member, or does not hold that checkpoint.
    """
    (path,) = paths
    tensors, digest = read(spec, path)
    model = DyckTransformer(seed=0)
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as error:
        raise UserError(
            f"{path}: checkpoint {spec['checkpoint']!r} is missing or does not fit"
        ) from error
    return DyckMember(model.to(device), digest)


def read(spec: Mapping[str, Any], path: Path) -> tuple[dict[str, np.ndarray], str]:
    """Tensors of a member, and the digest of their file; see `load`.

    Raises:
        UserError: the file is damaged, or of another member.
    """
    cohort, seed, checkpoint = spec["cohort"], spec["seed"], spec["checkpoint"]
    tensors, found = read_tensors(path, CHECKPOINTS_SCHEMA, prefix=f"{checkpoint}/")
    if (found.spec.get("cohort"), found.spec.get("seed")) != (cohort, seed):
        raise UserError(
            f"{path}: weights of {found.spec.get('cohort')} seed {found.spec.get('seed')}, "
            f"expected {cohort} seed {seed}; give the member's own file"
        )
    return tensors, found.digest
