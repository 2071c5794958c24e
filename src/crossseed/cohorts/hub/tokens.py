"""Token sets of cohorts of downloaded models, made with the tokenizer that the config names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from crossseed.cohorts.base import TokenSet
from crossseed.cohorts.hub.loading import load_tokenizer
from crossseed.cohorts.hub.source import Source
from crossseed.cohorts.text import corpus as text
from crossseed.cohorts.text.config import Corpus, TextTokens
from crossseed.cohorts.text.tokens import token_sets


def make_tokens(
    spec: dict[str, Any], inputs: Sequence[Path]
) -> tuple[dict[str, TokenSet], dict[str, Any]]:
    """Token sets by split, and what they were made from."""
    tokens = TextTokens.model_validate(spec["tokens"])
    tokenizer: Any = load_tokenizer(Source(spec["tokenizer"], spec["folder"]))
    corpus: Corpus = TypeAdapter(Corpus).validate_python(spec["corpus"])
    return token_sets(text.documents(corpus), tokenizer, tokens)
