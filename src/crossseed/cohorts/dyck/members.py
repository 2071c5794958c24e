"""Members of toy cohorts: loading a checkpoint and reading its activations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from crossseed.cohorts.dyck import sites
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.errors import UserError
from crossseed.store import read_tensors

CHECKPOINTS_SCHEMA = "dyck-checkpoints/1"


class DyckMember:
    """A loaded toy model; see `crossseed.cohorts.base.Member`."""

    def __init__(self, model: DyckTransformer, digest: str) -> None:
        self.model = model.eval()
        self.digest = digest

    def width(self, site: str) -> int:
        return sites.D_MODEL

    def activations(self, tokens_nt: np.ndarray, wanted: list[str]) -> dict[str, np.ndarray]:
        device = self.model.W_E.device
        with torch.inference_mode():
            found = self.model.residuals(
                torch.from_numpy(tokens_nt).to(device, torch.long), set(wanted)
            )
        return {site: value.float().cpu().numpy() for site, value in found.items()}


def load(path: Path, cohort: str, seed: int, checkpoint: str, device: str) -> DyckMember:
    """One checkpoint of a trained member.

    Raises:
        UserError: the file is damaged, of another member, or does not hold that checkpoint.
    """
    tensors, found = read_tensors(path, CHECKPOINTS_SCHEMA, prefix=f"{checkpoint}/")
    if (found.spec.get("cohort"), found.spec.get("seed")) != (cohort, seed):
        raise UserError(
            f"{path}: weights of {found.spec.get('cohort')} seed {found.spec.get('seed')}, "
            f"expected {cohort} seed {seed}; give the member's own file"
        )
    model = DyckTransformer(seed=0)
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"{path}: checkpoint {checkpoint!r} is missing or does not fit") from error
    return DyckMember(model.to(device), found.digest)
