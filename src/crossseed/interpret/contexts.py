"""Windows of tokens, how strongly chosen latents fire in them, and the windows that a latent is explained and scored by.

All windows hold the same number of tokens, so that no length tells whether a latent fires; what is left of a sequence is
left out. A latent is explained by windows of `train` and scored by windows of `eval`, which share no document.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crossseed.activations import SplitReader
from crossseed.errors import UserError
from crossseed.sae.dictionary import Dictionary

BLOCK_ROWS = 2048
# Groups by strength of firing that windows are drawn evenly from, and the share of a window's largest activation above
# which a token is marked: both as in delphi.
QUANTILES = 10
MARKED_ABOVE = 0.3


class Windows(NamedTuple):
    """Runs of consecutive tokens of one split.

    Attributes:
        tokens_wt: token ids, (windows, tokens). document_w: of each. first_w: row of its first token.
    """

    tokens_wt: np.ndarray
    document_w: np.ndarray
    first_w: np.ndarray


def windows(split: SplitReader, context: int, most_tokens: int) -> Windows:
    """The windows of a split's first documents.

    Args:
        context: tokens of a window. most_tokens: that are read.

    Raises:
        UserError: no sequence has that many tokens.
    """
    n = min(most_tokens, split.n_tokens)
    sequence, position = split.sequence_n[:n], split.position_n[:n]
    # A run ends with its sequence, and where tokens are left out of it.
    starts = np.flatnonzero(
        np.r_[True, (np.diff(sequence) != 0) | (np.diff(position.astype(np.int64)) != 1)]
    )
    lengths = np.diff(np.r_[starts, n])
    first = np.concatenate(
        [
            start + context * np.arange(length // context)
            for start, length in zip(starts, lengths, strict=True)
        ]
    )
    if not len(first):
        raise UserError(
            f"{split.path}: no sequence has {context} tokens in a row among the first {n}; lower "
            "stability.interpret.context, or raise stability.interpret.tokens"
        )
    token_n = split.token_n[:n].astype(np.int64)
    return Windows(token_n[first[:, None] + np.arange(context)], split.document_n[first], first)


class Firings:
    """Activations of chosen latents that are not zero.

    Args:
        shape: windows, tokens of a window.
        latent_n: which of the chosen each belongs to, non-decreasing.
        window_n, position_n, value_n: where and how strong.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        latent_n: np.ndarray,
        window_n: np.ndarray,
        position_n: np.ndarray,
        value_n: np.ndarray,
    ) -> None:
        self.shape = shape
        self.latent_n, self.window_n = latent_n, window_n
        self.position_n, self.value_n = position_n, value_n

    def of(self, number: int) -> np.ndarray:
        """Activations of one of the chosen, (windows, tokens)."""
        some = slice(*np.searchsorted(self.latent_n, [number, number + 1]))
        found = np.zeros(self.shape, dtype=np.float32)
        found[self.window_n[some], self.position_n[some]] = self.value_n[some]
        return found


def firings(
    split: SplitReader, found: Windows, dictionary: Dictionary, latents: Sequence[int]
) -> Firings:
    """One pass over the windows of a split; of all other latents nothing is kept."""
    n_windows, context = found.tokens_wt.shape
    parts: list[tuple[np.ndarray, ...]] = []
    per_block = max(1, BLOCK_ROWS // context)
    for start in range(0, n_windows, per_block):
        first = found.first_w[start : start + per_block]
        rows = split.rows(slice(int(first[0]), int(first[-1]) + context))
        at = (first[:, None] - first[0] + np.arange(context)).ravel()
        h = dictionary.encode(rows[at])[:, list(latents)]
        row, latent = np.nonzero(h)
        window, position = np.divmod(row, context)
        parts.append((latent, window + start, position, h[row, latent]))
    latent, window, position, value = (np.concatenate(of) for of in zip(*parts, strict=True))
    order = np.argsort(latent, kind="stable")
    return Firings(
        (n_windows, context),
        latent[order].astype(np.int32),
        window[order].astype(np.int32),
        position[order].astype(np.int32),
        value[order].astype(np.float32),
    )


def marks(acts_wt: np.ndarray) -> np.ndarray:
    """Tokens that are marked as those a latent fires at, same shape, of bool."""
    strongest = acts_wt.max(axis=-1, keepdims=True)
    found: np.ndarray = (acts_wt > 0) & (acts_wt >= MARKED_ABOVE * strongest)
    return found


def by_strength(acts_wt: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of n windows, (n,), in which a latent fires, or of all, evenly from groups by how strongly it does; strongest
    first."""
    strongest = acts_wt.max(axis=1)
    firing = np.flatnonzero(strongest > 0)
    order = firing[np.argsort(-strongest[firing], kind="stable")]
    if len(order) <= n:
        return order
    groups = np.array_split(np.arange(len(order)), QUANTILES)
    wanted = [len(part) for part in np.array_split(np.arange(n), QUANTILES)]
    # A group that is smaller than its share gives what it has; the rest comes from all that are left.
    chosen = [rng.permutation(group)[:size] for group, size in zip(groups, wanted, strict=True)]
    picked = np.concatenate(chosen)
    left = np.setdiff1d(np.arange(len(order)), picked)
    picked = np.r_[picked, rng.permutation(left)[: n - len(picked)]].astype(np.int64)
    found: np.ndarray = order[np.sort(picked)]
    return found


class Items(NamedTuple):
    """What a scorer is asked: half of the windows, at most, are such that the latent fires there.

    Attributes:
        window_i: their numbers. fires_i: whether it fires. marks_it: tokens shown as those it fires at: where it does,
            and else those at the same places as in some window where it does.
    """

    window_i: np.ndarray
    fires_i: np.ndarray
    marks_it: np.ndarray


def items(acts_wt: np.ndarray, n: int, rng: np.random.Generator) -> Items:
    """At most n windows in which a latent fires, and at most n random ones in which it does not, in random order."""
    firing = by_strength(acts_wt, n, rng)
    silent = rng.permutation(np.flatnonzero(acts_wt.max(axis=1) <= 0))[:n]
    right = marks(acts_wt[firing])
    # At the same places, or the place would tell: latents that fire at the first token of a window do.
    wrong = np.zeros((len(silent), acts_wt.shape[1]), dtype=bool)
    if len(firing):
        wrong = right[rng.integers(len(firing), size=len(silent))]
    order = rng.permutation(len(firing) + len(silent))
    fires = np.r_[np.ones(len(firing), dtype=bool), np.zeros(len(silent), dtype=bool)]
    return Items(
        np.r_[firing, silent].astype(np.int64)[order],
        fires[order],
        np.concatenate([right, wrong])[order],
    )


def balanced_accuracy(said_i: np.ndarray, fires_i: np.ndarray) -> float:
    """Mean of the shares that are right among windows where the latent fires and where it does not; NaN without either."""
    if fires_i.all() or not fires_i.any():
        return float("nan")
    return float((said_i[fires_i].mean() + (~said_i[~fires_i]).mean()) / 2)
