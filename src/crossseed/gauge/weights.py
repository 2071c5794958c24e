"""Weights of a pre-norm transformer without biases, its norm gains folded into what reads them.

Every tensor is kept as rows of the residual stream, so that a change of its basis acts on all of them alike:
what a head or a neuron reads, and what it writes, one row for each of its dimensions. Arrays are float64 and
may have leading dimensions, one set of weights for each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from crossseed.errors import UserError

# Of a layer; the others belong to the whole model.
OF_LAYERS = ("query", "key", "value", "output", "reads", "writes")
OF_MODEL = ("embedding", "positions", "unembedding")


class Weights(NamedTuple):
    """Folded weights.

    Attributes:
        embedding: of the tokens that occur, (tokens, d). positions: positional table, (positions, d).
        query, key, value: what heads read, (layers, heads, d_head, d).
        output: what they write, transposed, same shape.
        reads, writes: of neurons, the latter transposed, (layers, neurons, d).
        unembedding: of all predicted classes, (classes, d).
        classes: how many of these each prediction head has.
    """

    embedding: np.ndarray
    positions: np.ndarray
    query: np.ndarray
    key: np.ndarray
    value: np.ndarray
    output: np.ndarray
    reads: np.ndarray
    writes: np.ndarray
    unembedding: np.ndarray
    classes: tuple[int, ...]

    def arrays(self) -> dict[str, np.ndarray]:
        """Every array by the name of its field."""
        return {name: getattr(self, name) for name in (*OF_MODEL, *OF_LAYERS)}

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> Weights:
        """The same with every array changed, whatever its shape is then."""
        return Weights(
            **{name: change(array) for name, array in self.arrays().items()}, classes=self.classes
        )

    def tensors(self) -> dict[str, np.ndarray]:
        """Every tensor by name, those of a layer as ``layer.name``: what errors are taken over."""
        found = {name: getattr(self, name) for name in OF_MODEL}
        for name in OF_LAYERS:
            array = getattr(self, name)
            axis = -3 if name in ("reads", "writes") else -4
            for layer in range(array.shape[axis]):
                found[f"{layer}.{name}"] = array.take(layer, axis=axis)
        return found

    @property
    def width(self) -> int:
        return int(self.embedding.shape[-1])


def folded(
    state: Mapping[str, np.ndarray],
    gains: Mapping[str, str],
    place: str,
) -> dict[str, np.ndarray]:
    """A state in which every norm's gain is 1 and the tensors that read the norm carry it.

    Exact for RMSNorm, whose gain is applied last: W (g ⊙ x) = (W diag g) x.

    Args:
        state: tensors by name, each that is read after a norm with d as its last axis.
        gains: the gain that each such tensor is read through.
        place: where the state is from, for messages.

    Raises:
        UserError: a tensor or a gain is missing, or not finite.
    """
    found = {}
    for name, value in state.items():
        if not np.isfinite(value).all():
            raise UserError(f"{place}: tensor {name} is not finite; train or fetch the model again")
        found[name] = value.astype(np.float64)
    for name, gain in gains.items():
        for wanted in (name, gain):
            if wanted not in state:
                raise UserError(
                    f"{place}: there is no {wanted}, so that norm gains cannot be folded into the weights; "
                    f"found {', '.join(sorted(state))}"
                )
        found[name] = found[name] * found[gain]
    for gain in set(gains.values()):
        found[gain] = np.ones_like(found[gain])
    return found


def check_alike(a: Weights, b: Weights, place_a: object, place_b: object) -> None:
    """Raises UserError unless two models have the same shape, naming the first tensor that differs."""
    ours, theirs = a.arrays(), b.arrays()
    for name, array in ours.items():
        if array.shape != theirs[name].shape:
            raise UserError(
                f"{name} has shape {array.shape} in {place_a} and {theirs[name].shape} in {place_b}; only "
                "models of one shape can be aligned"
            )
    if a.classes != b.classes:
        raise UserError(f"{place_a} predicts {a.classes} classes and {place_b} {b.classes}")


def squares(weights: Weights) -> Iterator[tuple[str, np.ndarray]]:
    """Sum of squares of every tensor, by name; of the shape of the leading dimensions, () of a single model."""
    for name, array in weights.tensors().items():
        axes = tuple(range(-_dimensions(name), 0))
        yield name, np.square(array).sum(axis=axes)


def _dimensions(name: str) -> int:
    """Dimensions of a tensor of one model."""
    return 3 if name.rpartition(".")[2] in ("query", "key", "value", "output") else 2


def errors(found: Weights, wanted: Weights) -> dict[str, np.ndarray]:
    """Relative error ‖found − wanted‖ / ‖wanted‖ of every tensor, and as ``all`` the root of the mean of
    their squares.

    The zero predictor has 1. NaN where a tensor of `wanted` is 0.

    Args:
        found: may have leading dimensions, which the errors then have too.
    """
    ours, theirs = found.arrays(), wanted.arrays()
    apart = Weights(**{name: ours[name] - theirs[name] for name in ours}, classes=found.classes)
    scale = dict(squares(wanted))
    with np.errstate(invalid="ignore", divide="ignore"):
        by_tensor = {name: value / scale[name] for name, value in squares(apart)}
    every = np.stack(list(by_tensor.values()))
    found_errors = {name: np.sqrt(value) for name, value in by_tensor.items()}
    return {"all": np.sqrt(np.nanmean(every, axis=0)), **found_errors}
