"""The part of a small language model of a run above a site, as a function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.hub.upper import Upper, load_source
from crossseed.cohorts.neox.members import checked_source


def load(spec: Mapping[str, Any], paths: Sequence[Path], site: str, device: str) -> Upper:
    """One checkpoint of a trained member, cut at a site; see `crossseed.cohorts.hub.upper.load`."""
    return load_source(checked_source(spec, paths), site, device)
