"""One optimiser step, the learning rate of each, and logits without dropout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from crossseed.adam import Adam
from crossseed.cohorts.classifier.batches import IGNORED, Batch, Examples
from crossseed.cohorts.classifier.bert import drawn
from crossseed.cohorts.classifier.settings import ClassifierTraining

if TYPE_CHECKING:
    from transformers import BertForMaskedLM, BertForSequenceClassification

EVAL_ROWS = 128


def rate(step: int, steps: int, warmup_ratio: float, peak: float) -> float:
    """Linear warm-up to the peak, then cosine to 0 at the last step."""
    warmup = warmup_ratio * steps
    if step < warmup:
        return peak * step / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


class Stepper:
    """One optimiser step on one batch, dropout included.

    Args:
        model: with a head that predicts hidden words or classes, on its device.
        training: the recipe.
        device: ``cpu`` or ``cuda``.
        name: names the draws of dropout.
    """

    def __init__(
        self,
        model: BertForMaskedLM | BertForSequenceClassification,
        training: ClassifierTraining,
        device: str,
        *name: object,
    ) -> None:
        self.model: Any = torch.nn.Module.to(model, device).train().requires_grad_(True)
        self.training, self.device, self.name = training, device, name
        self.parameters = list(self.model.parameters())
        self.adam = Adam(self.parameters, weight_decay=training.weight_decay)
        self.loss_sum = 0.0
        self.grad_norm = 0.0

    def logits(self, batch: Batch) -> Tensor:
        """Float32 logits of a batch."""
        precision: AbstractContextManager[Any] = nullcontext()
        if self.training.precision == "bfloat16":
            precision = torch.autocast(self.device, torch.bfloat16)
        with precision:
            found: Tensor = self.model(
                input_ids=torch.from_numpy(batch.tokens_nt).to(self.device, torch.long),
                attention_mask=torch.from_numpy(batch.attend_nt).to(self.device, torch.long),
            ).logits
        return found.float()

    def __call__(self, step: int, batch: Batch, lr: float) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        with drawn("classifier-dropout", *self.name, step):
            logits = self.logits(batch)
        target = torch.from_numpy(batch.target).to(self.device, torch.long)
        loss = F.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED)
        loss.backward()
        self.loss_sum += loss.item()
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.training.grad_clip)
        self.grad_norm = norm.item()
        # Some heads have weights that nothing passes through.
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in self.parameters]
        self.adam.step(grads, lr)

    def weights(self) -> dict[str, np.ndarray]:
        """Every tensor of the model by name, on the CPU."""
        state = self.model.state_dict()
        return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}

    def tensors(self) -> dict[str, np.ndarray]:
        """Weights and optimiser state, for a resume file."""
        return {**{f"model/{k}": v for k, v in self.weights().items()}, **self.adam.tensors()}

    def restore(self, tensors: Mapping[str, np.ndarray]) -> None:
        """Takes back what `tensors` gave."""
        self.model.load_state_dict(below(tensors, "model/"))
        self.adam.restore(tensors)


def below(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, Tensor]:
    """Tensors whose name has a prefix, without it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in tensors.items()
        if name.startswith(prefix)
    }


@torch.no_grad()
def logits_of(stepper: Stepper, part: Examples) -> np.ndarray:
    """Logits of a part without dropout, (sentences, classes)."""
    stepper.model.eval()
    found = [
        stepper.logits(
            part.batch(np.arange(start, min(start + EVAL_ROWS, len(part.label_n))))
        ).cpu()
        for start in range(0, len(part.label_n), EVAL_ROWS)
    ]
    stepper.model.train()
    return torch.cat(found).numpy()
