"""Which tokens are words, and which of their rows are used: token ids are divided before rows are, so that no token is
both fitted on and held out."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.activations import SplitReader
from crossseed.cohorts.base import batches
from crossseed.seeding import generator

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# A token that is a word, or the piece of one: one letter alone is its own first letter.
WORD = re.compile(r" ?([A-Za-z])[A-Za-z]+")
NONE = -1
# Share of a letter's token ids that are held out.
HELD_OUT = 1 / 3
FOLDS = 4
BLOCK_ROWS = 8192


def letter_of(text: str) -> int:
    """Number of the first letter of a token that is a word, capital or not; `NONE` for any other."""
    found = WORD.fullmatch(text)
    return LETTERS.index(found[1].lower()) if found else NONE


def letters_of(decode: Callable[[int], str], token_n: np.ndarray) -> np.ndarray:
    """Letter of each token id, (ids,), from 0 up to the largest of some; `NONE` for ids that do not occur too."""
    letter_i = np.full(int(token_n.max()) + 1, NONE)
    for token in np.unique(token_n):
        letter_i[token] = letter_of(decode(int(token)))
    return letter_i


def held_out(letter_i: np.ndarray) -> np.ndarray:
    """Which token ids are held out, the same for every site and SAE of a tokenizer: of each letter a share, drawn.

    Args:
        letter_i: letter of each token id, (ids,).
    """
    found = np.zeros(len(letter_i), dtype=bool)
    for number, letter in enumerate(LETTERS):
        ids = np.flatnonzero(letter_i == number)
        drawn = generator("absorption-held-out", letter).permutation(ids)
        found[drawn[: round(HELD_OUT * len(ids))]] = True
    return found


class Rows(NamedTuple):
    """Rows of a split.

    Attributes:
        x: their activations, (rows, width) float32. token: their token ids. letter: these ids' letters.
    """

    x: np.ndarray
    token: np.ndarray
    letter: np.ndarray


def choose(
    token_n: np.ndarray, letter_i: np.ndarray, among_i: np.ndarray, most: int, *name: object
) -> np.ndarray:
    """Numbers of the rows that are used, ascending: of each letter `most` at most, as evenly over its token ids as they
    occur, since one frequent token would else be its letter.

    Args:
        token_n: token id of each row, (rows,). letter_i: letter of each id, (ids,). among_i: ids that are used.
        name: names the draw.
    """
    rng = generator("absorption-rows", *name)
    words = np.flatnonzero((letter_i != NONE) & among_i)
    rows = rng.permutation(np.flatnonzero(np.isin(token_n, words)))
    token = token_n[rows]
    by_token = np.argsort(token, kind="stable")
    first = np.ones(len(rows), dtype=bool)
    first[1:] = token[by_token][1:] != token[by_token][:-1]
    starts = np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    # The first row of every token comes before the second of any.
    turn = np.empty(len(rows), dtype=np.int64)
    turn[by_token] = np.arange(len(rows)) - starts
    letter = letter_i[token]
    chosen = []
    for number in range(len(LETTERS)):
        of = np.flatnonzero(letter == number)
        chosen.append(rows[of[np.argsort(turn[of], kind="stable")[:most]]])
    return np.sort(np.concatenate(chosen))


def read(
    split: SplitReader, chosen: np.ndarray, letter_i: np.ndarray, block_rows: int = BLOCK_ROWS
) -> Rows:
    """The chosen rows of a split, by number and ascending, which is read block by block.

    Args:
        letter_i: letter of each token id, (ids,).
    """
    x = np.empty((len(chosen), split.width), dtype=np.float32)
    for part in batches(split.n_tokens, block_rows):
        first, last = np.searchsorted(chosen, [part.start, part.stop])
        if last > first:
            x[first:last] = split.rows(part)[chosen[first:last] - part.start]
    token = split.token_n[chosen].astype(np.int64)
    return Rows(x, token, letter_i[token])


def permuted(letter_i: np.ndarray, sets: Sequence[np.ndarray], *name: object) -> np.ndarray:
    """Letters permuted over the token ids of each set, so that a letter keeps its number of ids in each.

    Args:
        letter_i: letter of each token id, (ids,). sets: token ids, such as those of rows; words alone.
    """
    rng = generator("absorption-permuted", *name)
    found = letter_i.copy()
    for token_n in sets:
        ids = np.unique(token_n)
        found[ids] = rng.permutation(letter_i[ids])
    return found


def folds(token_n: np.ndarray, letter_n: np.ndarray) -> np.ndarray:
    """Fold of each row, (rows,), 0 up to `FOLDS` − 1: whole token ids, those of each letter dealt out evenly."""
    found = np.zeros(len(token_n), dtype=np.int64)
    for number, letter in enumerate(LETTERS):
        of = letter_n == number
        ids = generator("absorption-folds", letter).permutation(np.unique(token_n[of]))
        dealt = dict(zip(ids.tolist(), np.arange(len(ids)) % FOLDS, strict=True))
        found[of] = [dealt[token] for token in token_n[of].tolist()]
    return found
