"""The Dyck-3 task: three bracket families, depth at most 8, one row per sequence.

A row is BOS, L content tokens, EOS, then PAD up to the context length. Three labels are
read at every position, each a function of the prefix that includes the position: the token
itself, the stack depth, and a sticky flag that is 1 from the first violation on.
Source: arXiv 2605.24577, appendix on the task.

Everything is vectorised over rows: a loop over the 64 positions carries one small state
array per row, so that 65k rows take about a second.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PAD, BOS, EOS = 0, 1, 2
FIRST_BRACKET = 3
N_FAMILIES = 3
N_BRACKETS = 2 * N_FAMILIES
VOCAB = 40
CONTEXT = 64
MAX_CONTENT = CONTEXT - 2
MAX_DEPTH = 8
N_DEPTHS = MAX_DEPTH + 1
P_VALID_ROW = 0.5
P_OPEN = 0.55

HEADS = ("tok", "depth", "valid")
DISTRIBUTIONS = ("train", "compositional", "long")
LONG_LENGTHS = (50, 60)


class Labels(NamedTuple):
    """Labels of rows.

    Attributes:
        depth_nt: stack height after each token, in 0..8; frozen once a row is invalid.
        valid_nt: 1 from the violating position on, else 0 (class 1 means *invalid*).
    """

    depth_nt: np.ndarray
    valid_nt: np.ndarray


def label(tokens_nt: np.ndarray) -> Labels:
    """Depth and validity at every position of every row.

    Args:
        tokens_nt: token ids, shape (rows, positions).

    Returns:
        `Labels` of int8 arrays of the same shape.
    """
    n, length = tokens_nt.shape
    by_position = np.ascontiguousarray(tokens_nt.T).astype(np.int8)
    stack = np.zeros((MAX_DEPTH, n), dtype=np.int8)
    depth = np.zeros(n, dtype=np.int8)
    invalid = np.zeros(n, dtype=bool)
    rows = np.arange(n)
    depth_tn = np.empty((length, n), dtype=np.int8)
    valid_tn = np.empty((length, n), dtype=np.int8)
    for t in range(length):
        token = by_position[t]
        bracket = token >= FIRST_BRACKET
        opener = bracket & ((token - FIRST_BRACKET) % 2 == 0)
        closer = bracket & ~opener
        family = (token - FIRST_BRACKET) // 2
        top = stack[np.maximum(depth - 1, 0), rows]
        overflow = opener & (depth == MAX_DEPTH)
        mismatch = closer & ((depth == 0) | (top != family))
        invalid |= overflow | mismatch
        push = opener & ~invalid
        pop = closer & ~invalid
        pushed = np.flatnonzero(push)
        stack[depth[pushed], pushed] = family[pushed]
        depth = depth + push.astype(np.int8) - pop.astype(np.int8)
        depth_tn[t] = depth
        valid_tn[t] = invalid
    return Labels(np.ascontiguousarray(depth_tn.T), np.ascontiguousarray(valid_tn.T))


def _valid_content(rng: np.random.Generator, n: int, length: int) -> np.ndarray:
    """Content of `n` valid rows, shape (length, n): open with probability .55 where both
    opening and closing are possible. Rows need not end balanced."""
    stack = np.zeros((MAX_DEPTH, n), dtype=np.int8)
    depth = np.zeros(n, dtype=np.int8)
    rows = np.arange(n)
    content = np.empty((length, n), dtype=np.uint8)
    u_tn = rng.random((length, n), dtype=np.float32)
    family_tn = rng.integers(0, N_FAMILIES, size=(length, n), dtype=np.int8)
    for t in range(length):
        opens = (depth < MAX_DEPTH) & ((depth == 0) | (u_tn[t] < P_OPEN))
        family = np.where(opens, family_tn[t], stack[np.maximum(depth - 1, 0), rows])
        opened = np.flatnonzero(opens)
        stack[depth[opened], opened] = family[opened]
        content[t] = FIRST_BRACKET + 2 * family + ~opens
        depth = np.where(opens, depth + 1, depth - 1).astype(np.int8)
    return content


def _rows(content_tn: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Wrap content in BOS, EOS and PAD: (max length, n) content to (n, CONTEXT) rows."""
    n = lengths.size
    tokens = np.zeros((n, CONTEXT), dtype=np.uint8)
    longest = content_tn.shape[0]
    tokens[:, 1 : 1 + longest] = content_tn.T
    tokens[:, 0] = BOS
    position = np.arange(CONTEXT)
    tokens[position[None, :] > lengths[:, None]] = PAD
    tokens[np.arange(n), lengths + 1] = EOS
    return tokens


