"""The byte-level BPE tokenizer of a cohort of small language models."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from crossseed.atomic import move_into_place
from crossseed.cohorts.text import corpus as text
from crossseed.cohorts.text.config import Corpus
from crossseed.cohorts.text.tokens import reserved_documents
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT = "<|endoftext|>"


def corpus_of(spec: dict[str, Any]) -> Corpus:
    """The corpus that a spec names."""
    found: Corpus = TypeAdapter(Corpus).validate_python(spec["corpus"])
    return found


def own_documents(spec: dict[str, Any]) -> list[str]:
    """The documents that tokenizer and models are trained on."""
    documents = text.distinct(text.documents(corpus_of(spec)))
    return list(reserved_documents(documents, spec["text_seed"], spec["corpus_share"]))


def make(spec: dict[str, Any], out: Sequence[Path]) -> None:
    """Trains and saves the tokenizer.

    Args:
        spec: ``corpus``, ``text_seed``, ``corpus_share`` and ``vocabulary``.
        out: the files of a transformers tokenizer, all in one folder.

    Raises:
        UserError: the text is too little for the vocabulary.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=spec["vocabulary"],
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(own_documents(spec), trainer)
    if tokenizer.get_vocab_size() < spec["vocabulary"]:
        raise UserError(
            f"the corpus gives only {tokenizer.get_vocab_size()} of the {spec['vocabulary']} tokens "
            "asked for; lower model.vocabulary or choose a larger corpus"
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TEXT, bos_token=END_OF_TEXT
    )
    with move_into_place(out) as folder:
        fast.save_pretrained(folder)


def load(files: Sequence[Path]) -> PreTrainedTokenizerFast:
    """The tokenizer that `make` wrote.

    Raises:
        UserError: a file is missing or damaged.
    """
    from transformers import PreTrainedTokenizerFast

    if not files:
        raise UserError("this cohort has a tokenizer of its own; give --tokenizer")
    folder = files[0].parent
    try:
        return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: not a tokenizer ({error}); delete it and run again") from error
