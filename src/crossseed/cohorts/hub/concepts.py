"""What language models from outside the run are steered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import Concept, TokenSet
from crossseed.cohorts.hub.loading import load_tokenizer
from crossseed.cohorts.hub.source import Source
from crossseed.cohorts.text import prompts
from crossseed.cohorts.text.prompts import pinned

__all__ = ["make", "pinned"]


def make(
    spec: Mapping[str, Any],
    tokenizer: Sequence[Path],
    files: Sequence[Path],
    sets: Mapping[str, TokenSet],
) -> list[Concept]:
    """See `crossseed.cohorts.base`."""
    found = load_tokenizer(Source(spec["tokenizer"], spec["folder"]))
    return prompts.concepts(files, found, spec["trials"])
