"""Tokens of the toy as text: its brackets, and where a sequence begins and ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import Words
from crossseed.cohorts.dyck import task

NAMES = {task.PAD: "_", task.BOS: "^", task.EOS: "$"}
NAMES |= {task.FIRST_BRACKET + k: sign for k, sign in enumerate("()[]{}")}


def make(spec: Mapping[str, Any], tokenizer: Sequence[Path]) -> Words:
    """See `crossseed.cohorts.base`."""
    return lambda ids: [NAMES[int(token)] for token in ids]