def sample_train(rng: np.random.Generator, n: int, lengths: tuple[int, int]) -> np.ndarray:
    """Rows of the training distribution.

    Args:
        rng: generator that decides every draw.
        n: number of rows.
        lengths: smallest and largest content length, both included.

    Returns:
        uint8 tokens, shape (n, CONTEXT). Half of the rows in expectation are valid; the
        others are i.i.d. uniform brackets.
    """
    low, high = lengths
    row_lengths = rng.integers(low, high + 1, size=n)
    valid = rng.random(n) < P_VALID_ROW
    content = rng.integers(
        FIRST_BRACKET, FIRST_BRACKET + N_BRACKETS, size=(high, n), dtype=np.uint8
    )
    n_valid = int(valid.sum())
    content[:, valid] = _valid_content(rng, n_valid, high)
    return _rows(content, row_lengths)


def sample_compositional(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows with one deep nest of a single family between shallow filler pairs.

    Returns:
        uint8 tokens, shape (n, CONTEXT); always valid, content length always 62.
    """
    content = np.empty((MAX_CONTENT, n), dtype=np.uint8)
    nest_depth = rng.integers(3, MAX_DEPTH + 1, size=n)
    nest_family = rng.integers(0, N_FAMILIES, size=n)
    pair_family = rng.integers(0, N_FAMILIES, size=(MAX_CONTENT // 2, n))
    filler = MAX_CONTENT - 2 * nest_depth
    left = (filler // 2) // 2 * 2
    for t in range(MAX_CONTENT):
        in_nest = (t >= left) & (t < left + 2 * nest_depth)
        in_right = t >= left + 2 * nest_depth
        # Filler positions are numbered without the nest, so that pairs stay whole.
        filler_position = np.where(in_right, t - 2 * nest_depth, t)
        pair = np.clip(filler_position // 2, 0, MAX_CONTENT // 2 - 1)
        filler_token = FIRST_BRACKET + 2 * pair_family[pair, np.arange(n)] + filler_position % 2
        nest_token = FIRST_BRACKET + 2 * nest_family + (t - left >= nest_depth)
        content[t] = np.where(in_nest, nest_token, filler_token)
    return _rows(content, np.full(n, MAX_CONTENT))


def sample(
    rng: np.random.Generator, n: int, distribution: str, lengths: tuple[int, int]
) -> np.ndarray:
    """Rows of one of `DISTRIBUTIONS`; `lengths` applies to ``train`` only.

    Raises:
        ValueError: the distribution is unknown.
    """
    if distribution == "train":
        return sample_train(rng, n, lengths)
    if distribution == "long":
        return sample_train(rng, n, LONG_LENGTHS)
    if distribution == "compositional":
        return sample_compositional(rng, n)
    raise ValueError(f"unknown distribution {distribution!r}; expected one of {DISTRIBUTIONS}")


def n_distinct(lengths: tuple[int, int]) -> int:
    """How many distinct rows exist with content lengths in the given closed range."""
    return sum(N_BRACKETS**length for length in range(lengths[0], lengths[1] + 1))


def sample_distinct(rng: np.random.Generator, n: int, lengths: tuple[int, int]) -> np.ndarray:
    """`n` rows of the training distribution, no two alike.

    Repeats (frequent among short rows) are drawn again, so splits taken from the result
    never share a sequence.

    Raises:
        ValueError: fewer than `n` distinct rows turned up in a hundred times `n` draws.
    """
    kept = np.empty((0, CONTEXT), dtype=np.uint8)
    for _ in range(100):
        drawn = np.concatenate([kept, sample_train(rng, n, lengths)])
        _, first = np.unique(drawn, axis=0, return_index=True)
        kept = drawn[np.sort(first)]
        if len(kept) >= n:
            return kept[:n]
    raise ValueError(
        f"only {len(kept)} distinct sequences of length {lengths[0]} to {lengths[1]} turned up "
        f"where {n} are asked for; allow longer sequences or ask for fewer"
    )
