"""The embedded scorer: a latent's firing predicted from the token n-grams around it, without any language model.

P(fires | n-gram) backs off from long n-grams to short ones: that of each is its own rate, mixed with that of the next
shorter one as if this had been seen `PRIOR` times more. What was never seen is left to the shorter ones, and the
shortest to the overall rate. It is fitted on windows of `train`, the threshold on the same windows with each token's own
firing left out, and scored on windows of `eval`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.interpret import DETECTION, FUZZING
from crossseed.interpret.contexts import Items, balanced_accuracy, items

PRIOR = 1.0
# Windows of either kind that a threshold is chosen by, at most.
THRESHOLD_WINDOWS = 500
# n-grams that an explanation names, at most.
NAMED = 8


class Gram(NamedTuple):
    """n-grams of one length.

    Attributes:
        train_wt, test_wt: which n-gram covers each token, numbered from 0; −1 where it would leave the window.
        seen: how often each was seen in `train`.
        before, after: tokens of it on either side of the one it covers.
    """

    train_wt: np.ndarray
    test_wt: np.ndarray
    seen: np.ndarray
    before: int
    after: int


def spans(order: int, sides: str) -> list[tuple[int, int]]:
    """Tokens before and after, from the token alone to `order` tokens, each by one longer than the last."""
    if sides == "left":
        return [(k, 0) for k in range(order)]
    return [((k + 1) // 2, k // 2) for k in range(order)]


def grams(train_wt: np.ndarray, test_wt: np.ndarray, order: int, sides: str) -> list[Gram]:
    """n-grams of all lengths, the shortest first.

    Args:
        train_wt, test_wt: token ids, (windows, tokens).
    """
    tokens = np.concatenate([train_wt, test_wt]).astype(np.int64)
    n_train, context = train_wt.shape
    n_tokens = int(tokens.max()) + 1
    ids = np.zeros_like(tokens)
    found = []
    last = (0, -1)
    for before, after in spans(order, sides):
        shift = after if after != last[1] else -before
        there = np.zeros_like(ids, dtype=bool)
        moved = np.zeros_like(tokens)
        keep = slice(max(0, -shift), context - max(0, shift))
        there[:, keep] = True
        moved[:, keep] = tokens[:, max(0, shift) : context - max(0, -shift)]
        there &= ids >= 0
        _, numbers = np.unique(ids[there] * n_tokens + moved[there], return_inverse=True)
        ids = np.full_like(ids, -1)
        ids[there] = numbers
        train = ids[:n_train]
        seen = np.bincount(train[train >= 0], minlength=int(ids.max(initial=-1)) + 1)
        found.append(Gram(train, ids[n_train:], seen, before, after))
        last = (before, after)
    return found


class Fitted(NamedTuple):
    """How often a latent fires, overall and at each n-gram of each length in `train`."""

    rate: float
    fired: list[np.ndarray]


def fit(every: Sequence[Gram], fires_wt: np.ndarray) -> Fitted:
    """Args: fires_wt: whether the latent fires, (windows of train, tokens)."""
    fired = []
    for gram in every:
        there = gram.train_wt >= 0
        fired.append(
            np.bincount(gram.train_wt[there], weights=fires_wt[there], minlength=len(gram.seen))
        )
    return Fitted(float(fires_wt.mean()), fired)


def _mixed(
    every: Sequence[Gram],
    fitted: Fitted,
    ids_of: Callable[[Gram], np.ndarray],
    own: np.ndarray | None,
) -> np.ndarray:
    """P(fires), of tokens whose n-grams are `ids_of`; `own`: their firings, which are left out where they were fitted."""
    n_own = 0 if own is None else 1
    mine = 0.0 if own is None else own
    p: np.ndarray | float = fitted.rate
    for gram, fired in zip(every, fitted.fired, strict=True):
        ids = ids_of(gram)
        at = np.maximum(ids, 0)
        longer = (fired[at] - mine + PRIOR * p) / (gram.seen[at] - n_own + PRIOR)
        p = np.where(ids >= 0, longer, p)
    return np.asarray(p)


def predicted(every: Sequence[Gram], fitted: Fitted, windows: np.ndarray) -> np.ndarray:
    """P(fires) at every token of windows of `eval`, by number, (windows, tokens)."""
    return _mixed(every, fitted, lambda gram: gram.test_wt[windows], None)


def _left_out(
    every: Sequence[Gram], fitted: Fitted, windows: np.ndarray, fires_wt: np.ndarray
) -> np.ndarray:
    """P(fires) at every token of windows of `train`, by all other tokens."""
    own = fires_wt[windows].astype(np.float64)
    return _mixed(every, fitted, lambda gram: gram.train_wt[windows], own)


def _answers(p_it: np.ndarray, of: Items) -> dict[str, np.ndarray]:
    """How sure it is that a window holds a firing, and that the marked tokens are firings."""
    marked = np.where(of.marks_it, p_it, 0).sum(axis=1) / np.maximum(of.marks_it.sum(axis=1), 1)
    return {DETECTION: p_it.max(axis=1), FUZZING: marked}


def threshold(sure_i: np.ndarray, fires_i: np.ndarray) -> float:
    """Above which saying yes has the largest balanced accuracy."""
    values = np.unique(sure_i)
    cuts = np.r_[values[0] - 1, (values[1:] + values[:-1]) / 2]
    yes, no = np.sort(sure_i[fires_i]), np.sort(sure_i[~fires_i])
    right = 1 - np.searchsorted(yes, cuts) / max(len(yes), 1)
    right += np.searchsorted(no, cuts) / max(len(no), 1)
    return float(cuts[right.argmax()])


def score(
    every: Sequence[Gram],
    train_wt: np.ndarray,
    asked: Items,
    rng: np.random.Generator,
) -> tuple[dict[str, float], Fitted]:
    """Balanced accuracy of detection and fuzzing, and what it was fitted to.

    Args:
        every: n-grams of both splits.
        train_wt: activations of the latent in the windows of `train`.
        asked: windows of `eval`.
    """
    fires_wt = train_wt > 0
    fitted = fit(every, fires_wt)
    own = items(train_wt, THRESHOLD_WINDOWS, rng)
    known = _answers(_left_out(every, fitted, own.window_i, fires_wt), own)
    told = _answers(predicted(every, fitted, asked.window_i), asked)
    found = {
        name: balanced_accuracy(told[name] > threshold(known[name], own.fires_i), asked.fires_i)
        for name in (DETECTION, FUZZING)
    }
    return found, fitted


def shuffled(every: Sequence[Gram], rng: np.random.Generator) -> list[Gram]:
    """The null: every window has the n-grams of another, so that a latent fires as often, as strongly and at the same
    places of windows, but whatever the tokens are."""
    train = rng.permutation(len(every[0].train_wt))
    test = rng.permutation(len(every[0].test_wt))
    return [
        gram._replace(train_wt=gram.train_wt[train], test_wt=gram.test_wt[test]) for gram in every
    ]


def explanation(
    every: Sequence[Gram],
    fitted: Fitted,
    train_wt: np.ndarray,
    words: Callable[[Sequence[int]], list[str]],
) -> str:
    """The n-grams that tell most about a latent's firing, as text; empty where none does.

    An n-gram is worth how much likelier what it covers is by its rate than by that of the next shorter one, in nats, and is
    named where that is more than the logarithm of the number of tokens.

    Args:
        train_wt: token ids of `train`. words: token ids to their text.
    """
    found: list[tuple[float, str]] = []
    shorter: np.ndarray | None = None
    price = float(np.log(train_wt.size))
    for gram, fired in zip(every, fitted.fired, strict=True):
        there = gram.train_wt >= 0
        n = len(gram.seen)
        window, position = np.nonzero(there)
        ids = gram.train_wt[there]
        # Where each was seen first, and the rate of the next shorter one there.
        first = np.full(n, -1)
        first[ids[::-1]] = np.arange(len(ids))[::-1]
        below = np.full(n, fitted.rate)
        if shorter is not None:
            below[first >= 0] = shorter[window[first[first >= 0]], position[first[first >= 0]]]
        rate = (fired + PRIOR * below) / (gram.seen + PRIOR)
        rare = np.finfo(float).tiny
        worth = fired * np.log(np.maximum(rate, rare) / np.maximum(below, rare))
        worth += (gram.seen - fired) * np.log(
            np.maximum(1 - rate, rare) / np.maximum(1 - below, rare)
        )
        # Likelier firings, not likelier silences; and by more than one more number is worth.
        worth[(rate <= below) | (worth <= price)] = 0
        for number in np.argsort(-worth, kind="stable")[:NAMED]:
            if worth[number] > 0:
                w, t = window[first[number]], position[first[number]]
                ids_of = train_wt[w, t - gram.before : t + gram.after + 1]
                text = "".join(words([int(token) for token in ids_of]))
                found.append((float(worth[number]), f"{text!r} ({rate[number]:.2f})"))
        at = np.where(there, rate[np.maximum(gram.train_wt, 0)], -1.0)
        shorter = at if shorter is None else np.where(there, at, shorter)
    found.sort(key=lambda item: -item[0])
    return ", ".join(text for _, text in found[:NAMED])
