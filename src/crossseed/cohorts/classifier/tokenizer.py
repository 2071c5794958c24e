"""The WordPiece tokenizer of a cohort of classifiers, and sentences as token ids.

In small letters, as BERT's uncased one: letters and digits, and the most frequent words of the training sentences
and of those without labels. A word that is not among them comes in letters.
"""

from __future__ import annotations

import os
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crossseed.atomic import move_into_place
from crossseed.cohorts.classifier.data import sentences
from crossseed.cohorts.classifier.settings import CheckpointModel, ScratchModel
from crossseed.cohorts.hub.loading import load_tokenizer
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SPECIAL = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
CHARACTERS = string.ascii_lowercase + string.digits


class Encoded(NamedTuple):
    """Sentences as token ids.

    Attributes:
        tokens_nt: ids, padded on the right to the longest, (sentences, positions).
        special_nt: True at [CLS], [SEP] and padding. pad: the id of padding.
        n_cut: sentences that were longer than allowed.
    """

    tokens_nt: np.ndarray
    special_nt: np.ndarray
    pad: int
    n_cut: int

    @property
    def attend_nt(self) -> np.ndarray:
        """True where there is a token, not padding."""
        found: np.ndarray = self.tokens_nt != self.pad
        return found


def make(spec: Mapping[str, Any], out: Sequence[Path], data: Sequence[Path] = ()) -> None:
    """Makes and saves the tokenizer.

    Args:
        spec: ``data`` and ``vocabulary``.
        out: the files of a transformers tokenizer, all in one folder.
        data: see `crossseed.cohorts.classifier.data.sentences`.
    """
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    found = sentences(spec["data"], data)
    texts = [*found.parts["train"].texts, *found.unlabelled]
    normalizer, splitter = (
        normalizers.BertNormalizer(lowercase=True),
        pre_tokenizers.BertPreTokenizer(),
    )
    counts = Counter(
        word
        for text in texts
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    # Not by tokenizers' own trainer, which breaks ties in an order of its own each time.
    words = sorted(counts, key=lambda word: (-counts[word], word))
    pieces = [*SPECIAL.values(), *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS)]
    names = list(dict.fromkeys([*pieces, *words]))[: max(spec["vocabulary"], len(pieces))]
    ids = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.WordPiece(ids, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.WordPiece()
    ends = [(SPECIAL[name], ids[SPECIAL[name]]) for name in ("cls_token", "sep_token")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=ends
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIAL)
    with move_into_place(out) as folder:
        fast.save_pretrained(folder)


def named(model: ScratchModel | CheckpointModel) -> dict[str, Any]:
    """What a spec says of a tokenizer that the run does not make; nothing of one that it makes."""
    if isinstance(model, ScratchModel):
        return {}
    return {"tokenizer": model.tokenizer, "folder": model.folder}


def load(files: Sequence[Path], spec: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """The tokenizer that `make` wrote, or the one that a spec's ``tokenizer`` names.

    Raises:
        UserError: it is missing or damaged, or knows no padding.
    """
    from transformers import PreTrainedTokenizerFast

    if "tokenizer" in spec:
        found = load_tokenizer(Source(spec["tokenizer"], spec["folder"]))
    else:
        if not files:
            raise UserError("this cohort has a tokenizer of its own; give --tokenizer")
        folder = files[0].parent
        try:
            found = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{folder}: not a tokenizer ({error}); delete it and run again"
            ) from error
    if found.pad_token_id is None or found.mask_token_id is None:
        raise UserError(
            f"the tokenizer {found.name_or_path!r} has no padding or mask token; choose that of a BERT model"
        )
    return found


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], context: int) -> Encoded:
    """Sentences as token ids with [CLS] and [SEP], cut at `context` tokens.

    Raises:
        UserError: a sentence holds the padding token, which models would not see.
    """
    found = tokenizer(
        list(texts), truncation=True, max_length=context, return_attention_mask=False, verbose=False
    )["input_ids"]
    pad = int(tokenizer.pad_token_id)
    ends = {tokenizer.cls_token_id, tokenizer.sep_token_id}
    for text, ids in zip(texts, found, strict=True):
        if pad in ids:
            raise UserError(
                f"{text!r} holds the padding token {tokenizer.pad_token!r}; take it out of the data"
            )
    longest = max(map(len, found))
    tokens = np.full((len(found), longest), pad, np.int32)
    special = np.ones_like(tokens, bool)
    for row, ids in enumerate(found):
        tokens[row, : len(ids)] = ids
        special[row, : len(ids)] = [token in ends for token in ids]
    n_cut = 0
    if longest == context:
        whole = tokenizer(
            [text for text, ids in zip(texts, found, strict=True) if len(ids) == context],
            return_attention_mask=False,
            verbose=False,
        )["input_ids"]
        n_cut = sum(len(ids) > context for ids in whole)
    return Encoded(tokens, special, pad, n_cut)
