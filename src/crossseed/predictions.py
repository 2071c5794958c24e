"""What a model predicts on some sequences when the activations at one place are replaced."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crossseed.cohorts.base import Subject, TokenSet


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
        self.scored = [self.keep & (target >= 0) for target in self.targets]
        self.clean = self._predicted(self.own)

    @property
    def counts(self) -> np.ndarray:
        """Scored predictions of each sequence, all heads together, (sequences,)."""
        total = sum(scored.sum(dim=1) for scored in self.scored)
        assert isinstance(total, Tensor)
        return total.cpu().numpy()

    def _predicted(self, value: Tensor) -> list[Tensor]:
        """Log-probabilities of every head with `value` at the place."""
        return [logits.log_softmax(-1) for logits in self.start.logits(value)]

    def with_rows(self, rows_nd: np.ndarray) -> Tensor:
        """The model's own activations with `rows_nd` where activations are kept."""
        value = self.own.clone()
        value[self.keep] = torch.from_numpy(np.ascontiguousarray(rows_nd)).to(value)
        return value

    def sums(self, value: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Cross-entropy and divergence from the clean run with `value` at the place, in nats.

        Args:
            value: (k · sequences, positions, width).

        Returns:
            Sums over scored predictions of all heads, each (k, sequences).
        """
        n = len(self.tokens)
        k = len(value) // n
        loss = torch.zeros(k, n, dtype=torch.float64)
        divergence = torch.zeros(k, n, dtype=torch.float64)
        for found, clean, target, scored in zip(
            self._predicted(value), self.clean, self.targets, self.scored, strict=True
        ):
            found = found.view(k, *clean.shape)
            index = target.clamp(min=0)[None, ..., None].expand(k, -1, -1, 1)
            picked = found.gather(-1, index)[..., 0]
            kl = (clean.exp() * (clean - found)).sum(-1)
            loss += torch.where(scored, -picked, 0.0).sum(dim=2).double().cpu()
            divergence += torch.where(scored, kl, 0.0).sum(dim=2).double().cpu()
        return loss.numpy(), divergence.numpy()

    def losses(self, value: Tensor) -> np.ndarray:
        """Cross-entropy of every scored prediction with `value` at the place, (k, predictions), those of
        a sequence together."""
        k = len(value) // len(self.tokens)
        found = []
        for logits, target in zip(self._predicted(value), self.targets, strict=True):
            index = target.clamp(min=0)[None, ..., None].expand(k, -1, -1, 1)
            found.append(-logits.view(k, *target.shape, -1).gather(-1, index)[..., 0])
        chosen = torch.stack(self.scored, dim=-1)
        return torch.stack(found, dim=-1)[:, chosen].double().cpu().numpy()
