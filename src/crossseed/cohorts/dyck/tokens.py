"""Token sets of toy cohorts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crossseed.cohorts.base import SPLITS, TokenSet
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.config import Tokens
from crossseed.seeding import generator


def make_tokens(
    spec: dict[str, Any], inputs: Sequence[Path]
) -> tuple[dict[str, TokenSet], dict[str, Any]]:
    """Token sets by split, taken as ranges from one list of distinct sequences."""
    tokens = Tokens.model_validate(spec)
    rng = generator("dyck-tokens", tokens.seed)
    rows = task.sample_distinct(rng, tokens.sequences, (tokens.lengths[0], tokens.lengths[1]))
    found = {}
    for split in SPLITS:
        first, end = getattr(tokens, split)
        part = rows[first:end]
        labels = task.label(part)
        found[split] = TokenSet(
            part,
            part != task.PAD,
            {"depth": labels.depth_nt, "valid": labels.valid_nt},
            np.arange(len(part)),
        )
    return found, {}
