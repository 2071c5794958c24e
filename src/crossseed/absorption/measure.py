"""Splitting and absorption of letters in one dictionary, by the probes' projections.

Absorption follows the variant of SAEBench (arXiv 2503.09532) that needs no ablations, *full absorption*: on a row whose
letter the probe reads and on which the letter's latents are silent, the latent that carries most of the projection on the
probe's direction points along it (cosine of at least .025) and carries a share of at least .4. The study itself
(arXiv 2409.14507) takes the latent whose ablation moves the logit of the letter most, 1.0 more than the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import sparse

from crossseed.absorption import probes as p
from crossseed.absorption.words import LETTERS
from crossseed.cohorts.base import batches

# Numbers of latents that are held at once while rows are encoded.
ENCODED = 1 << 24


class Coder(NamedTuple):
    """A dictionary.

    Attributes:
        encode: activations to latents. decoder: (latents, width). offset: what it decodes when nothing fires, (width,).
    """

    encode: Callable[[np.ndarray], np.ndarray]
    decoder: np.ndarray
    offset: np.ndarray


class Thresholds(NamedTuple):
    """Attributes: k: latents of a letter at most. jump: of F1, by which one more counts. cosine, share: of the absorbing
    latent."""

    k: int
    jump: float
    cosine: float
    share: float


class Task(NamedTuple):
    """Letters to be read, and the probes that read them.

    Attributes:
        fit, held: letter of each row fitted on, and held out. fold: of each row fitted on.
        probes: fitted on the former. directions: (width, letters).
        right: held-out rows whose letter has the largest logit.
    """

    fit: np.ndarray
    held: np.ndarray
    fold: np.ndarray
    probes: p.Probes
    directions: np.ndarray
    right: np.ndarray
    predicted: np.ndarray


class Found(NamedTuple):
    """One letter in one dictionary, on held-out rows.

    Attributes:
        main: its latents. first_f1, split_f1: of the first, and of all of them.
        rows: of the letter. right: those whose letter the probe reads. silent: those of them on which no main latent fires.
        absorbers: the latent that took over each row that is absorbed.
    """

    main: np.ndarray
    first_f1: float
    split_f1: float
    rows: int
    right: int
    silent: int
    absorbers: np.ndarray


def task(
    x_fit: np.ndarray,
    x_held: np.ndarray,
    fit: np.ndarray,
    held: np.ndarray,
    fold: np.ndarray,
    penalty: float,
) -> Task:
    """Probes of letters, fitted and tried.

    Args:
        x_fit, x_held: activations, (rows, width). fit, held: letters of their rows, (rows,). fold: of each row fitted on.
    """
    probes = p.fit(x_fit, fit, len(LETTERS), penalty)
    predicted = np.argmax(probes.logits(x_held), axis=1)
    return Task(fit, held, fold, probes, probes.directions(), predicted == held, predicted)


def encoded(coder: Coder, x_nd: np.ndarray, held_at_once: int = ENCODED) -> sparse.csr_matrix:
    """Latents of some rows, (rows, latents), without zeros."""
    block = max(1, held_at_once // len(coder.decoder))
    parts = [sparse.csr_matrix(coder.encode(x_nd[part])) for part in batches(len(x_nd), block)]
    return sparse.vstack(parts, format="csr")


def letters(
    of: Task,
    chosen: list[int],
    coder: Coder,
    h_fit: sparse.csr_matrix,
    h_held: sparse.csr_matrix,
    x_held: np.ndarray,
    limits: Thresholds,
) -> dict[int, Found]:
    """What a dictionary makes of some letters.

    Args:
        of: the letters. chosen: numbers of those that are measured.
        h_fit, h_held: latents of the rows of `of`, (rows, latents), from `encoded`.
        x_held: activations of the latter, (rows, width).
    """
    differences = p.mean_differences(h_fit, of.fit, len(LETTERS))
    columns = h_fit.tocsc()
    held_columns = h_held.tocsc()
    found = {}
    for letter in chosen:
        true = of.fit == letter
        most = np.argsort(-differences[letter], kind="stable")[: p.SCREENED]
        most = most[differences[letter][most] > 0]
        candidates = columns[:, most].toarray().astype(np.float64)
        strongest = p.ranked(candidates, true, limits.k) if len(most) else np.zeros(0, dtype=int)
        candidates, latents = candidates[:, strongest], most[strongest]
        n = p.n_split(candidates, true, of.fold, limits.jump)
        main = latents[:n]
        values = held_columns[:, main].toarray().astype(np.float64)
        f1 = [
            p.f1(p.fires(values[:, :k], p.logistic(candidates[:, :k], true)), of.held == letter)
            if k
            else 0.0
            for k in (min(1, n), n)
        ]
        right = np.flatnonzero(of.right & (of.held == letter))
        silent = right[~values[right].any(axis=1)]
        absorbers = absorbed(
            h_held[silent], x_held[silent], coder, of.directions[:, letter], limits
        )
        rows = int((of.held == letter).sum())
        found[letter] = Found(main, f1[0], f1[1], rows, len(right), len(silent), absorbers)
    return found


def absorbed(
    h_nf: sparse.csr_matrix,
    x_nd: np.ndarray,
    coder: Coder,
    direction: np.ndarray,
    limits: Thresholds,
) -> np.ndarray:
    """The latent that takes over each row that is absorbed, (rows,).

    What latents can carry is the projection of a row less the dictionary's offset. (SAEBench takes the row whole, of
    which the offset may be most.)

    Args:
        h_nf: latents of rows on which no latent of the letter fires. x_nd: the rows. direction: of the probe, unit.
    """
    along = coder.decoder @ direction
    norm = np.linalg.norm(coder.decoder, axis=1)
    cosine = np.divide(along, norm, where=norm > 0, out=np.zeros_like(along))
    whole = (x_nd - coder.offset) @ direction
    found = []
    for row in range(h_nf.shape[0]):
        at = slice(h_nf.indptr[row], h_nf.indptr[row + 1])
        latents = h_nf.indices[at]
        carried = h_nf.data[at] * along[latents]
        if not len(carried) or whole[row] <= 0:
            continue
        top = int(np.argmax(carried))
        if (
            cosine[latents[top]] >= limits.cosine
            and carried[top] > 0
            and carried[top] >= limits.share * whole[row]
        ):
            found.append(latents[top])
    return np.array(found, dtype=np.int64)
