"""What small language models of a run are steered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.cohorts.base import Concept, Subject, TokenSet
from crossseed.cohorts.neox.tokenizer import load
from crossseed.cohorts.text import prompts


def make(
    spec: Mapping[str, Any],
    tokenizer: Sequence[Path],
    files: Sequence[Path],
    sets: Mapping[str, TokenSet],
) -> list[Concept]:
    """See `crossseed.cohorts.base`."""
    return prompts.concepts(files, load(tokenizer), spec["trials"])


def pinned(subject: Subject, shared: Sequence[str], width: int) -> np.ndarray:
    """Nothing: the models share no weights."""
    return np.zeros((0, width))
