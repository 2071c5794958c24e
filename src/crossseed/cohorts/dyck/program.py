"""The Dyck-3 task compiled by hand into the weights of a transformer: an algorithm that solves it.

Three blocks of one attention head and one ReLU MLP each, without norms, in float64; every direction of the
residual stream has a name. Positions attend to themselves and to those before.

    1  attention  averages +1 for openers and −1 for closers: the height so far over t + 1
       MLP        compares it with k − ½ over t + 1 for every k: the height, one-hot
    2  attention  from a closer to the latest opener one level above: its partner, if all went well so far
       MLP        is this position a violation (other family, height below 0 or above 8), if none came before?
                  and the height before this token
    3  attention  to the first violation, or else to the first position: whether there is one, and the height
                  before it
       MLP        the height here, or the one frozen by the violation

What follows a violation is never read, so that all that is computed there may be wrong. arXiv 2605.24577
(section on lenses) tells such an algorithm in words and compiled one that does not solve the task; the trained
models have two blocks, which this algorithm does not fit into.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.cohorts.dyck import task

HEIGHTS = range(-1, task.MAX_DEPTH + 2)
# Attention is hard: a step in position weighs e^−RECENT, a wrong level or kind more than all positions.
RECENT = 40.0
EXACT = 2 * RECENT * task.CONTEXT
# Heights differ by 1/(t + 1) at least; steep enough to tell ½ of that from 0.
STEEP = 2.0 * task.CONTEXT
GAIN = 100.0

_FAMILIES = range(task.N_FAMILIES)
_DEPTHS = range(task.N_DEPTHS)
_NAMES = (
    "one", "inverse", "position", "open", "close", "delta", "mean",
    *(f"token{i}" for i in range(task.VOCAB)),
    *(f"family{f}" for f in _FAMILIES),
    *(f"above{k}" for k in (*HEIGHTS, task.MAX_DEPTH + 2)),
    *(f"partner{f}" for f in _FAMILIES),
    "violation",
    *(f"before{k}" for k in _DEPTHS),
    "invalid",
    *(f"frozen{k}" for k in _DEPTHS),
    *(f"depth{k}" for k in _DEPTHS),
)  # fmt: skip
SLOTS = {name: number for number, name in enumerate(_NAMES)}
Row = Mapping[str, float]


class Head(NamedTuple):
    """Query, key, value and output, each (slots, …) from the left, but for output (…, slots)."""

    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray


class Neurons(NamedTuple):
    """What neurons read and write, each (neurons, slots)."""

    reads: np.ndarray
    writes: np.ndarray


def _rows(rows: Sequence[Row]) -> np.ndarray:
    found = np.zeros((len(rows), len(SLOTS)))
    for number, row in enumerate(rows):
        for name, value in row.items():
            found[number, SLOTS[name]] += value
    return found


def _head(pairs: Sequence[tuple[Row, Row]], copies: Mapping[str, str]) -> Head:
    """A head with score Σ query · key over pairs, which copies slots to others."""
    query, key = (_rows([pair[side] for pair in pairs]) for side in (0, 1))
    value = _rows([{name: 1.0} for name in copies])
    output = _rows([{name: 1.0} for name in copies.values()])
    return Head(query.T, key.T, value.T, output)


def _neurons(rules: Sequence[tuple[Row, Row]]) -> Neurons:
    return Neurons(_rows([rule[0] for rule in rules]), _rows([rule[1] for rule in rules]))


def _height(k: int, value: float = 1.0) -> dict[str, float]:
    """The indicator that the height is k, from those that it is at least k, and at least k + 1."""
    return {f"above{k}": value, f"above{k + 1}": -value}


def _blocks() -> list[tuple[Head, Neurons]]:
    # A step from 0 to 1 between −½ and +½ over STEEP.
    compare = []
    for k in (*HEIGHTS, task.MAX_DEPTH + 2):
        distance = {"mean": STEEP, "inverse": -STEEP * (k - 0.5)}
        compare.append(({**distance, "one": 0.5}, {f"above{k}": 1.0}))
        compare.append(({**distance, "one": -0.5}, {f"above{k}": -1.0}))
    average = _head([({"one": 0.0}, {"one": 0.0})], {"delta": "mean"})

    partner = _head(
        [
            *((_height(k, EXACT), _height(k + 1)) for k in HEIGHTS if k < max(HEIGHTS)),
            ({"one": EXACT}, {"open": 1.0}),
            ({"one": RECENT}, {"position": 1.0}),
        ],
        {f"family{f}": f"partner{f}" for f in _FAMILIES},
    )
    too_high = f"above{task.MAX_DEPTH + 1}"
    judge: list[tuple[Row, Row]] = [
        # In range, closing, of family f, and the partner is not.
        (
            {f"family{f}": 1.0, f"partner{f}": -1.0, "close": 1.0, "one": -2.0, "above0": 1.0, too_high: -1.0},
            {"violation": 1.0},
        )
        for f in _FAMILIES
    ]  # fmt: skip
    judge += [
        ({"one": 1.0, "above0": -1.0}, {"violation": 1.0}),
        ({too_high: 1.0}, {"violation": 1.0}),
    ]
    for k in _DEPTHS:
        judge += [
            ({**_height(k + 1), "open": 1.0, "one": -1.0}, {f"before{k}": 1.0}),
            ({**_height(k - 1), "close": 1.0, "one": -1.0}, {f"before{k}": 1.0}),
        ]

    first = _head(
        [({"one": EXACT}, {"violation": 1.0}), ({"one": -RECENT}, {"position": 1.0})],
        {"violation": "invalid", **{f"before{k}": f"frozen{k}" for k in _DEPTHS}},
    )
    settle: list[tuple[Row, Row]] = []
    for k in _DEPTHS:
        settle += [
            ({**_height(k), "invalid": -1.0}, {f"depth{k}": 1.0}),
            ({f"frozen{k}": 1.0, "invalid": 1.0, "one": -1.0}, {f"depth{k}": 1.0}),
        ]
    return [(average, _neurons(compare)), (partner, _neurons(judge)), (first, _neurons(settle))]


BLOCKS = _blocks()


def _embedding() -> np.ndarray:
    """What each token adds, (tokens, slots)."""
    rows: list[Row] = []
    for token in range(task.VOCAB):
        row = {f"token{token}": 1.0}
        family, closes = divmod(token - task.FIRST_BRACKET, 2)
        if 0 <= family < task.N_FAMILIES:
            row |= {f"family{family}": 1.0, "delta": 1.0 - 2 * closes}
            row["close" if closes else "open"] = 1.0
        rows.append(row)
    return _rows(rows)


EMBEDDING = _embedding()
UNEMBEDDING = {
    "tok": _rows([{f"token{i}": GAIN} for i in range(task.VOCAB)]),
    "depth": _rows([{f"depth{k}": GAIN} for k in _DEPTHS]),
    "valid": _rows([{"one": GAIN, "invalid": -GAIN}, {"invalid": GAIN}]),
}


def run(tokens_nt: np.ndarray) -> dict[str, np.ndarray]:
    """Logits of every head, (rows, positions, classes)."""
    length = tokens_nt.shape[1]
    t = np.arange(length)
    x = EMBEDDING[tokens_nt]
    x[:, :, SLOTS["one"]] = 1.0
    x[:, :, SLOTS["inverse"]] = 1 / (t + 1)
    x[:, :, SLOTS["position"]] = t
    hidden = np.triu(np.full((length, length), -np.inf), 1)
    for head, neurons in BLOCKS:
        scores = (x @ head.query) @ np.swapaxes(x @ head.key, 1, 2) + hidden
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        x = x + weights @ (x @ head.value) @ head.output
        x = x + np.maximum(x @ neurons.reads.T, 0) @ neurons.writes
    return {name: x @ rows.T for name, rows in UNEMBEDDING.items()}
