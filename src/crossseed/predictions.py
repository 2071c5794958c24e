"""What a model predicts on some sequences when the activations at one place are replaced."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import Subject, TokenSet


class Scores(NamedTuple):
    """In nats, 0 where nothing is scored, each (k, sequences, positions, heads).

    Attributes:
        loss: cross-entropy. divergence: KL from the clean run.
    """

    loss: Tensor
    divergence: Tensor

    def by_sequence(self) -> tuple[np.ndarray, np.ndarray]:
        """Loss and divergence summed over positions, each (k, sequences, heads)."""
        loss, divergence = (values.sum(dim=2).numpy() for values in self)
        return loss, divergence


class Predictions:
    """Some sequences, where predictions on them are scored, and the model's own.

    Args:
        subject: the model. place: where activations are replaced.
        tokens: a split. sequences: numbers of those that are run.
    """

    def __init__(
        self, subject: Subject, place: str, tokens: TokenSet, sequences: np.ndarray
    ) -> None:
        self.tokens = tokens.tokens_nt[sequences]
        labels = {name: values[sequences] for name, values in tokens.labels.items()}
        self.start = subject.start(self.tokens, place)
        self.own = self.start.value_ntd.float()
        device = self.own.device
        self.keep = torch.from_numpy(tokens.keep_nt[sequences]).to(device)
        self.targets = [
            torch.from_numpy(np.asarray(t, dtype=np.int64)).to(device)
            for t in subject.targets(self.tokens, labels)
        ]
        # Scored where activations are read: elsewhere nothing was replaced.
        self.scored = torch.stack([self.keep & (target >= 0) for target in self.targets], dim=-1)
        self._clean = self._predicted(self.own)
        self.clean = self._scores(self._clean)

    @property
    def counts(self) -> np.ndarray:
        """Scored predictions of each sequence and head, (sequences, heads)."""
        return self.scored.sum(dim=1).double().cpu().numpy()

    def _predicted(self, value: Tensor) -> list[Tensor]:
        """Log-probabilities of every head with `value` at the place."""
        return [logits.log_softmax(-1) for logits in self.start.logits(value)]

    def with_rows(self, rows_nd: np.ndarray) -> Tensor:
        """The model's own activations, (sequences, positions, width), with `rows_nd` where activations are kept."""
        value = self.own.clone()
        value[self.keep] = torch.from_numpy(np.ascontiguousarray(rows_nd)).to(value)
        return value

    def score(self, value: Tensor) -> Scores:
        """How predictions do with `value` at the place, (k · sequences, positions, width)."""
        return self._scores(self._predicted(value))

    def _scores(self, predicted: list[Tensor]) -> Scores:
        losses, divergences = [], []
        for found, clean, target in zip(predicted, self._clean, self.targets, strict=True):
            found = found.view(-1, *clean.shape)
            index = target.clamp(min=0)[None, ..., None].expand(len(found), -1, -1, 1)
            losses.append(-found.gather(-1, index)[..., 0])
            divergences.append((clean.exp() * (clean - found)).sum(-1))
        zero = torch.zeros((), device=self.scored.device)
        both = (torch.stack(v, dim=-1) for v in (losses, divergences))
        return Scores(*(torch.where(self.scored, v, zero).double().cpu() for v in both))

    def each(self, values: Tensor) -> np.ndarray:
        """What stands at every scored prediction, (k, predictions), those of a sequence together."""
        found: np.ndarray = values[:, self.scored.cpu()].numpy()
        return found
