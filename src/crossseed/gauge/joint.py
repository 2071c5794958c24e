"""One rotation for weights and activations together.

After two models' weights are aligned, one more rotation R of the residual stream may bring weights, activations,
or both closer: (1 − λ) E_w(R) + λ E_a(R), each E a sum of ‖X Rᵀ − Y‖². Since R is orthogonal, ‖X Rᵀ‖ does not
depend on it, so that the whole is linear in R and has its optimum in closed form for every λ:
Rᵀ = U Vᵀ of the SVD of (1 − λ) C_w + λ C_a, with C = Σ Xᵀ Y (orthogonal Procrustes). Hence E_a of the optimum
never rises with λ and E_w never falls: the two trade along one curve.

arXiv 2605.24577 minimised it by Adam over Cayley's parameters and reported that λ > 0 makes both worse
(`crossseed.published.joint`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from crossseed.alignment.moments import Moments

NORMALISED, PUBLISHED = "normalised", "published"


class Terms(NamedTuple):
    """Pairs of matrices X (ours) and Y (theirs), each of which adds weight · ‖X Rᵀ − Y‖².

    Attributes:
        names: of the pairs, (n,).
        cross: Xᵀ Y, (n, d, d). constant: ‖X‖² + ‖Y‖², (n,). weight: (n,).
    """

    names: list[str]
    cross: np.ndarray
    constant: np.ndarray
    weight: np.ndarray

    def each(self, rotation_dd: np.ndarray) -> np.ndarray:
        """Every pair's part of the error at R, (n,)."""
        found: np.ndarray = self.weight * (
            self.constant - 2 * np.einsum("nij,ji->n", self.cross, rotation_dd)
        )
        return found

    def error(self, rotation_dd: np.ndarray) -> float:
        """The whole error at R, (d, d)."""
        return float(self.each(rotation_dd).sum())

    @property
    def product(self) -> np.ndarray:
        """C = Σ weight Xᵀ Y, (d, d)."""
        found: np.ndarray = np.tensordot(self.weight, self.cross, axes=1)
        return found


def of_weights(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], objective: str, constants: int = 0
) -> Terms:
    """Terms of two models' tensors, ours and theirs.

    Args:
        constants: entries that are the same in both, which the mean over entries counts.
        objective: `NORMALISED`: the mean over tensors of ‖X Rᵀ − Y‖² / ‖Y‖²; `PUBLISHED`: the mean over all
            entries, which large tensors and large entries decide.
    """
    d = next(iter(a.values())).shape[-1]
    pairs = [(a[name].reshape(-1, d), b[name].reshape(-1, d)) for name in a]
    entries = constants + sum(y.size for _, y in pairs)
    if objective == NORMALISED:
        weight = [1 / len(pairs) / np.square(y).sum() for _, y in pairs]
    else:
        weight = [1 / entries] * len(pairs)
    return Terms(
        list(a),
        np.stack([x.T @ y for x, y in pairs]),
        np.array([np.square(x).sum() + np.square(y).sum() for x, y in pairs]),
        np.array(weight),
    )


def of_activations(
    moments: Sequence[Moments], residual_dd: np.ndarray, sites: Sequence[str], objective: str
) -> Terms:
    """Terms of two models' activations, nothing centred, ours moved by the weights' alignment.

    Args:
        moments: of each site, the reference's as a and the model's as b.
        residual_dd: O of the alignment, (d, d): ours are b Oᵀ.
        objective: `NORMALISED`: the mean over sites of the relative error; `PUBLISHED`: of the mean over entries.
    """
    cross, constant, weight = [], [], []
    for m in moments:
        d = len(m.mean_a)
        second_a = np.trace(m.covariance_a) + m.mean_a @ m.mean_a
        second_b = np.trace(m.covariance_b) + m.mean_b @ m.mean_b
        cross.append(residual_dd @ (m.cross_covariance + np.outer(m.mean_b, m.mean_a)))
        constant.append(second_a + second_b)
        weight.append(1 / len(moments) / (second_a if objective == NORMALISED else d))
    return Terms(list(sites), np.stack(cross), np.array(constant), np.array(weight))


def optimum(weights: Terms, activations: Terms, lam: float, det: int = 0) -> np.ndarray:
    """R of the least (1 − λ) E_w + λ E_a, orthogonal (d, d).

    Args:
        lam: λ. det: 1 or −1 for the best rotation with that determinant, 0 for the best of both.
    """
    u, _, vt = np.linalg.svd((1 - lam) * weights.product + lam * activations.product)
    if det and np.sign(np.linalg.det(u @ vt)) != det:
        # The least loss of the other component turns the least singular direction over.
        u = u * np.r_[np.ones(len(u) - 1), -1.0]
    found: np.ndarray = (u @ vt).T
    return found
