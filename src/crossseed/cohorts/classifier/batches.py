"""What a step of training sees: sentences in the order of their epochs, and words hidden from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.seeding import generator

# Of the tokens that are predicted (arXiv:1810.04805, section 3.1): hidden; replaced, up to here; the rest stay.
HIDDEN, REPLACED = 0.8, 0.9
IGNORED = -100


class Batch(NamedTuple):
    """What one step sees.

    Attributes:
        tokens_nt: ids, padded. attend_nt: True where there is a token.
        target: of classes (sentences,); of hidden words (sentences, positions), `IGNORED` elsewhere.
    """

    tokens_nt: np.ndarray
    attend_nt: np.ndarray
    target: np.ndarray


class Examples(NamedTuple):
    """Encoded sentences of one part, and the numbers of their classes."""

    encoded: tk.Encoded
    label_n: np.ndarray

    def batch(self, rows: np.ndarray) -> Batch:
        """Some sentences, by number, padded to the longest of them."""
        attend = self.encoded.attend_nt[rows]
        longest = int(attend.sum(axis=1).max())
        return Batch(
            self.encoded.tokens_nt[rows, :longest], attend[:, :longest], self.label_n[rows]
        )


def order_of(rows: int, n: int, start: int, steps: int, *name: object) -> Iterator[np.ndarray]:
    """Numbers of the sentences of the steps from `start` on: each epoch visits all, in an order of its
    own; (rows,) a step, fewer in the last of an epoch.

    A pure function of (name, step).
    """
    per_epoch = math.ceil(n / rows)
    step = start
    while step < steps:
        epoch, first = divmod(step, per_epoch)
        order = generator(*name, epoch).permutation(n)
        for number in range(first, min(per_epoch, steps - epoch * per_epoch)):
            yield order[number * rows : (number + 1) * rows]
            step += 1


def hidden(
    batch: Batch, special_nt: np.ndarray, share: float, mask: int, vocabulary: int, *name: object
) -> Batch:
    """A batch some of whose words are hidden, to be predicted; at least one.

    Args:
        batch: what is hidden from. special_nt: where nothing may be.
        share: of the words. mask: id of the mask token. vocabulary: ids that may replace.
        name: of the draws.
    """
    rng = generator(*name)
    drawn_nt = np.where(special_nt, np.inf, rng.random(special_nt.shape))
    chosen = drawn_nt <= max(share, float(drawn_nt.min()))
    how = rng.random(chosen.shape)
    tokens = np.where(chosen & (how < HIDDEN), mask, batch.tokens_nt)
    other = rng.integers(vocabulary, size=chosen.shape)
    tokens = np.where(chosen & (how >= HIDDEN) & (how < REPLACED), other, tokens)
    return Batch(tokens, batch.attend_nt, np.where(chosen, batch.tokens_nt, IGNORED))
