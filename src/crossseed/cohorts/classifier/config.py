"""Configuration of cohorts of text classifiers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.base import FINAL
from crossseed.cohorts.classifier.settings import (
    AnyModel,
    CheckpointModel,
    ClassifierTokens,
    ClassifierTraining,
    Data,
    GrammarData,
    ScratchModel,
)
from crossseed.cohorts.config import CohortConfig
from crossseed.cohorts.hub import sites
from crossseed.cohorts.neox.config import NAMES, TOKENIZER_NAMES
from crossseed.cohorts.text.cohort import block_flop
from crossseed.layout import MODEL, TOKENIZER

# The checkpoint before the first step of fine-tuning.
START = "step0"
# Rows of the embedding of BERT's own tokenizer, where a model's is not known.
BERT_VOCABULARY = 30522
# Of a sequence: [CLS] and [SEP].
SPECIAL = 2


class ClassifierCohort(CohortConfig):
    """A cohort of BERT classifiers, fine-tuned by the run."""

    kind: Literal["classifier"] = Field(
        description="`classifier`: BERT models of which the run makes classifiers of sentences."
    )
    kind_of_seed: Literal["finetune", "pretrain"] = Field(
        description="What a seed decides. `finetune`: all start from one base, and differ in the start of the "
        "head, in dropout and in the order of the sentences; a base made by the run is that of the anchor's seed. "
        "`pretrain`: each has a base of its own too."
    )
    data: Data
    model: AnyModel
    training: ClassifierTraining
    tokens: ClassifierTokens
    precision: Literal["float32", "bfloat16", "float16"] = Field(
        description="Arithmetic of the forward pass in which activations are read."
    )

    @model_validator(mode="after")
    def _sites_exist(self) -> ClassifierCohort:
        for site in self.sites:
            said = sites.why_not(site, "bert", self.model.layers, parallel=False)
            if said:
                raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _seeds_differ_as_said(self) -> ClassifierCohort:
        model = self.model
        if isinstance(model, CheckpointModel) and ("seed" in model.names) == self._one_base:
            raise ValueError(
                f"model.id {model.id!r} names a base for each seed, but kind_of_seed = finetune starts all from "
                "one; leave {seed} out"
                if self._one_base
                else f"model.id {model.id!r} names one base for all seeds, but kind_of_seed = pretrain needs one "
                "for each; put {seed} in"
            )
        return self

    @model_validator(mode="after")
    def _fits(self) -> ClassifierCohort:
        missing = self.missing_checkpoints(self.checkpoints)
        if missing:
            raise ValueError(
                f"checkpoint {missing[0]!r} is not kept; a classifier has {' and '.join(self._kept)}"
            )
        tokens, data = self.tokens, self.data
        if tokens.fit + tokens.train > data.train:
            raise ValueError(
                f"tokens.fit and tokens.train take {tokens.fit + tokens.train} sentences, but data.train = "
                f"{data.train}; lower one"
            )
        if tokens.eval > data.eval:
            raise ValueError(
                f"tokens.eval takes {tokens.eval} sentences, but data.eval = {data.eval}; lower it"
            )
        if self.training.batch_rows > data.train:
            raise ValueError(
                f"training.batch_rows = {self.training.batch_rows} exceeds data.train = {data.train}; lower it"
            )
        return self

    @property
    def _kept(self) -> list[str]:
        """Checkpoints; the start of fine-tuning where the run made it, since seeds may start from the anchor's."""
        return [START, FINAL] if isinstance(self.model, ScratchModel) else [FINAL]

    @property
    def _one_base(self) -> bool:
        return self.kind_of_seed == "finetune"

    def missing_checkpoints(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if name not in self._kept]

    def needs_anchor(self, seed: int) -> bool:
        return self._one_base and isinstance(self.model, ScratchModel) and seed != self.anchor

    @property
    def why_not_trained_through(self) -> None:
        return None

    def why_not_cut(self, site: str) -> str | None:
        return sites.why_not_cut(site, "bert", self.model.layers)

    @property
    def predicts_positions(self) -> bool:
        return False

    @property
    def has_development(self) -> bool:
        return True

    @property
    def kinship(self) -> dict[str, str]:
        return {"data": self.data.called, "kind_of_seed": self.kind_of_seed}

    # --- specs --------------------------------------------------------------------------

    @property
    def resource_files(self) -> list[str]:
        if isinstance(self.data, GrammarData):
            return [f"grammars/{self.data.grammar}.yaml"]
        return []

    def _text(self) -> dict[str, Any]:
        """What decides the sentences."""
        return {"data": self.data.model_dump()}

    def tokenizer_spec(self) -> dict[str, Any]:
        assert isinstance(self.model, ScratchModel)
        return {**self._text(), "vocabulary": self.model.vocabulary}

    def _own_tokenizer(self) -> dict[str, Any]:
        """Which tokenizer is used, where the run makes none."""
        if isinstance(self.model, CheckpointModel):
            return {"tokenizer": self.model.tokenizer, "folder": self.model.folder}
        return {}

    def tokens_spec(self) -> dict[str, Any]:
        return {**self._text(), "tokens": self.tokens.model_dump(), **self._own_tokenizer()}

    def text_spec(self) -> dict[str, Any]:
        return self._own_tokenizer()

    def sentences_spec(self) -> dict[str, Any]:
        context = self.tokens.context
        return {"classes": self.data.classes, "text": self.text_spec(), "context": context}

    def training_spec(self, seed: int) -> dict[str, Any]:
        return {
            "seed": seed,
            "base_seed": self.anchor if self._one_base else seed,
            **self._text(),
            "context": self.tokens.context,
            "model": self.model.model_dump(),
            "training": self.training.model_dump(),
        }

    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        return {"dtype": self.activation_dtype, "precision": self.precision}

    def report_spec(self) -> dict[str, Any]:
        recipe = {**self.model.model_dump(), **self.training.model_dump()}
        return {"shared": [], "recipe": {"kind_of_seed": self.kind_of_seed, **recipe}}

    # --- sizes --------------------------------------------------------------------------

    def sequences_of(self, split: str) -> int:
        return int(getattr(self.tokens, split))

    def most_tokens(self, split: str) -> int:
        left_out = 0 if self.tokens.keep_special_tokens else SPECIAL
        return self.sequences_of(split) * (self.tokens.context - left_out)

    @property
    def width(self) -> int:
        return self.model.width

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    @property
    def reads_text(self) -> bool:
        return True

    @property
    def why_not_resumed(self) -> str | None:
        return "predicts one class a sentence, and these studies score predictions position by position"

    @property
    def why_not_steered(self) -> str | None:
        return "predicts classes of sentences, and steering is scored on the next token"

    @property
    def forward_flop_per_token(self) -> float:
        return block_flop(self.model.width, self.model.layers)

    @property
    def parameters(self) -> int:
        model = self.model
        own = isinstance(model, ScratchModel)
        mlp_width = model.mlp_width if isinstance(model, ScratchModel) else 4 * model.width
        vocabulary = model.vocabulary if isinstance(model, ScratchModel) else BERT_VOCABULARY
        positions = self.tokens.context if own else 512
        block = 4 * model.width**2 + 2 * model.width * mlp_width
        return (vocabulary + positions) * model.width + model.layers * block

    @property
    def loaded_bytes(self) -> int:
        return 4 * self.parameters

    @property
    def kept_checkpoints(self) -> int:
        return len(self._kept)

    @property
    def training_steps(self) -> int:
        epoch = math.ceil(self.data.train / self.training.batch_rows)
        return self.training.epochs * epoch + self._pretraining("steps")

    @property
    def training_flop(self) -> float:
        rows = self.training.epochs * self.data.train
        rows += self._pretraining("steps") * self._pretraining("batch_rows")
        return 6.0 * self.parameters * rows * self.tokens.context

    def _pretraining(self, key: str) -> int:
        found = self.model.pretraining if isinstance(self.model, ScratchModel) else None
        return getattr(found, key) if found else 0

    # --- files --------------------------------------------------------------------------

    @property
    def trained_files(self) -> list[str]:
        return [f"{MODEL}/{checkpoint}/{name}" for checkpoint in self._kept for name in NAMES]

    @property
    def tokenizer_files(self) -> list[str]:
        if isinstance(self.model, CheckpointModel):
            return []
        return [f"{TOKENIZER}/{name}" for name in TOKENIZER_NAMES]

    @property
    def member_files(self) -> list[str]:
        return [f"{MODEL}/{{checkpoint}}/{name}" for name in NAMES]
