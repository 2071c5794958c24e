"""Configuration of cohorts of small GPT-NeoX models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.base import FINAL, step_of
from crossseed.cohorts.hub import sites
from crossseed.cohorts.optimisation import Optimisation
from crossseed.cohorts.text.cohort import TextCohort, block_flop
from crossseed.config.fields import Count, Model, Number
from crossseed.layout import MODEL, TOKENIZER

# What a transformers folder holds; tokenizers are saved beside the weights.
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_config.json")
NAMES = ("model.safetensors", "config.json", *TOKENIZER_NAMES)
BYTES = 256


class NeoxModel(Model):
    """The shape of the models."""

    width: Count = Field(description="Hidden size.")
    layers: Count = Field(description="Number of blocks.")
    heads: Count = Field(description="Attention heads a block; they divide the width.")
    mlp_width: Count = Field(description="Hidden size of the MLPs.")
    vocabulary: Annotated[int, Field(gt=BYTES + 1)] = Field(
        description="Tokens of the byte-level BPE tokenizer, end-of-text included."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> NeoxModel:
        # Rotary embeddings turn pairs of dimensions, a quarter of each head.
        if self.width % self.heads or (self.width // self.heads) % 8:
            raise ValueError(
                f"width {self.width} over {self.heads} heads gives no head size that 8 divides"
            )
        return self


class NeoxTraining(Optimisation):
    """How each model is trained."""

    context: Annotated[int, Field(ge=2)] = Field(description="Tokens a training sequence.")
    corpus_share: Annotated[Number, Field(gt=0, lt=1)] = Field(
        description="Share of the corpus's documents that the tokenizer and the models are "
        "trained on; comparisons and held-out losses use the others."
    )


class NeoxCohort(TextCohort):
    """A cohort of small language models, trained here from independent seeds."""

    kind: Literal["neox"] = Field(
        description="`neox`: small GPT-NeoX models trained by the run on its corpus."
    )
    model: NeoxModel
    training: NeoxTraining

    @model_validator(mode="after")
    def _sites_exist(self) -> NeoxCohort:
        for site in self.sites:
            said = sites.why_not(site, "gpt_neox", self.model.layers, parallel=True)
            if said:
                raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _fits(self) -> NeoxCohort:
        missing = self.missing_checkpoints(self.checkpoints)
        if missing:
            raise ValueError(
                f"checkpoint {missing[0]!r} is not kept; add {step_of(missing[0])} to "
                "training.keep_steps"
            )
        if self.tokens.context > self.training.context:
            raise ValueError(
                f"tokens.context {self.tokens.context} exceeds training.context "
                f"{self.training.context}: the models never saw such positions"
            )
        return self

    def missing_checkpoints(self, names: Sequence[str]) -> list[str]:
        kept = {None, *self.training.keep_steps}
        return [name for name in names if step_of(name) not in kept]

    def _text(self) -> dict[str, Any]:
        """What decides which documents models and tokenizer are trained on."""
        return {
            "corpus": self.corpus.model_dump(),
            "text_seed": self.tokens.seed,
            "corpus_share": self.training.corpus_share,
        }

    def tokenizer_spec(self) -> dict[str, Any]:
        return {**self._text(), "vocabulary": self.model.vocabulary}

    def tokens_spec(self) -> dict[str, Any]:
        return {**super().tokens_spec(), "corpus_share": self.training.corpus_share}

    def training_spec(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            **self._text(),
            "model": self.model.model_dump(),
            "training": self.training.model_dump(),
        }

    @property
    def why_not_trained_through(self) -> None:
        return None

    def why_not_cut(self, site: str) -> str | None:
        return sites.why_not_cut(site, "gpt_neox", self.model.layers)

    def report_spec(self) -> dict[str, Any]:
        return {"shared": [], "recipe": {**self.model.model_dump(), **self.training.model_dump()}}

    @property
    def width(self) -> int:
        return self.model.width

    @property
    def classes(self) -> int:
        return self.model.vocabulary

    @property
    def forward_flop_per_token(self) -> float:
        return block_flop(self.model.width, self.model.layers)

    @property
    def parameters(self) -> int:
        model = self.model
        block = 4 * model.width**2 + 2 * model.width * model.mlp_width
        return 2 * model.vocabulary * model.width + model.layers * block

    @property
    def kept_checkpoints(self) -> int:
        return len(self.training.keep_steps) + 1

    @property
    def training_steps(self) -> int:
        return self.training.steps

    @property
    def training_flop(self) -> float:
        training = self.training
        return 6.0 * self.parameters * training.steps * training.batch_rows * training.context

    @property
    def trained_files(self) -> list[str]:
        kept = [*(f"step{step}" for step in sorted(self.training.keep_steps)), FINAL]
        return [f"{MODEL}/{checkpoint}/{name}" for checkpoint in kept for name in NAMES]

    @property
    def tokenizer_files(self) -> list[str]:
        return [f"{TOKENIZER}/{name}" for name in TOKENIZER_NAMES]

    @property
    def member_files(self) -> list[str]:
        return [f"{MODEL}/{{checkpoint}}/{name}" for name in NAMES]
