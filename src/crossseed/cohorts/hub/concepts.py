"""What language models from outside the run are steered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.cohorts.base import Concept, Subject, TokenSet
from crossseed.cohorts.hub.loading import Source, load_tokenizer
from crossseed.cohorts.text import prompts


def make(
    spec: Mapping[str, Any],
    tokenizer: Sequence[Path],
    files: Sequence[Path],
    sets: Mapping[str, TokenSet],
) -> list[Concept]:
    """See `crossseed.cohorts.base`."""
    found = load_tokenizer(Source(spec["tokenizer"], spec["folder"]))
    return prompts.concepts(files, found, spec["trials"])


def pinned(subject: Subject, shared: Sequence[str], width: int) -> np.ndarray:
    """Nothing: the models are not known to share weights."""
    return np.zeros((0, width))
