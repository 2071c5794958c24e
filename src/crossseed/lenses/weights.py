"""Lens 1: what weights say alone. Of folded weights; every quantity is the same in all gauges, up to the names
of heads.

Circuits are products of what reads and what writes: ``qk``, WqᵀWk, between tokens (a token's score for
another), and ``ov``, W_O W_V, from tokens to predicted tokens. Norms are Frobenius.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.cohorts.dyck import task
from crossseed.gauge import element
from crossseed.gauge.weights import Weights
from crossseed.lenses import MODEL, WEIGHTS, head, mlp, row

# Singular values, and pairs of tokens, that are told.
MOST_VALUES, MOST_PAIRS = 8, 5
NAMES = ("BOS", "EOS", "(", ")", "[", "]", "{", "}")


def measure(weights: Weights) -> list[dict[str, Any]]:
    """Rows of this lens, taken in the balanced gauge."""
    weights = element.apply(element.canonical(weights), weights)
    layers, heads = weights.query.shape[:2]
    tokens = weights.embedding
    tok = weights.unembedding[task.BOS : task.BOS + len(tokens)]
    rows: list[dict[str, Any]] = []
    for layer in range(layers):
        for h in range(heads):
            qk = weights.query[layer, h].T @ weights.key[layer, h]
            ov = weights.output[layer, h].T @ weights.value[layer, h]
            for circuit, matrix in (("qk", qk), ("ov", ov)):
                rows += _spectrum(head(layer, h), circuit, matrix)
            between = tokens @ qk @ tokens.T
            rows += _pairs(head(layer, h), "qk", between - between.mean(axis=1, keepdims=True))
            rows += _pairs(head(layer, h), "ov", (tok @ ov @ tokens.T).T)
        read, written = weights.reads[layer], weights.writes[layer]
        rows += _spectrum(mlp(layer), "reads", read) + _spectrum(mlp(layer), "writes", written)
        norms = np.linalg.norm(read, axis=1) * np.linalg.norm(written, axis=1)
        cosines = (read * written).sum(axis=1) / np.where(norms > 0, norms, 1)
        for quantile in (0.05, 0.5, 0.95):
            rows.append(
                row(WEIGHTS, mlp(layer), "neuron_norm", np.quantile(norms, quantile), quantile)
            )
            rows.append(
                row(WEIGHTS, mlp(layer), "neuron_cosine", np.quantile(cosines, quantile), quantile)
            )
    for name, matrix in (("embedding", tokens), ("unembedding", weights.unembedding)):
        rows += _spectrum(MODEL, name, matrix)
    return rows


def _spectrum(component: str, circuit: str, matrix: np.ndarray) -> list[dict[str, Any]]:
    """Norm, effective rank, exp of the entropy of normalised squared singular values, and singular values."""
    s = np.linalg.svd(matrix, compute_uv=False)
    share = s**2 / max(float((s**2).sum()), 1e-300)
    share = share[share > 0]
    rank = np.exp(-(share * np.log(share)).sum())
    return [
        row(WEIGHTS, component, "norm", np.linalg.norm(s), circuit),
        row(WEIGHTS, component, "effective_rank", rank, circuit),
        *(
            row(WEIGHTS, component, "singular_value", value, f"{circuit} {number}")
            for number, value in enumerate(s[:MOST_VALUES])
        ),
    ]


def _pairs(component: str, circuit: str, matrix: np.ndarray) -> list[dict[str, Any]]:
    """The largest entries of a circuit between tokens, from the row's token to the column's."""
    largest = np.argsort(-np.abs(matrix), axis=None)[:MOST_PAIRS]
    return [
        row(
            WEIGHTS, component, f"{circuit}_pair", matrix[i, j],
            f"{NAMES[i]} → {NAMES[j]}",
        )
        for i, j in zip(*np.unravel_index(largest, matrix.shape), strict=True)
    ]  # fmt: skip
