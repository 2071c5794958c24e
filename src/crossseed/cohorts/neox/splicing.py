"""Small language models of a run, run whole with activations of another origin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.hub.splicing import HubRunner, load_source
from crossseed.cohorts.neox.members import checked_source


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> HubRunner:
    """One checkpoint of a trained member; see `crossseed.cohorts.neox.members.load`."""
    return load_source(checked_source(spec, paths), site, spec["precision"], device)
