"""Members of cohorts of small language models, read as any model in transformers' format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.hub.loading import Source
from crossseed.cohorts.hub.members import HubMember, load_source
from crossseed.cohorts.neox.config import PROVENANCE
from crossseed.errors import UserError
from crossseed.store import file_digest


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
    folder = paths[0].parent
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))[PROVENANCE]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}: not written by this workflow ({error!r}); delete it and run again"
        ) from error
    for key in ("cohort", "seed", "checkpoint"):
        if told.get(key) != spec[key]:
            raise UserError(
                f"{folder}: weights of {key} {told.get(key)}, expected {spec[key]}; give the "
                "member's own folder"
            )
    weights = folder / "model.safetensors"
    if file_digest(weights) != told.get("weights"):
        raise UserError(
            f"{weights}: edited or damaged after it was written; delete it and run again"
        )
    # As on the hub: a name of two parts below a folder.
    source = Source(f"{folder.parent.name}/{folder.name}", str(folder.parent.parent))
    return load_source(source, list(sites), spec["precision"], device)
