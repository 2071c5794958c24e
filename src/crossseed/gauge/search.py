"""Alignment of one model's weights with another's: the element of the symmetry group that brings them closest.

Both models are first put in their balanced gauge (`crossseed.gauge.element.canonical`), which leaves the residual
rotation, the orders of heads and neurons, and a rotation in each head. What is minimised is

    Σ over tensors of ‖found − reference‖² / ‖reference‖²

in turns, each step the exact minimum over its own part: the residual rotation (orthogonal Procrustes over the
rows of all tensors), heads with their rotations (Procrustes for every pair of heads, then assignment), neurons
(assignment). So it never rises; where it ends depends on the start, and many starts run side by side.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np

from crossseed.alignment.maps import haar_orthogonal, procrustes
from crossseed.gauge import element
from crossseed.gauge.element import Element
from crossseed.gauge.weights import OF_MODEL, Weights, check_alike, errors, squares

# What the balanced gauge leaves open.
MOVED = ("heads", "query_key", "value_output", "neurons", "residual")
# A sweep that lowers the objective by less than this, a share of what all tensors together have, has ended.
TOLERANCE = 1e-9
# Below this objective one model is taken for a copy of the other, and the search goes on until the rotation
# moves by no more than that.
COPY, EXACT = 1e-6, 1e-11
# Sweeps of the best start once all have had theirs, at most.
MOST_SWEEPS = 400
# Starts that end within this of the best, in units of a whole tensor, found the same place.
SAME = 1e-6


class Found(NamedTuple):
    """What a search ended with.

    Attributes:
        element: takes the model to the reference, in the gauges they were given in.
        moved: the model so moved.
        objective: where each start was after the same number of sweeps, the best first, (starts,). reached: where
            the best ended.
        converged: whether the best had stopped to move: a minimum that no single step improves, not
            necessarily the least.
        sweeps: that the best took.
    """

    element: Element
    moved: Weights
    objective: np.ndarray
    reached: float
    converged: bool
    sweeps: int

    @property
    def same(self) -> float:
        """Share of starts that were where the best was."""
        best = self.objective[0]
        return float(np.mean(self.objective <= best + SAME * len(self.moved.tensors())))


def starts(rng: np.random.Generator, model: Weights, reference: Weights, n: int) -> np.ndarray:
    """Residual rotations to begin with, (n, d, d).

    The first is that of tensors whose rows correspond from the outset (tokens, positions, classes), the second
    the identity. Then in turn the first one on a random half of these rows, and a draw from Haar measure.
    """
    scale = {name: 1 / np.sqrt(max(float(value), 1e-300)) for name, value in squares(reference)}
    rows = [
        np.concatenate([getattr(w, name) * scale[name] for name in OF_MODEL])
        for w in (model, reference)
    ]
    found = [procrustes(rows[0].T @ rows[1]).T]
    found.append(np.eye(model.width))
    while len(found) < n:
        if len(found) % 2:
            half = rng.random(len(rows[0])) < 0.5
            found.append(procrustes(rows[0][half].T @ rows[1][half]).T)
        else:
            found.append(haar_orthogonal(rng, model.width))
    return np.stack(found[:n])


def align(
    rng: np.random.Generator, model: Weights, reference: Weights, n_starts: int, sweeps: int
) -> Found:
    """The best element found.

    Args:
        rng: draws starts.
        model, reference: folded weights of one shape.
        n_starts: that run side by side. sweeps: of each, at most; the best goes on until it has
            converged, at most `MOST_SWEEPS`.

    Raises:
        UserError: the models differ in shape.
    """
    check_alike(model, reference, "the model", "the reference")
    ours, theirs = element.canonical(model), element.canonical(reference)
    a, b = element.apply(ours, model), element.apply(theirs, reference)
    begun = starts(rng, a, b, n_starts)
    state = _Sweeps(a, b, begun)
    moving = np.full(n_starts, True)
    taken = 0
    while moving.any() and taken < sweeps:
        moving = state.sweep()
        taken += 1
    # Starts are told apart where all have had as many sweeps.
    order = np.argsort(state.objective, kind="stable")
    objective = state.objective[order]
    best = state.only(order[:1])
    while moving[order[0]] and taken < MOST_SWEEPS:
        moving[order[0]] = best.sweep()[0]
        taken += 1
    # From the model to its balanced gauge, over, and out of the reference's.
    whole = element.compose(element.inverse(theirs), element.compose(best.element(0), ours))
    return Found(
        whole,
        element.apply(whole, model),
        objective,
        float(best.objective[0]),
        not moving[order[0]],
        taken,
    )


def balanced_errors(moved: Weights, reference: Weights) -> dict[str, np.ndarray]:
    """`crossseed.gauge.weights.errors` in the balanced gauge of the reference. Of what `align` moved they do not depend
    on the basis that either model happened to be trained in."""
    gauge = element.canonical(reference)
    return errors(element.apply(gauge, moved), element.apply(gauge, reference))


class _Sweeps:
    """Alternating minimisation from several starts at once, all in the balanced gauge."""

    def __init__(self, a: Weights, b: Weights, residual: np.ndarray) -> None:
        self.a, self.b = a, b
        n = len(residual)
        still = element.identity(a)
        self.residual = residual
        self.heads = np.tile(still.heads, (n, 1, 1))
        self.neurons = np.tile(still.neurons, (n, 1, 1))
        self.query_key = np.tile(still.query_key, (n, 1, 1, 1, 1))
        self.value_output = np.tile(still.value_output, (n, 1, 1, 1, 1))
        self.objective = np.full(n, np.inf)
        # Each tensor of the reference to unit length: then the products below are of relative size.
        # One that is 0 has no direction to align.
        scale = {name: np.array(1 / value if value > 0 else 0.0) for name, value in squares(b)}
        layers = range(len(b.reads))
        self.scale = {
            name: np.array([scale[f"{layer}.{name}"] for layer in layers])
            for name in ("query", "key", "value", "output", "reads", "writes")
        } | {name: scale[name] for name in OF_MODEL}
        self.constant = sum(value * scale[name] for name, value in squares(a)) + len(scale)

    def element(self, number: int) -> Element:
        """The symmetry that one start is at."""
        return element.identity(self.a)._replace(
            **{name: getattr(self, name)[number] for name in MOVED}
        )

    def only(self, starts: np.ndarray) -> _Sweeps:
        """Some of the starts, to be gone on with."""
        found = copy.copy(self)
        for name in (*MOVED, "objective"):
            setattr(found, name, getattr(self, name)[starts])
        return found

    def sweep(self) -> np.ndarray:
        """One turn of heads, neurons and the residual rotation; True where it still moved."""
        before = self.objective, self.heads, self.neurons, self.residual
        self.heads, self.query_key, self.value_output = self._heads()
        self.neurons = self._neurons()
        self.residual, gained = self._residual()
        self.objective = np.maximum(self.constant - 2 * gained, 0)
        reordered = (self.heads != before[1]).any(axis=(1, 2)) | (self.neurons != before[2]).any(
            axis=(1, 2)
        )
        with np.errstate(invalid="ignore"):
            lowered = before[0] - self.objective > TOLERANCE * self.constant
        # Of a copy the objective drowns in rounding long before the rotation is exact.
        turned = np.abs(self.residual - before[3]).max(axis=(1, 2)) > EXACT
        copied = self.objective < COPY
        found: np.ndarray = reordered | lowered | (copied & turned) | np.isinf(before[0])
        return found

    def _turned(self, name: str) -> np.ndarray:
        """Rows of one of the model's tensors in the present residual basis, starts first, scaled."""
        array = getattr(self.a, name)
        turn = np.swapaxes(self.residual, -1, -2)
        scale = self.scale[name].reshape(-1, *[1] * (array.ndim - 1))
        return (array * scale)[None] @ turn.reshape(-1, *[1] * (array.ndim - 2), *turn.shape[1:])

    def _heads(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # Imported here: SciPy, which those who plan a run do without.
        from scipy.optimize import linear_sum_assignment

        gains, bases = [], []
        for left, right in (("query", "key"), ("value", "output")):
            # Reference head r against the model's head m: (starts, layers, r, m, d_head, d_head).
            product = sum(
                np.einsum(
                    "lrid,slmjd->slrmij", getattr(self.b, name), self._turned(name), optimize=True
                )
                for name in (left, right)
            )
            u, s, vt = np.linalg.svd(product)
            gains.append(s.sum(axis=-1))
            bases.append(u @ vt)
        gain = gains[0] + gains[1]
        order = np.empty(gain.shape[:3], dtype=int)
        for index in np.ndindex(*gain.shape[:2]):
            order[index] = linear_sum_assignment(gain[index], maximize=True)[1]
        chosen = [
            np.take_along_axis(basis, order[..., None, None, None], axis=3)[:, :, :, 0]
            for basis in bases
        ]
        return order, chosen[0], chosen[1]

    def _neurons(self) -> np.ndarray:
        from scipy.optimize import linear_sum_assignment

        gain = sum(
            np.swapaxes(self._turned(name) @ np.swapaxes(getattr(self.b, name), -1, -2), -1, -2)
            for name in ("reads", "writes")
        )
        order = np.empty(gain.shape[:3], dtype=int)
        for index in np.ndindex(*gain.shape[:2]):
            order[index] = linear_sum_assignment(gain[index], maximize=True)[1]
        return order

    def _residual(self) -> tuple[np.ndarray, np.ndarray]:
        still = element.identity(self.a)
        parts = {name: getattr(self, name) for name in MOVED if name != "residual"}
        moved = element.apply(still._replace(**parts), self.a)
        d = self.a.width
        product = np.zeros((len(self.residual), d, d))
        for name, array in moved.arrays().items():
            wanted = getattr(self.b, name)
            scale = self.scale[name].reshape(-1, *[1] * (wanted.ndim - 1))
            rows = np.broadcast_to(array, (len(product), *wanted.shape)).reshape(
                len(product), -1, d
            )
            product += np.swapaxes(rows, -1, -2) @ (wanted * scale).reshape(-1, d)
        u, s, vt = np.linalg.svd(product)
        # argmin over X of ‖rows X − reference‖ is U Vᵀ; rows move by Oᵀ, so that O is its transpose.
        return np.swapaxes(u @ vt, -1, -2), s.sum(axis=-1)
