"""Configuration of the text that language-model cohorts read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from crossseed.config.fields import Count, CountOrZero, Model, NonEmpty, Sequences

Text = Annotated[str, NonEmpty]


class _Documents(Model):
    """What every corpus declares."""

    min_characters: CountOrZero = Field(
        description="Documents with fewer characters are left out (published: 200)."
    )


class StdlibCorpus(_Documents):
    """The text that every machine has: the sources of Python's standard library."""

    source: Literal["stdlib"] = Field(
        description="`stdlib`: the sources, docstrings included, of the standard library of the "
        "Python that runs; a file is a document. Tests and installed packages are left out."
    )


class FolderCorpus(_Documents):
    """A folder of the user's own."""

    source: Literal["folder"] = Field(
        description="`folder`: files of one folder and its subfolders, in sorted order. A "
        "`.parquet` or `.jsonl` file has a document a row; any other file is one document, "
        "UTF-8. Names that start with a dot are left out, links to folders are not followed."
    )
    path: Text = Field(description="The folder; relative paths start at the working directory.")
    text_field: Text = Field(
        description="Column of `.parquet` and key of `.jsonl` files that holds the text."
    )


class HubCorpus(_Documents):
    """A dataset on the Hugging Face hub."""

    source: Literal["hub"] = Field(
        description="`hub`: a dataset streamed from the Hugging Face hub in its stored order, as "
        "far as it is needed."
    )
    dataset: Text = Field(description="Its id, e.g. `monology/pile-uncopyrighted`.")
    name: Text | None = Field(description="Its configuration, or null for the default one.")
    split: Text = Field(description="Its split, e.g. `train`.")
    revision: Text | None = Field(
        description="Branch, tag or commit; null takes the newest, which may change under you."
    )
    text_field: Text = Field(description="Column that holds the text.")


Corpus = Annotated[StdlibCorpus | FolderCorpus | HubCorpus, Field(discriminator="source")]


class TextTokens(Model):
    """The sequences on which activations are read.

    A document goes to a split, or to none, by what it says and the seed alone.
    """

    seed: CountOrZero = Field(description="Decides which document goes to which split.")
    context: Annotated[int, Field(ge=2)] = Field(description="Positions a sequence.")
    packing: Literal["documents", "packed"] = Field(
        description="`documents`: the first `context` tokens of each document that has so many "
        "(as published); `packed`: documents of a split, each followed by the tokenizer's "
        "end-of-text token, cut into sequences."
    )
    most_a_document: Count | None = Field(
        description="With `packed`, sequences' worth of text taken from one document at most, so "
        "that few long documents do not fill a split; null: all of it."
    )
    keep_first_position: bool = Field(
        description="Whether activations at position 0 are kept (published: true); they are "
        "outliers in many models."
    )
    special_tokens: bool = Field(
        description="Whether the tokenizer adds its own special tokens to a document, such as "
        "BERT's [CLS] and [SEP]; they count towards `context`."
    )
    fit: Sequences = Field(description="Sequences that rotations are fitted on.")
    train: Sequences = Field(description="Sequences that SAEs are trained on.")
    eval: Sequences = Field(description="Sequences behind every reported number.")
