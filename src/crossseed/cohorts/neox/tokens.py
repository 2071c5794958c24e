"""Token sets of cohorts of small language models: text they were not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.neox.tokenizer import corpus_of, load
from crossseed.cohorts.text import corpus as text
from crossseed.cohorts.text.config import TextTokens
from crossseed.cohorts.text.tokens import token_sets


def make_tokens(
    spec: dict[str, Any], inputs: Sequence[Path]
) -> tuple[dict[str, TokenSet], dict[str, Any]]:
    """Token sets by split, and what they were made from."""
    tokens = TextTokens.model_validate(spec["tokens"])
    return token_sets(text.documents(corpus_of(spec)), load(inputs), tokens, spec["corpus_share"])
