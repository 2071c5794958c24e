"""Elements of the symmetry group of a transformer: changes of its weights that leave its function alone.

Of a pre-norm transformer with RMSNorm (gains folded, see `crossseed.gauge.weights`), ReLU and no biases:

    residual     r → O r with O orthogonal (RMSNorm sees lengths alone)
    heads        the heads of a layer in another order
    query_key    q → A q, k → A⁻ᵀ k in each head: scores q·k stay. GL(d_head), O(d_head) among them
    value_output v → B v, W_O → W_O B⁻¹ in each head. The same groups
    neurons      the neurons of a layer in another order, each read a > 0 times as strongly and written
                 as much more weakly (relu(a x) = a relu(x))
    unembedding  one vector added to all rows of a prediction head: softmax does not see it
    embedding    one vector added to every token and taken from every position

Not among them: a scale of the whole residual stream, which RMSNorm undoes only up to its ε, so that it changes
the function; and tokens that never occur, whose embeddings are free and are left out of `Weights`.

arXiv 2605.24577 (section on symmetry) moves by the residual rotation, both permutations, the scaling, and
O(d_head) instead of GL(d_head).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from crossseed.alignment.maps import haar_orthogonal
from crossseed.gauge.weights import Weights


class Element(NamedTuple):
    """One element; applied in the order of its attributes, of which each acts on what the former left.

    Attributes:
        heads: new head h is old head heads[…, l, h], (layers, heads).
        query_key, value_output: A and B of the new heads, (layers, heads, d_head, d_head).
        neurons: new neuron i is old neuron neurons[…, l, i], (layers, neurons). scale: a, same shape.
        residual: O, (d, d).
        unembedding: added to the classes of each prediction head, (prediction heads, d), in the new basis.
        embedding: added to tokens and taken from positions, (d,), in the new basis.
    """

    heads: np.ndarray
    query_key: np.ndarray
    value_output: np.ndarray
    neurons: np.ndarray
    scale: np.ndarray
    residual: np.ndarray
    unembedding: np.ndarray
    embedding: np.ndarray


MOVES = Element._fields


def identity(weights: Weights) -> Element:
    """The element that changes nothing, one for each set of weights."""
    *several, layers, heads, d_head, d = weights.query.shape
    neurons = weights.reads.shape[-2]

    def each(part: np.ndarray, *of: int) -> np.ndarray:
        return np.tile(part, (*several, *of, *[1] * part.ndim))

    return Element(
        heads=each(np.arange(heads), layers),
        query_key=each(np.eye(d_head), layers, heads),
        value_output=each(np.eye(d_head), layers, heads),
        neurons=each(np.arange(neurons), layers),
        scale=each(np.ones(neurons), layers),
        residual=each(np.eye(d)),
        unembedding=each(np.zeros(d), len(weights.classes)),
        embedding=each(np.zeros(d)),
    )


def apply(g: Element, weights: Weights) -> Weights:
    """The weights moved; both may have leading dimensions, which broadcast."""
    turn = np.swapaxes(g.residual, -1, -2)
    # Of what has one dimension more than the model has: layers; and two: layers and heads.
    by_layer, by_head = turn[..., None, :, :], turn[..., None, None, :, :]

    def of_heads(array: np.ndarray, basis: np.ndarray) -> np.ndarray:
        return basis @ _reordered(array, g.heads, 2) @ by_head

    contragredient = [
        np.swapaxes(np.linalg.inv(basis), -1, -2) for basis in (g.query_key, g.value_output)
    ]
    scale = g.scale[..., None]
    shift = np.repeat(g.unembedding, weights.classes, axis=-2)
    embedding = g.embedding[..., None, :]
    return Weights(
        embedding=weights.embedding @ turn + embedding,
        positions=weights.positions @ turn - embedding,
        query=of_heads(weights.query, g.query_key),
        key=of_heads(weights.key, contragredient[0]),
        value=of_heads(weights.value, g.value_output),
        output=of_heads(weights.output, contragredient[1]),
        reads=_reordered(weights.reads, g.neurons, 1) * scale @ by_layer,
        writes=_reordered(weights.writes, g.neurons, 1) / scale @ by_layer,
        unembedding=weights.unembedding @ turn + shift,
        classes=weights.classes,
    )


def _reordered(array: np.ndarray, order: np.ndarray, trailing: int) -> np.ndarray:
    """Entries of the axis before `trailing` ones in a new order, given for each entry of those before."""
    leading = np.broadcast_shapes(array.shape[: -1 - trailing], order.shape[:-1])
    array = np.broadcast_to(array, (*leading, *array.shape[-1 - trailing :]))
    order = np.broadcast_to(order, (*leading, order.shape[-1]))
    grids = np.ogrid[tuple(slice(n) for n in (*leading, 1))][:-1]
    found: np.ndarray = array[(*grids, order)]
    return found


def compose(second: Element, first: Element) -> Element:
    """The element that does what `first` and then `second` do."""
    turn = np.swapaxes(second.residual, -1, -2)
    return Element(
        heads=np.take_along_axis(first.heads, second.heads, axis=-1),
        query_key=second.query_key @ _reordered(first.query_key, second.heads, 2),
        value_output=second.value_output @ _reordered(first.value_output, second.heads, 2),
        neurons=np.take_along_axis(first.neurons, second.neurons, axis=-1),
        scale=second.scale * _reordered(first.scale, second.neurons, 0),
        residual=second.residual @ first.residual,
        unembedding=first.unembedding @ turn + second.unembedding,
        embedding=(first.embedding[..., None, :] @ turn)[..., 0, :] + second.embedding,
    )


def inverse(g: Element) -> Element:
    """The element that undoes `g`."""
    heads, neurons = np.argsort(g.heads, axis=-1), np.argsort(g.neurons, axis=-1)
    return Element(
        heads=heads,
        query_key=_reordered(np.linalg.inv(g.query_key), heads, 2),
        value_output=_reordered(np.linalg.inv(g.value_output), heads, 2),
        neurons=neurons,
        scale=_reordered(1 / g.scale, neurons, 0),
        residual=np.swapaxes(g.residual, -1, -2),
        unembedding=-(g.unembedding @ g.residual),
        embedding=-(g.embedding[..., None, :] @ g.residual)[..., 0, :],
    )


def random(
    rng: np.random.Generator,
    weights: Weights,
    moves: tuple[str, ...] = MOVES,
    general: bool = True,
) -> Element:
    """A random element that moves by `moves` alone.

    Args:
        moves: names of `Element`'s attributes; the others stay the identity.
        general: bases of heads from GL(d_head), with singular values between 1/3 and 3; otherwise from
            O(d_head), by Haar measure.
    """
    layers, heads, d_head, d = weights.query.shape
    neurons = weights.reads.shape[-2]

    def bases() -> np.ndarray:
        found = []
        for _ in range(layers * heads):
            basis = haar_orthogonal(rng, d_head)
            if general:
                stretch = np.exp(rng.uniform(-np.log(3), np.log(3), d_head))
                basis = basis * stretch @ haar_orthogonal(rng, d_head)
            found.append(basis)
        return np.array(found).reshape(layers, heads, d_head, d_head)

    size = np.sqrt(np.square(weights.unembedding).mean())
    drawn = Element(
        heads=rng.permuted(np.tile(np.arange(heads), (layers, 1)), axis=1),
        query_key=bases(),
        value_output=bases(),
        neurons=rng.permuted(np.tile(np.arange(neurons), (layers, 1)), axis=1),
        scale=np.exp(rng.uniform(-np.log(3), np.log(3), (layers, neurons))),
        residual=haar_orthogonal(rng, d),
        unembedding=size * rng.standard_normal((len(weights.classes), d)),
        embedding=size * rng.standard_normal(d),
    )
    still = identity(weights)
    return Element(*(getattr(drawn if m in moves else still, m) for m in MOVES))


def canonical(weights: Weights) -> Element:
    """What takes one model to its balanced gauge: the same for all its copies up to O(d_head) in heads, orders,
    and the residual rotation, which keep it balanced.

    In each head WqWqᵀ = WkWkᵀ, diagonal and decreasing, and so for values and outputs; each neuron reads as
    strongly as it writes; rows of each prediction head, and of the positional table, have mean 0. Of
    all copies by GL(d_head) and by scaling, the balanced one has the least sum of squares.
    """
    shift = [
        -part.mean(axis=0)
        for part in np.split(weights.unembedding, np.cumsum(weights.classes)[:-1], axis=0)
    ]
    read, written = (np.linalg.norm(w, axis=-1) for w in (weights.reads, weights.writes))
    # A neuron that reads or writes nothing has no balance.
    alive = (read > 0) & (written > 0)
    scale = np.sqrt(np.where(alive, written, 1) / np.where(alive, read, 1))
    return identity(weights)._replace(
        query_key=_balance(weights.query, weights.key),
        value_output=_balance(weights.value, weights.output),
        scale=scale,
        unembedding=np.array(shift),
        embedding=weights.positions.mean(axis=0),
    )


# A head whose factors have a larger condition number has lower rank than its basis, and is left as it is.
MOST_CONDITION = 1e10


def unbalanced(weights: Weights) -> int:
    """Heads, each counted for QK and for OV, whose factors have lower rank: `canonical` leaves their basis, on
    which errors then depend."""
    pairs = ((weights.query, weights.key), (weights.value, weights.output))
    return int(sum((~_regular(*_factors(*pair))).sum() for pair in pairs))


def _factors(left: np.ndarray, right: np.ndarray) -> list[np.ndarray]:
    """Triangular factors of what heads read and write."""
    return [np.asarray(np.linalg.qr(np.swapaxes(w, -1, -2), mode="r")) for w in (left, right)]


def _regular(r: np.ndarray, t: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(np.linalg.cond(r), np.linalg.cond(t)) < MOST_CONDITION
    return found


def _balance(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """A of every head with A left and A⁻ᵀ right balanced.

    With leftᵀ = Q R and rightᵀ = P T the product is leftᵀ right = Q (R Tᵀ) Pᵀ, and with R Tᵀ = U S Vᵀ the
    balanced factors are √S Uᵀ Qᵀ and √S Vᵀ Pᵀ. Gram matrices instead of R and T would square the condition.
    """
    r, t = _factors(left, right)
    still = np.eye(r.shape[-1])
    regular = _regular(r, t)
    r, t = (np.where(regular[..., None, None], w, still) for w in (r, t))
    u, s, _ = np.linalg.svd(r @ np.swapaxes(t, -1, -2))
    # A = √S Uᵀ R⁻ᵀ, solved as R Aᵀ = U √S.
    found = np.swapaxes(np.linalg.solve(r, u * np.sqrt(s)[..., None, :]), -1, -2)
    return np.where(regular[..., None, None], found, still)
