"""The training of one seed: its log, and the state on disk."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from crossseed.cohorts.base import CURVE_COLUMNS, QUALITY_COLUMNS
from crossseed.cohorts.classifier.settings import ClassifierTraining
from crossseed.cohorts.classifier.stepping import Stepper
from crossseed.cohorts.optimisation import CURVE_EVERY_STEPS
from crossseed.errors import TrainingDiverged
from crossseed.resume import Resume

PRETRAINING, FINETUNING = "pre-training", "fine-tuning"


class Job:
    """The training of one seed: its log, and the state on disk that both stages share."""

    def __init__(self, cell: Mapping[str, Any], recipe: ClassifierTraining, resume: Resume) -> None:
        self.cell, self.recipe, self.resume = cell, recipe, resume
        self.where = f"{cell['cohort']} seed {cell['seed']}"
        self.log: dict[str, Any] = {"step": 0, "stage": "", "curve": [], "quality": []}

    def note(self, stepper: Stepper, step: int, shown: int, steps: int, lr: float) -> None:
        """After a step: a row of the curve where one is due.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        if not math.isfinite(stepper.loss_sum):
            self.resume.discard()
            raise TrainingDiverged(
                f"{self.where}: the loss is not finite at step {shown}; lower the peak learning rate or "
                f"training.grad_clip ({self.recipe.grad_clip})"
            )
        if step % CURVE_EVERY_STEPS and step != steps:
            return
        loss = stepper.loss_sum / (step % CURVE_EVERY_STEPS or CURVE_EVERY_STEPS)
        stepper.loss_sum = 0.0
        row = (self.cell["cohort"], self.cell["seed"], shown, lr, loss, stepper.grad_norm)
        self.log["curve"].append(dict(zip(CURVE_COLUMNS, row, strict=True)))

    def measured(self, step: int, distribution: str, n: int, values: Mapping[str, float]) -> None:
        """Rows of quality; `n` sentences, or hidden words, are behind them."""
        for measure, value in values.items():
            row = (self.cell["cohort"], self.cell["seed"], step, distribution, measure, value, n)
            self.log["quality"].append(dict(zip(QUALITY_COLUMNS, row, strict=True)))

    def save(self, stepper: Stepper, more: Mapping[str, np.ndarray]) -> None:
        """Saves the state of `Stepper`, the log and more arrays, where a save is due."""
        if self.resume.due():
            self.resume.save(
                {**stepper.tensors(), **more}, {**self.log, "loss_sum": stepper.loss_sum}
            )
