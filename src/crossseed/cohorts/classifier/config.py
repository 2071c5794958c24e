"""Configuration of cohorts of text classifiers."""

from __future__ import annotations

import math
import re
import string
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.base import FINAL
from crossseed.cohorts.declared import CohortConfig
from crossseed.cohorts.hub import sites
from crossseed.cohorts.hub.config import MODEL_ID
from crossseed.cohorts.text.cohort import block_flop
from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Fraction,
    Model,
    Name,
    NonEmpty,
    NotNegative,
    Number,
    Positive,
)
from crossseed.layout import MODEL, TOKENIZER

# What a transformers folder holds; tokenizers are saved beside the weights.
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_config.json")
NAMES = ("model.safetensors", "config.json", *TOKENIZER_NAMES)
# The checkpoint before the first step of fine-tuning.
START = "step0"
# Rows of the embedding of BERT's own tokenizer, where a model's is not known.
BERT_VOCABULARY = 30522
# Of a sequence: [CLS] and [SEP].
SPECIAL = 2
Text = Annotated[str, NonEmpty]


class _Sentences(Model):
    """What every set of labelled sentences declares."""

    classes: Annotated[
        list[Text],
        Distinct,
        Field(
            min_length=2,
            description="Names of the classes in the order of their numbers; a label outside them, and a class "
            "without a sentence, are refused.",
        ),
    ]
    train: Count = Field(
        description="Sentences that models are trained on; `tokens.fit` and `tokens.train` are of them. "
        "Sentences are counted once, however often they stand in the data; fewer than asked for are refused."
    )
    development: Count = Field(
        description="Other sentences of the training data, on which early stopping decides."
    )
    eval: Count = Field(description="Sentences behind every reported number.")


class GrammarData(_Sentences):
    """Sentences that the project makes itself."""

    source: Literal["grammar"] = Field(
        description="`grammar`: sentences drawn from a template grammar; each of `eval` holds a word that no "
        "other sentence with a label holds."
    )
    grammar: Name = Field(
        description="File of `resources/grammars/`: `sentiment`, `politeness`, `emotion`, or one of your own."
    )
    seed: CountOrZero = Field(description="Seed of the draws.")
    unlabelled: CountOrZero = Field(
        description="More sentences without labels, for the tokenizer and for `model.pretraining`. They hold the "
        "words of `eval` too, as BERT knows the words of a test set, but are no sentences of it."
    )

    @property
    def called(self) -> str:
        """What the data go by."""
        return self.grammar


class _Labelled(_Sentences):
    text_field: Text = Field(description="Key of the text.")
    label_field: Text = Field(
        description="Key of the label: the number of a class, or its name. −1, as hidden test sets have, is refused."
    )


class FileData(_Labelled):
    """Two files of the user's own."""

    source: Literal["files"] = Field(
        description="`files`: `.jsonl` files with a JSON object a line."
    )
    train_file: Text = Field(description="File that `train` and `development` are of.")
    eval_file: Text = Field(description="File that `eval` is of.")

    @property
    def called(self) -> str:
        """What the data go by."""
        return self.train_file


class HubData(_Labelled):
    """A data set on the Hugging Face hub."""

    source: Literal["hub"] = Field(description="`hub`: a data set on the Hugging Face hub.")
    dataset: Text = Field(description="Its id, e.g. `stanfordnlp/sst2` or `cardiffnlp/tweet_eval`.")
    name: Text | None = Field(
        description="Its configuration, e.g. `emotion`, or null for the default one."
    )
    revision: Text | None = Field(
        description="Branch, tag or commit; null takes the newest, which may change under you."
    )
    train_split: Text = Field(description="Split that `train` and `development` are of.")
    eval_split: Text = Field(
        description="Split that `eval` is of; it must have labels, which GLUE's `test` has not."
    )

    @property
    def called(self) -> str:
        """What the data go by."""
        return f"{self.dataset} {self.name}" if self.name else self.dataset


Data = Annotated[GrammarData | FileData | HubData, Field(discriminator="source")]


class Pretraining(Model):
    """Masked-language modelling before fine-tuning, on the training sentences and those without labels."""

    steps: Count = Field(description="Optimiser steps.")
    batch_rows: Count = Field(description="Sentences a step.")
    peak_lr: Positive = Field(description="Peak learning rate of AdamW; warm-up as in `training`.")
    masked: Annotated[Number, Field(gt=0, lt=1)] = Field(
        description="Share of tokens that are predicted (BERT: 0.15); of these 80 % are hidden and 10 % replaced."
    )


