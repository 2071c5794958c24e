"""What counting words alone gets right: the floor that a classifier should beat."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import optimize, sparse, special

from crossseed.cohorts.classifier.grammar import Labelled

WORD = re.compile(r"\w+")
# Strengths of the ridge penalty, of which `development` chooses one.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)


class Scores(NamedTuple):
    """How well classes are predicted.

    Attributes:
        accuracy: share of right classes. loss_nats: mean cross-entropy.
    """

    accuracy: float
    loss_nats: float


def scores(logits_nc: np.ndarray, label_n: np.ndarray) -> Scores:
    """Of logits or log-probabilities, (sentences, classes)."""
    logits = logits_nc.astype(np.float64)
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    hit = logits.argmax(axis=1) == label_n
    return Scores(float(hit.mean()), float(-log_p[np.arange(len(label_n)), label_n].mean()))


def majority(train: Labelled, evaluated: Labelled, n_classes: int) -> Scores:
    """Always the most frequent class of `train`; the loss is that of its class frequencies."""
    counts = np.bincount(train.label_n, minlength=n_classes)
    log_p = np.log(counts / counts.sum())
    return scores(np.tile(log_p, (len(evaluated.texts), 1)), evaluated.label_n)


def bag_of_words(
    train: Labelled, development: Labelled, evaluated: Labelled, n_classes: int
) -> Scores:
    """Logistic regression on which words a sentence holds, its penalty chosen on `development`."""
    words = sorted({word for text in train.texts for word in _words(text)})
    index = {word: i for i, word in enumerate(words)}
    x, x_chosen, x_eval = (_counts(part.texts, index) for part in (train, development, evaluated))
    fits = [_fit(x, train.label_n, n_classes, penalty) for penalty in PENALTIES]
    losses = [scores(x_chosen @ w, development.label_n).loss_nats for w in fits]
    return scores(x_eval @ fits[int(np.argmin(losses))], evaluated.label_n)


def _words(text: str) -> set[str]:
    return set(WORD.findall(text.casefold()))


def _counts(texts: Sequence[str], index: dict[str, int]) -> sparse.csr_matrix:
    """Which known words each text holds, and a column of ones, (texts, words + 1)."""
    rows, columns = [], []
    for row, text in enumerate(texts):
        known = sorted(index[word] for word in _words(text) if word in index)
        rows += [row] * (len(known) + 1)
        columns += [*known, len(index)]
    return sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(texts), len(index) + 1))


def _fit(x: sparse.csr_matrix, label_n: np.ndarray, n_classes: int, penalty: float) -> np.ndarray:
    """Weights (words + 1, classes) of the least mean cross-entropy plus penalty / 2 times their squares."""
    hot = np.eye(n_classes)[label_n]
    shape = (x.shape[1], n_classes)

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(shape)
        logits = x @ w
        log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
        loss = -(hot * log_p).sum() / len(hot) + penalty / 2 * np.square(w).sum()
        gradient = x.T @ (np.exp(log_p) - hot) / len(hot) + penalty * w
        return float(loss), gradient.ravel()

    start = np.zeros(shape[0] * shape[1])
    found = optimize.minimize(objective, start, jac=True, method="L-BFGS-B")
    return np.asarray(found.x).reshape(shape)
