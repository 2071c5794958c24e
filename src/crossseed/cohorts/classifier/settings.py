"""What is said of the data, the model, the training and the tokens of text classifiers."""

from __future__ import annotations

import re
import string
from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossseed.cohorts.hub.config import MODEL_ID
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
