"""What small language models of a run are steered by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossseed.cohorts.base import Concept, TokenSet
from crossseed.cohorts.neox.tokenizer import load
from crossseed.cohorts.text import prompts
from crossseed.cohorts.text.prompts import pinned

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["make", "pinned", "tokenizer_of"]


def tokenizer_of(spec: Mapping[str, Any], files: Sequence[Path]) -> PreTrainedTokenizerBase:
    """See `crossseed.cohorts.base`."""
    return load(files)


def make(
    spec: Mapping[str, Any],
    tokenizer: Sequence[Path],
    files: Sequence[Path],
    sets: Mapping[str, TokenSet],
) -> list[Concept]:
    """See `crossseed.cohorts.base`."""
    return prompts.concepts(files, tokenizer_of(spec, tokenizer), spec["trials"])
