"""Weight alignment as published (arXiv 2605.24577, section on the symmetry search), and with its rotation mended.

Differs from `crossseed.gauge.search`: the residual step finds X with rows X close to the reference's and then
moves by X where move and estimate call for its transpose, so that it turns the wrong way; distances are means of
squared differences of unbalanced tensors, largest tensor first; bases of heads are orthogonal alone; neurons are
matched by cosine and scaled by a rule of thumb; starts differ in the order of heads alone; and what is kept is the
best state ever passed by that measure. Embeddings of tokens that never occur count too.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np

from crossseed.gauge import element
from crossseed.gauge.element import Element
from crossseed.gauge.weights import Weights, check_alike
from crossseed.published.transfer import svd_rotation

SWEEPS = 6
MOST_SCALE = 1e4
# The norm gains, 1 in both models: they count in the mean over all entries.
N_GAINS = 5
Step = Callable[[Weights, Weights], Element]


class Aligned(NamedTuple):
    """Attributes: element: takes the model there. moved: the model. max_mse, global_mse: of `distances`."""

    element: Element
    moved: Weights
    max_mse: float
    global_mse: float


def tensors(weights: Weights) -> dict[str, np.ndarray]:
    """Every tensor of the study, whose prediction heads have one each."""
    found = weights.tensors()
    unembedding = found.pop("unembedding")
    parts = np.split(unembedding, np.cumsum(weights.classes)[:-1], axis=-2)
    return {**found, **{f"unembedding.{i}": part for i, part in enumerate(parts)}}


def distances(found: Weights, wanted: Weights) -> dict[str, np.ndarray]:
    """Mean squared difference of every tensor's entries; of each set of weights, if `found` has several."""
    theirs = tensors(wanted)
    return {
        name: np.square(value - theirs[name]).mean(axis=tuple(range(-theirs[name].ndim, 0)))
        for name, value in tensors(found).items()
    }


def summary(by_tensor: Mapping[str, np.ndarray], wanted: Weights) -> tuple[np.ndarray, np.ndarray]:
    """The largest of `distances`, and the mean over all entries; shapes as there, () or (sets,)."""
    sizes = {name: value.size for name, value in tensors(wanted).items()}
    values = np.array([by_tensor[name] for name in sizes])
    total = np.tensordot(np.array(list(sizes.values())), values, axes=1)
    return values.max(axis=0), total / (sum(sizes.values()) + N_GAINS * wanted.width)


def search(model: Weights, reference: Weights, transposed: bool, n_starts: int) -> Aligned:
    """The published search, all its runs side by side.

    Args:
        model, reference: folded weights with all embeddings.
        transposed: the residual step as published; False moves by the transpose instead.
        n_starts: orders of heads, the first the given one; each is run with and without the residual step.
    """
    check_alike(model, reference, "the model", "the reference")
    still = element.identity(model)
    layers, n_heads = still.heads.shape
    rng = random.Random(0)
    orders = [[list(range(n_heads)) for _ in range(layers)] for _ in range(n_starts)]
    for order in itertools.chain.from_iterable(orders[1:]):
        rng.shuffle(order)
    # Every start twice: with the residual step, and without.
    rotates = np.repeat([True, False], n_starts)
    g = Element(*(np.tile(part, (2 * n_starts, *[1] * part.ndim)) for part in still))
    g = g._replace(heads=np.tile(np.array(orders), (2, 1, 1)))
    moved = element.apply(g, model)
    rotation = residual_transposed if transposed else residual
    steps: list[Step] = [lambda w, r: _only(rotates, rotation(w, r))]
    steps += [
        partial(step, layer=layer)
        for layer in range(layers)
        for step in (heads, query_key, value_output, neurons, scales)
    ]
    best = Element(*(part.copy() for part in g))
    least = np.full((2, 2 * n_starts), np.inf)
    for _, step in itertools.product(range(SWEEPS), steps):
        turned = step(moved, reference)
        g, moved = element.compose(turned, g), element.apply(turned, moved)
        measured = np.array(summary(distances(moved, reference), reference))
        equal = measured[0] == least[0]
        better = (measured[0] < least[0]) | (equal & (measured[1] < least[1]))
        least[:, better] = measured[:, better]
        for kept, part in zip(best, g, strict=True):
            kept[better] = part[better]
    run = int(np.lexsort(least[::-1])[0])
    found = Element(*(part[run] for part in best))
    return Aligned(found, element.apply(found, model), float(least[0, run]), float(least[1, run]))


