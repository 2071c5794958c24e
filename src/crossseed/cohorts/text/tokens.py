"""Token sets from documents: one pass, each document in one split or none.

Where a document goes follows from its text and a seed (`corpus.part_of`), so that it is the
same in any order of documents, and equal documents never meet in two splits:

    place in [0, 1):   0 ... reserved | fit | train | eval ... 1

`reserved` is the share kept for training models on; the rest is divided in proportion to
the sequences asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from crossseed.cohorts.base import SPLITS, TokenSet
from crossseed.cohorts.text.config import TextTokens
from crossseed.cohorts.text.corpus import key_of, part_of, place_of
from crossseed.errors import UserError
from crossseed.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Documents are tokenised together until either is reached.
BATCH_DOCUMENTS = 256
BATCH_CHARACTERS = 1 << 22
COUNTS = (
    "documents_read",
    "documents_reserved",
    "documents_repeated",
    "documents_too_short",
    "documents_spare",
    "sequences_repeated",
)


def reserved_documents(documents: Iterable[str], seed: int, reserved: float) -> Iterator[str]:
    """The documents that `token_sets` leaves for training models on."""
    return (text for text in documents if part_of(text, seed) < reserved)


def token_sets(
    documents: Iterable[str],
    tokenizer: PreTrainedTokenizerFast,
    tokens: TextTokens,
    reserved: float = 0.0,
) -> tuple[dict[str, TokenSet], dict[str, Any]]:
    """Token sets by split, and what they were made of.

    Documents are read until all splits are full. Repeated documents and repeated sequences
    are dropped, so that no two sequences are equal. Memory beyond the result is one batch of
    documents and a short digest of each document and sequence.

    Args:
        documents: texts in a fixed order.
        tokenizer: a fast tokenizer.
        tokens: what is asked for.
        reserved: share of documents, in [0, 1), that is left for training models on.

    Returns:
        Sets of full sequences, ids as uint16 where they fit, else int32; and plain values:
        ``documents_read``, of which ``documents_reserved``, ``documents_repeated``,
        ``documents_too_short`` (no sequence in them), ``documents_spare`` (their split was
        full) and by split ``documents`` used; by split ``characters`` of these;
        ``sequences_repeated``, which with packing ``documents`` is a document each; and
        ``digest`` of the used texts in order.

    Raises:
        UserError: the corpus ends before all splits are full, or the tokenizer lacks a token.
        ValueError: `reserved` is no such share.
    """
    if not 0 <= reserved < 1:
        raise ValueError(f"reserved is {reserved}, expected a share in [0, 1)")
    _check_tokenizer(tokenizer, tokens)
    largest = max(tokenizer.get_vocab().values())
    dtype = np.dtype(np.uint16 if largest < 1 << 16 else np.int32)
    sets = _Sets(tokens, reserved, dtype, tokenizer.eos_token_id)
    progress = Progress("tokens", sum(sets.asked.values()))
    for texts in _batches(documents):
        placed = sets.place(texts)
        if placed:
            ids_by_document = _tokenise(tokenizer, tokens, [text for text, _ in placed])
            for (text, split), ids in zip(placed, ids_by_document, strict=True):
                sets.add(text, split, ids)
        progress.update(sum(sets.filled.values()), "sequences")
        if sets.full:
            break
    progress.close()
    if not sets.full:
        raise UserError(sets.shortage())
    return sets.result(), sets.used()


def _batches(documents: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    characters = 0
    for text in documents:
        batch.append(text)
        characters += len(text)
        if len(batch) == BATCH_DOCUMENTS or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Sets:
    """Splits being filled, in the order in which documents come.

    Attributes:
        asked, filled: sequences by split.
    """

    def __init__(
        self, tokens: TextTokens, reserved: float, dtype: np.dtype[Any], end: int | None
    ) -> None:
        self.tokens, self.reserved, self._end = tokens, reserved, end
        self.asked: dict[str, int] = {split: getattr(tokens, split) for split in SPLITS}
        self.filled = dict.fromkeys(SPLITS, 0)
        self._rows = {s: np.empty((n, tokens.context), dtype) for s, n in self.asked.items()}
        # Number of the document in which each sequence starts, and of that in which what is
        # pending does.
        self._document_of = {s: np.empty(n, np.int32) for s, n in self.asked.items()}
        self._pending_document = dict.fromkeys(SPLITS, 0)
        # Packed tokens that do not fill a sequence yet.
        self._pending: dict[str, list[int]] = {split: [] for split in SPLITS}
        self._seen_documents: set[bytes] = set()
        self._seen_sequences: set[bytes] = set()
        self._counts = dict.fromkeys(COUNTS, 0)
        self._documents = dict.fromkeys(SPLITS, 0)
        self._characters = dict.fromkeys(SPLITS, 0)
        self._digest = hashlib.blake2b(digest_size=16)
        self._longest = 0

    @property
    def full(self) -> bool:
        return self.filled == self.asked

    def _is_full(self, split: str) -> bool:
        return self.filled[split] == self.asked[split]

    def _split_at(self, place: float) -> str | None:
        """The split of a place in [0, 1); None for what is reserved."""
        if place < self.reserved:
            return None
        at = (place - self.reserved) / (1 - self.reserved) * sum(self.asked.values())
        if at < self.asked["fit"]:
            return "fit"
        return "train" if at < self.asked["fit"] + self.asked["train"] else "eval"

    def place(self, texts: list[str]) -> list[tuple[str, str]]:
        """(document, split) of the documents that are needed."""
        found = []
        for text in texts:
            self._counts["documents_read"] += 1
            key = key_of(text)
            split = self._split_at(place_of(key, self.tokens.seed))
            if split is None:
                self._counts["documents_reserved"] += 1
            elif self._is_full(split):
                self._counts["documents_spare"] += 1
            elif key in self._seen_documents:
                self._counts["documents_repeated"] += 1
            else:
                self._seen_documents.add(key)
                found.append((text, split))
        return found

    def add(self, text: str, split: str, ids: list[int]) -> None:
        """Takes a document's sequences."""
        if self._is_full(split):
            self._counts["documents_spare"] += 1
            return
        self._longest = max(self._longest, len(ids))
        packed = self.tokens.packing == "packed"
        if len(ids) < (1 if packed else self.tokens.context):
            self._counts["documents_too_short"] += 1
            return
        number = self._documents[split]
        if packed:
            rows_nt, documents_n = self._pack(split, ids, number)
        else:
            rows_nt, documents_n = np.array([ids]), np.array([number])
        repeated = self._take(split, rows_nt, documents_n)
        self._counts["sequences_repeated"] += repeated
        if repeated and not packed:
            return
        self._documents[split] += 1
        self._characters[split] += len(text)
        data = text.encode()
        self._digest.update(f"{len(data)}\n".encode() + data)

    def _pack(self, split: str, ids: list[int], number: int) -> tuple[np.ndarray, np.ndarray]:
        """The sequences that a document completes, and the numbers of the documents in which
        they start; the rest waits for the next one."""
        assert self._end is not None, "checked before"
        context, pending = self.tokens.context, self._pending[split]
        found = [*pending, *ids, self._end]
        whole = len(found) // context * context
        starts = np.arange(0, len(found), context)
        documents_n = np.where(starts < len(pending), self._pending_document[split], number)
        self._pending[split] = found[whole:]
        if whole < len(found):
            self._pending_document[split] = int(documents_n[whole // context])
        return np.array(found[:whole], np.int64).reshape(-1, context), documents_n

    def _take(self, split: str, rows_nt: np.ndarray, documents_n: np.ndarray) -> int:
        """Keeps sequences that no split has, until full; returns how many were repeated."""
        repeated = 0
        for row, document in zip(rows_nt, documents_n, strict=False):
            if self._is_full(split):
                break
            key = hashlib.blake2b(row.tobytes(), digest_size=16).digest()
            if key in self._seen_sequences:
                repeated += 1
                continue
            self._seen_sequences.add(key)
            self._rows[split][self.filled[split]] = row
            self._document_of[split][self.filled[split]] = document
            self.filled[split] += 1
        return repeated

    def result(self) -> dict[str, TokenSet]:
        """Token sets by split; the first position of each row is kept where the cohort keeps it."""
        found = {}
        for split, rows_nt in self._rows.items():
            keep_nt = np.ones(rows_nt.shape, bool)
            keep_nt[:, 0] = self.tokens.keep_first_position
            found[split] = TokenSet(rows_nt, keep_nt, {}, self._document_of[split])
        return found

    def used(self) -> dict[str, Any]:
        """What was read of the corpus: counts, documents, characters, and a digest of them."""
        return {
            **self._counts,
            "documents": self._documents,
            "characters": self._characters,
            "digest": self._digest.hexdigest(),
        }

    def shortage(self) -> str:
        """Says which splits the corpus did not fill, and why."""
        read = self._counts["documents_read"]
        if not read:
            return "the corpus gave no document; choose another one"
        context = self.tokens.context
        if self.tokens.packing == "documents" and 0 < self._longest < context:
            return (
                f"none of the {read} documents read has tokens.context = {context} tokens, the "
                f"longest has {self._longest}; lower context, set packing: packed, or choose a "
                "corpus of longer documents"
            )
        lacking = [
            f"{self.filled[split]} of the {n} sequences of {split}"
            for split, n in self.asked.items()
            if not self._is_full(split)
        ]
        return (
            f"the corpus ended after {read} documents and gave only {', '.join(lacking)} "
            f"({self._counts['documents_reserved']} documents are reserved for training models, "
            f"{self._counts['documents_repeated']} repeat others, "
            f"{self._counts['documents_too_short']} are too short, "
            f"{self._counts['sequences_repeated']} sequences repeat others); lower tokens.context or the "
            "sequences asked for, or choose a larger corpus"
        )


def _tokenise(
    tokenizer: PreTrainedTokenizerFast, tokens: TextTokens, texts: list[str]
) -> list[list[int]]:
    """Ids by document.

    The tokenizer itself cuts a document, so that special tokens at its end stay.
    """
    sequences = 1 if tokens.packing == "documents" else tokens.most_a_document
    side, tokenizer.truncation_side = tokenizer.truncation_side, "right"
    try:
        found = tokenizer(
            texts,
            add_special_tokens=tokens.special_tokens,
            truncation=sequences is not None,
            max_length=None if sequences is None else sequences * tokens.context,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
    finally:
        tokenizer.truncation_side = side
        tokenizer.backend_tokenizer.no_truncation()
    ids: list[list[int]] = found["input_ids"]
    return ids


def _check_tokenizer(tokenizer: PreTrainedTokenizerFast, tokens: TextTokens) -> None:
    if tokens.packing == "packed" and tokenizer.eos_token_id is None:
        raise UserError(
            f"tokens.packing = packed joins documents with an end-of-text token, but the "
            f"tokenizer {tokenizer.name_or_path!r} has none; set packing: documents"
        )
    added = tokenizer.num_special_tokens_to_add()
    if tokens.special_tokens and tokens.packing == "documents" and added >= tokens.context:
        raise UserError(
            f"tokens.context = {tokens.context} leaves no room for text beside the {added} "
            "special tokens of the tokenizer; raise context, or set special_tokens: false"
        )
