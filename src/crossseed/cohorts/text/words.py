"""Tokens of language models as text, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossseed.cohorts.base import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def of_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Words:
    """Each token decoded alone; bytes that make no character by themselves are the sign for that."""
    return lambda ids: [str(text) for text in tokenizer.batch_decode([[token] for token in ids])]
