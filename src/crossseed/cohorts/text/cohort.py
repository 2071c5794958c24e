"""What cohorts of language models declare, whether downloaded or trained here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from crossseed.cohorts.config import CohortConfig
from crossseed.cohorts.text.config import Corpus, TextTokens


def block_flop(width: int, layers: int) -> float:
    """FLOP a token of a forward pass through transformer blocks of the usual 12 d² parameters."""
    return 2.0 * 12 * width**2 * layers


class TextCohort(CohortConfig):
    """A cohort that reads text."""

    corpus: Corpus
    tokens: TextTokens
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="Arithmetic of the forward pass in which activations are read."
    )

    @property
    def reads_text(self) -> bool:
        return True

    def tokens_spec(self) -> dict[str, Any]:
        return {"corpus": self.corpus.model_dump(), "tokens": self.tokens.model_dump()}

    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        return {"dtype": self.activation_dtype, "precision": self.precision}

    @property
    def kinship(self) -> dict[str, str]:
        return {**super().kinship, "data": self.corpus.source}

    def sequences_of(self, split: str) -> int:
        return int(getattr(self.tokens, split))

    def most_tokens(self, split: str) -> int:
        positions = self.tokens.context - (not self.tokens.keep_first_position)
        return self.sequences_of(split) * positions
