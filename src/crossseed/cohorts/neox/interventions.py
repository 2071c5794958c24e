"""Small language models of a run, run with other activations at one place of their forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.hub.interventions import HubSubject, load_source
from crossseed.cohorts.neox.members import checked_source


def load(spec: Mapping[str, Any], paths: Sequence[Path], device: str) -> HubSubject:
    """One checkpoint of a trained member; see `crossseed.cohorts.neox.members.load`."""
    return load_source(checked_source(spec, paths), spec["precision"], device)
