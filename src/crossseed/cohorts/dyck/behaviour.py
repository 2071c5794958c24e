"""What toy models predict on a stream of fresh sequences: against the labels, and against each other.

Every batch is of one distribution, as in arXiv 2605.24577, whose shares are kept exactly where that draws them. Nothing is
kept but sums over batches, so that ten million sequences take no more memory than a thousand.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from crossseed.cohorts.dyck import program, task
from crossseed.progress import Progress

SHARES = {"train": 0.6, "compositional": 0.2, "long": 0.2}
# The label's share is 1 − this in the smoothed figure.
SMOOTHING = 1e-6
# Batches are summed in this many units at most, which intervals draw anew.
MOST_UNITS = 200
LOSS, SMOOTHED, WRONG, DIVERGENCE = "cross_entropy", "smoothed_divergence", "error_rate", "kl"
MEASURES = (LOSS, SMOOTHED, WRONG, DIVERGENCE)


class Stream(NamedTuple):
    """Sums over a stream.

    Attributes:
        sums: by model, (units, distributions, heads, measures), each summed over predictions: cross-entropy of
            the labels, divergence of the smoothed labels from the model, wrong predictions, and divergence
            of the first model from this one; nats but for the third.
        counts: predictions of a head, (units, distributions).
        per_second: sequences a second.
    """

    sums: dict[str, np.ndarray]
    counts: np.ndarray
    per_second: float

    def rates(self, name: str, weights_ru: np.ndarray, distributions: Sequence[int]) -> np.ndarray:
        """Per prediction of some distributions: (rows of weights, heads, measures)."""
        chosen = list(distributions)
        n = weights_ru @ self.counts[:, chosen].sum(axis=1)
        total = np.tensordot(weights_ru, self.sums[name][:, chosen].sum(axis=1), axes=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: np.ndarray = total / n[:, None, None]
        return found


class Program(nn.Module):
    """The hand-compiled algorithm (`crossseed.cohorts.dyck.program`) as a model."""

    def forward(self, tokens_bt: Tensor) -> list[Tensor]:
        logits = program.run(tokens_bt.cpu().numpy())
        return [torch.from_numpy(logits[head]).float().to(tokens_bt.device) for head in task.HEADS]


def stream(
    models: Mapping[str, nn.Module],
    sequences: int,
    batch_rows: int,
    lengths: tuple[int, int],
    rng: np.random.Generator,
    device: str,
) -> Stream:
    """Runs models on the same fresh sequences.

    Args:
        models: by name; divergences are from the first.
        sequences: how many. batch_rows: at once.
        lengths: content lengths of the ``train`` distribution.
        rng: draws the sequences.
        device: where models lie.
    """
    n_batches = math.ceil(sequences / batch_rows)
    n_units = min(n_batches, MOST_UNITS)
    names = list(SHARES)
    shape = (n_units, len(names), len(task.HEADS), len(MEASURES))
    sums = {name: np.zeros(shape) for name in models}
    counts = np.zeros(shape[:2])
    progress = Progress("behaviour", sequences)
    begun = time.monotonic()
    done = 0
    for number, which in enumerate(rng.permutation(_quotas(n_batches))):
        n = min(batch_rows, sequences - done)
        tokens = task.sample(rng, n, names[which], lengths)
        tokens = tokens[:, : int((tokens != task.PAD).any(axis=0).nonzero()[0][-1]) + 1]
        labels = task.label(tokens)
        scored = torch.from_numpy(tokens != task.PAD).to(device)
        targets = [
            torch.from_numpy(label.astype(np.int64)).to(device)
            for label in (tokens, labels.depth_nt, labels.valid_nt)
        ]
        unit = number % n_units
        counts[unit, which] += int(scored.sum())
        for name, values in _measured(models, targets, scored).items():
            sums[name][unit, which] += values
        done += n
        progress.update(done, f"{done / (time.monotonic() - begun):.0f} sequences a second")
    progress.close()
    return Stream(sums, counts, sequences / (time.monotonic() - begun))


def _quotas(n_batches: int) -> np.ndarray:
    """The distribution of every batch: two of each, for an interval, as far as there are so many, the rest by
    `SHARES`."""
    least = min(2, n_batches // len(SHARES))
    counts = np.full(len(SHARES), least)
    wanted = n_batches * np.array(list(SHARES.values()))
    while counts.sum() < n_batches:
        counts[(wanted - counts).argmax()] += 1
    return np.repeat(np.arange(len(SHARES)), counts)


@torch.no_grad()
def _measured(
    models: Mapping[str, nn.Module], targets: Sequence[Tensor], scored: Tensor
) -> dict[str, np.ndarray]:
    """Sums of every measure over a batch's scored predictions, (heads, measures), by model."""
    first: list[Tensor] = []
    found = {}
    for name, model in models.items():
        rows = []
        for head, (logits, target) in enumerate(zip(model(targets[0]), targets, strict=True)):
            log_q = logits[scored].log_softmax(-1)
            wanted = target[scored]
            if name == next(iter(models)):
                first.append(log_q)
            right = log_q.gather(-1, wanted[:, None])[:, 0]
            classes = log_q.shape[-1]
            other = SMOOTHING / (classes - 1)
            # Σ p log p − Σ p log q, p the smoothed label.
            entropy = (1 - SMOOTHING) * math.log1p(-SMOOTHING) + SMOOTHING * math.log(other)
            smoothed = entropy - (1 - SMOOTHING) * right - other * (log_q.sum(-1) - right)
            log_p = first[head]
            measures = (
                -right,
                smoothed,
                (log_q.argmax(-1) != wanted),
                (log_p.exp() * (log_p - log_q)).sum(-1),
            )
            rows.append([float(values.double().sum()) for values in measures])
        found[name] = np.array(rows)
    return found