class ScratchModel(Model):
    """Small BERT models made by the run."""

    source: Literal["scratch"] = Field(
        description="`scratch`: BERT models of this shape, whose tokenizer and weights the run makes."
    )
    width: Count = Field(description="Hidden size.")
    layers: Count = Field(description="Number of blocks.")
    heads: Count = Field(description="Attention heads a block; they divide the width.")
    mlp_width: Count = Field(description="Hidden size of the MLPs.")
    vocabulary: Annotated[int, Field(ge=100)] = Field(
        description="Tokens of the WordPiece tokenizer at most: letters and the most frequent words; few "
        "different words give fewer."
    )
    dropout: Annotated[Number, Field(ge=0, lt=1)] = Field(
        description="Share of activations and attention weights dropped in training (BERT: 0.1)."
    )
    pretraining: Pretraining | None = Field(
        description="What a base model learns before it is fine-tuned; null fine-tunes random weights."
    )

    @model_validator(mode="after")
    def _heads_fit(self) -> ScratchModel:
        if self.width % self.heads:
            raise ValueError(f"{self.heads} heads do not divide the width {self.width}")
        return self


class CheckpointModel(Model):
    """Models that start from a checkpoint made elsewhere."""

    source: Literal["checkpoint"] = Field(
        description="`checkpoint`: BERT models in transformers' format, from a folder or the hub."
    )
    id: Text = Field(
        description="Id of the base, `org/name@revision` (published: `google-bert/bert-base-uncased`); with "
        "`kind_of_seed: pretrain` a pattern over `{seed}`, such as `google/multiberts-seed_{seed}`."
    )
    tokenizer: Text = Field(
        description="Id of the model whose tokenizer makes the tokens of all; the bases' own must equal it."
    )
    folder: str | None = Field(
        description="Folder that holds them as `org/name@revision/`; null: the hub or, with "
        "HF_HUB_OFFLINE=1, its cache alone."
    )
    width: Count = Field(description="Hidden size; a base of another one is refused.")
    layers: Count = Field(description="Number of blocks; a base of another number is refused.")

    @model_validator(mode="after")
    def _ids(self) -> CheckpointModel:
        for key, pattern in (("id", self.id), ("tokenizer", self.tokenizer)):
            if not MODEL_ID.fullmatch(re.sub(r"\{\w*\}", "0", pattern)):
                raise ValueError(
                    f"{key} {pattern!r} is no model id; expected org/name or org/name@revision"
                )
        if self.names - {"seed"}:
            raise ValueError(
                f"id {self.id!r} names {sorted(self.names - {'seed'})}; known is {{seed}}"
            )
        return self

    @property
    def names(self) -> set[str]:
        """Placeholders of the id."""
        return {name for _, name, _, _ in string.Formatter().parse(self.id) if name is not None}


AnyModel = Annotated[ScratchModel | CheckpointModel, Field(discriminator="source")]


class ClassifierTraining(Model):
    """How each model is fine-tuned: AdamW on all weights, linear warm-up, then cosine to 0.

    Dropout is on, betas are PyTorch's. Published values, which are the defaults, are those of the one table of the
    joint study.
    """

    epochs: Count = Field(
        default=5, description="Passes over the training sentences, at most (published: 5)."
    )
    batch_rows: Count = Field(default=16, description="Sentences a step (published: 16).")
    peak_lr: Positive = Field(
        default=5e-5, description="Peak learning rate of AdamW (published: 5e-5)."
    )
    warmup_ratio: Fraction = Field(
        default=0.1, description="Share of the steps in which the rate rises (published: 0.1)."
    )
    weight_decay: NotNegative = Field(
        default=1e-3, description="AdamW's decoupled weight decay (published: 1e-3)."
    )
    grad_clip: Positive = Field(
        default=1.0,
        description="Largest global gradient norm (not published; transformers' default: 1).",
    )
    patience: Count = Field(
        default=5,
        description="Epochs without a lower loss on `development` after which training stops (published: 5, "
        "of what is not said); the weights with the lowest are kept.",
    )
    precision: Literal["float32", "bfloat16"] = Field(
        default="bfloat16",
        description="Arithmetic of the forward pass (published: mixed); weights and optimiser stay in float32.",
    )


class ClassifierTokens(Model):
    """The sentences on which activations are read, each a sequence, padded on the right.

    `fit` and `train` are drawn from the training sentences, as published, `eval` from those of `eval`.
    """

    seed: CountOrZero = Field(
        default=42, description="Decides which sentences are taken (published: 42)."
    )
    context: Annotated[int, Field(ge=4)] = Field(
        default=128,
        description="Tokens of a sentence at most; the rest is cut (published: 128). Models from scratch have as "
        "many positions; a base with fewer is refused.",
    )
    keep_special_tokens: bool = Field(
        description="Whether activations at [CLS] and [SEP] are kept; padding never is."
    )
    fit: Count = Field(
        default=500, description="Sentences that rotations are fitted on (published: 500)."
    )
    train: Count = Field(description="Sentences that SAEs are trained on.")
    eval: Count = Field(description="Sentences behind every reported number.")


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