def _only(rotates: np.ndarray, g: Element) -> Element:
    """The residual step of those runs that have it."""
    still = np.eye(g.residual.shape[-1])
    return g._replace(residual=np.where(rotates[:, None, None], g.residual, still))


def residual_transposed(moved: Weights, reference: Weights) -> Element:
    """The residual step as published: O = X, for rows X closest to the reference's rows."""
    return element.identity(moved)._replace(residual=_closest(moved, reference))


def residual(moved: Weights, reference: Weights) -> Element:
    """The residual step as it was meant: rows move by Oᵀ, so that O = Xᵀ."""
    return element.identity(moved)._replace(
        residual=np.swapaxes(_closest(moved, reference), -1, -2)
    )


def _closest(moved: Weights, reference: Weights) -> np.ndarray:
    n, d = len(moved.reads), reference.width
    ours = np.concatenate([w.reshape(n, -1, d) for w in moved.arrays().values()], axis=1)
    theirs = np.concatenate([w.reshape(-1, d) for w in reference.arrays().values()])
    return svd_rotation(np.swapaxes(ours, -1, -2) @ theirs)


def heads(moved: Weights, reference: Weights, layer: int) -> Element:
    """The order of heads whose four tensors are closest."""
    cost = sum(
        np.square(
            getattr(moved, name)[:, layer, :, None] - getattr(reference, name)[layer, None, :]
        ).sum(axis=(-2, -1))
        for name in ("query", "key", "value", "output")
    )
    found = element.identity(moved)
    found.heads[:, layer] = _assigned(cost)
    return found


def query_key(moved: Weights, reference: Weights, layer: int) -> Element:
    """Orthogonal bases of queries and keys."""
    found = element.identity(moved)
    found.query_key[:, layer] = _bases(moved, reference, layer, "query", "key")
    return found


def value_output(moved: Weights, reference: Weights, layer: int) -> Element:
    """Orthogonal bases of values and outputs."""
    found = element.identity(moved)
    found.value_output[:, layer] = _bases(moved, reference, layer, "value", "output")
    return found


def _bases(moved: Weights, reference: Weights, layer: int, *names: str) -> np.ndarray:
    return svd_rotation(
        sum(
            getattr(reference, name)[layer] @ np.swapaxes(getattr(moved, name)[:, layer], -1, -2)
            for name in names
        )
    )


def neurons(moved: Weights, reference: Weights, layer: int) -> Element:
    """The order of neurons with the greatest cosines of what they read and write, joined."""
    ours = np.concatenate([moved.reads[:, layer], moved.writes[:, layer]], axis=-1)
    theirs = np.concatenate([reference.reads[layer], reference.writes[layer]], axis=-1)
    ours, theirs = (
        x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300) for x in (ours, theirs)
    )
    found = element.identity(moved)
    found.neurons[:, layer] = _assigned(1 - ours @ theirs.T)
    return found


def scales(moved: Weights, reference: Weights, layer: int) -> Element:
    """The rule of thumb: √(|in_r| |out_s| / (|in_s| |out_r|)), clamped."""
    read_s, written_s = (np.linalg.norm(w[:, layer], axis=-1) for w in (moved.reads, moved.writes))
    read_r, written_r = (
        np.linalg.norm(w[layer], axis=-1) for w in (reference.reads, reference.writes)
    )
    found = element.identity(moved)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.sqrt(read_r * written_s / (read_s * written_r))
    found.scale[:, layer] = np.clip(np.nan_to_num(scale, nan=1.0), 1 / MOST_SCALE, MOST_SCALE)
    return found


def _assigned(cost: np.ndarray) -> np.ndarray:
    """For each of the reference's, which of the model's; cost is (runs, model's, reference's)."""
    # Imported here: SciPy, which those who plan a run do without.
    from scipy.optimize import linear_sum_assignment

    return np.array([linear_sum_assignment(of_run.T)[1] for of_run in cost])
