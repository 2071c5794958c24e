"""Components of a model replaced by their means, and gradients on the way there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import FORWARD_TOKENS, Start, Subject, TokenSet, batches


class Batch:
    """Some sequences and where predictions on them are scored."""

    def __init__(self, subject: Subject, tokens: TokenSet, sequences: np.ndarray) -> None:
        self.tokens = tokens.tokens_nt[sequences]
        labels = {name: values[sequences] for name, values in tokens.labels.items()}
        self.keep = torch.from_numpy(tokens.keep_nt[sequences])
        self.targets = [
            torch.from_numpy(np.asarray(t, dtype=np.int64))
            for t in subject.targets(self.tokens, labels)
        ]

    @property
    def n_tokens(self) -> int:
        return int(self.keep.sum())

    def losses(self, start: Start, value: Tensor) -> tuple[Tensor, Tensor]:
        """`scored` of what the model predicts with `value`, (k · sequences, positions, width), at the place of `start`."""
        return self.scored(start.logits(value))

    def scored(self, predicted: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Loss of the batch and of each of its sequences alone, (k,) and (k, sequences): the sum over
        heads of the mean over scored predictions.

        Args:
            predicted: of each head, logits of shape (k · sequences, positions, classes).
        """
        whole: Tensor | None = None
        alone: Tensor | None = None
        for logits, target in zip(predicted, self.targets, strict=True):
            target = target.to(logits.device)
            scored = self.keep.to(logits.device) & (target >= 0)
            logits = logits.view(-1, *target.shape, logits.shape[-1])
            index = target.clamp(min=0)[None, ..., None].expand(len(logits), -1, -1, 1)
            loss = -logits.log_softmax(-1).gather(-1, index)[..., 0]
            sums = torch.where(scored, loss, 0.0).sum(dim=2)
            mean, each = sums.sum(dim=1) / scored.sum(), sums / scored.sum(dim=1)
            whole = mean if whole is None else whole + mean
            alone = each if alone is None else alone + each
        assert whole is not None
        assert alone is not None
        return whole, alone


def means(
    subject: Subject, places: Iterable[str], tokens: TokenSet, sequences: np.ndarray
) -> dict[str, Tensor]:
    """Mean value at each place over kept positions of some sequences, (width,)."""
    found = {}
    size = max(1, FORWARD_TOKENS // tokens.tokens_nt.shape[1])
    for place in places:
        total, count = None, 0
        for part in batches(len(sequences), size):
            chosen = sequences[part]
            value = subject.start(tokens.tokens_nt[chosen], place).value_ntd
            keep = torch.from_numpy(tokens.keep_nt[chosen]).to(value.device)
            summed = value[keep].double().sum(dim=0)
            total = summed if total is None else total + summed
            count += int(keep.sum())
        assert total is not None
        found[place] = (total / count).float()
    return found


def gradients(batch: Batch, start: Start, mean_d: Tensor, at: np.ndarray) -> np.ndarray:
    """Σ gradient · (mean − value) at points of the path from mean (0) to value (1), (points,), and at the
    end of it, last, ‖gradient‖ · ‖mean − value‖."""
    own = start.value_ntd.float()
    step = mean_d.to(own.device) - own
    found = []
    size = max(1, FORWARD_TOKENS // (own.shape[0] * own.shape[1]))
    for part in batches(len(at), size):
        t = torch.from_numpy(at[part].astype(np.float32)).to(own.device)
        points = (own[None] + (1 - t)[:, None, None, None] * step).flatten(0, 1)
        points.requires_grad_(True)
        loss = batch.losses(start, points)[0].sum()
        (gradient,) = torch.autograd.grad(loss, points)
        gradient = gradient.view(len(t), *own.shape)
        found.append((gradient * step).sum(dim=(1, 2, 3)).double().cpu().numpy())
    size_of = float(gradient[-1].norm() * step.norm())
    return np.r_[np.concatenate(found), size_of]


class Effects(NamedTuple):
    """What ablating a component adds to the loss of a batch, and of its first sequence alone; and the
    clean loss of the batch; in nats."""

    measured: float
    first: float
    clean: float


def ablated(batch: Batch, start: Start, mean_d: Tensor) -> Effects:
    """The effect of replacing a component by its mean."""
    own = start.value_ntd.float()
    replaced = mean_d.to(own.device).expand_as(own)
    whole, alone = (v.double().cpu() for v in batch.losses(start, torch.cat([own, replaced])))
    return Effects(float(whole[1] - whole[0]), float(alone[1, 0] - alone[0, 0]), float(whole[0]))
