"""The text of tokens that language models from outside the run read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import Words
from crossseed.cohorts.hub.loading import load_tokenizer
from crossseed.cohorts.hub.source import Source
from crossseed.cohorts.text.words import of_tokenizer


def make(spec: Mapping[str, Any], tokenizer: Sequence[Path]) -> Words:
    """See `crossseed.cohorts.base`."""
    return of_tokenizer(load_tokenizer(Source(spec["tokenizer"], spec["folder"])))
