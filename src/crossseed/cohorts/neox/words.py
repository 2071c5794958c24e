"""The text of tokens that small language models of a run read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import Words
from crossseed.cohorts.neox.tokenizer import load
from crossseed.cohorts.text.words import of_tokenizer


def make(spec: Mapping[str, Any], tokenizer: Sequence[Path]) -> Words:
    """See `crossseed.cohorts.base`."""
    return of_tokenizer(load(tokenizer))
