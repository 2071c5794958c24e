"""Members of cohorts of small language models, read as any model in transformers' format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.hub.members import HubMember, load_source
from crossseed.cohorts.hub.source import Source
from crossseed.cohorts.neox import provenance


def load(
    spec: Mapping[str, Any], paths: Sequence[Path], sites: Sequence[str], device: str
) -> HubMember:
    """One checkpoint of a trained member.

    Args:
        spec: ``cohort``, ``seed``, ``checkpoint`` and ``precision``.
        paths: the files of its transformers folder.
        sites: sites that will be read.
        device: ``cpu`` or ``cuda``.

    Raises:
        UserError: the folder is damaged, edited, or of another member.
    """
    return load_source(checked_source(spec, paths), list(sites), spec["precision"], device)


def checked_source(spec: Mapping[str, Any], paths: Sequence[Path]) -> Source:
    """Where a checkpoint lies, once its folder was found to be what the run made."""
    folder = paths[0].parent
    provenance.check(folder, spec)
    # As on the hub: a name of two parts below a folder.
    return Source(f"{folder.parent.name}/{folder.name}", str(folder.parent.parent))
