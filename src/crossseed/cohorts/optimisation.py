"""What training has in common, whichever models are trained here."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Fraction,
    Model,
    NotNegative,
    Positive,
)

BETAS = (0.9, 0.95)
CURVE_EVERY_STEPS = 50


class Optimisation(Model):
    """AdamW with warm-up and cosine, and what is kept and measured on the way."""

    steps: Count = Field(description="Optimiser steps, and the length of the cosine schedule.")
    batch_rows: Count = Field(description="Sequences a step.")
    peak_lr: Positive = Field(description="Peak learning rate of AdamW.")
    warmup_steps: CountOrZero = Field(description="Linear warm-up steps.")
    final_lr_fraction: Fraction = Field(description="End of the cosine, as a share of the peak.")
    weight_decay: NotNegative = Field(description="AdamW's decoupled weight decay.")
    grad_clip: Positive = Field(description="Largest global gradient norm.")
    precision: Literal["float32", "bfloat16"] = Field(
        description="Arithmetic of the forward pass; weights and optimiser stay in float32."
    )
    keep_steps: Annotated[list[CountOrZero], Distinct] = Field(
        description="Steps after which a checkpoint is kept, beside `final`; 0 keeps the "
        "untrained model."
    )
    eval_every_steps: Count = Field(description="Steps between evaluations on the way.")
    eval_rows: Count = Field(description="Held-out sequences per distribution an evaluation.")

    @model_validator(mode="after")
    def _within_steps(self) -> Optimisation:
        if self.warmup_steps > self.steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} exceeds steps {self.steps}")
        beyond = [step for step in self.keep_steps if step > self.steps]
        if beyond:
            raise ValueError(f"keep_steps {beyond} lie beyond the last step {self.steps}")
        return self


def learning_rate(step: int, training: Optimisation) -> float:
    """Linear warm-up, then cosine to the final fraction at the configured last step."""
    if step < training.warmup_steps:
        return training.peak_lr * step / training.warmup_steps
    progress = (step - training.warmup_steps) / max(1, training.steps - training.warmup_steps)
    low = training.final_lr_fraction
    return training.peak_lr * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))
