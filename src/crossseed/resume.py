"""Training state on disk, so that a killed job goes on where it was, bit for bit.

The state lies beside the output under a name the workflow does not know, so Snakemake does
not remove it with a failed job's outputs. It is trusted only if it comes from the same spec
and the same code; it is deleted when the job is done.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.atomic import sweep
from crossseed.errors import UserError
from crossseed.store import read_tensors, write_tensors

SCHEMA = "resume/1"
SAVE_SECONDS = 60.0


# Names of tensors of checkpoints within a saved state.
KEPT = "kept/"
Kept = dict[str, dict[str, np.ndarray]]


def kept_to(checkpoints: Kept) -> dict[str, np.ndarray]:
    """Tensors of finished checkpoints, {checkpoint: {name: array}}, under the names that a state has for them."""
    return {f"{KEPT}{c}/{k}": v for c, tensors in checkpoints.items() for k, v in tensors.items()}


def kept_of(tensors: Mapping[str, np.ndarray]) -> Kept:
    """The checkpoints within a saved state; undoes `kept_to`."""
    found: Kept = {}
    for name, value in tensors.items():
        if name.startswith(KEPT):
            checkpoint, tensor = name.removeprefix(KEPT).split("/", 1)
            found.setdefault(checkpoint, {})[tensor] = value
    return found


class Resume:
    """The saved state of one job.

    Args:
        out: the job's output; the state is kept beside it.
        identity: what must agree for a state to be used: spec and code of the job.
        seconds: least time between two saves.
    """

    def __init__(self, out: Path, identity: Mapping[str, Any], seconds: float = SAVE_SECONDS):
        self.path = out.with_name(f".{out.name}.resume")
        self.identity = dict(identity)
        self.seconds = seconds
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Whether the last save, or the start, is long enough ago to save again."""
        return time.monotonic() - self._saved >= self.seconds

    def save(self, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
        """Replaces the saved state. `state` must be plain JSON."""
        content = dict(tensors)
        content["state"] = np.frombuffer(json.dumps(state).encode(), dtype=np.uint8)
        write_tensors(self.path, content, SCHEMA, self.identity, {})
        self._saved = time.monotonic()

    def load(self) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """The saved tensors and state; None if there is none that fits this job."""
        if not self.path.exists():
            return None
        try:
            tensors, header = read_tensors(self.path, SCHEMA)
        except UserError as error:
            print(f"saved state is not usable, starting over: {error}")
            return None
        if header.spec != json.loads(json.dumps(self.identity)):
            print(f"{self.path}: saved by another spec or code, starting over")
            return None
        state = json.loads(tensors.pop("state").tobytes())
        print(f"{self.path}: resuming at step {state['step']}")
        return tensors, state

    def discard(self) -> None:
        """Deletes the saved state, and what is left of a save that was cut off."""
        self.path.unlink(missing_ok=True)
        # Of a job that was killed while it saved.
        sweep(self.path)
