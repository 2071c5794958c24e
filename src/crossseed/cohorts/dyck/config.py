"""Configuration of toy cohorts."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from crossseed.cohorts.base import SPLITS, CohortConfig
from crossseed.cohorts.dyck import sites, task
from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Fraction,
    Model,
    NotNegative,
    Positive,
)

Shareable = Literal["W_E", "W_U_tok", "W_U_depth", "W_U_valid"]
Range = Annotated[list[CountOrZero], Field(min_length=2, max_length=2)]


def _lengths(value: list[int]) -> list[int]:
    low, high = value
    if not 1 <= low <= high <= task.MAX_CONTENT:
        raise ValueError(f"expected [low, high] with 1 <= low <= high <= {task.MAX_CONTENT}")
    return value


class Stop(Model):
    """When training may end before its last step."""

    accuracy: Fraction = Field(
        description="Training may end once the smallest accuracy over heads and "
        "distributions has reached this value at an evaluation."
    )
    patience_steps: CountOrZero = Field(
        description="Further steps after that; training never ends before the last kept step."
    )


class Training(Model):
    """How each model is trained."""

    steps: Count = Field(description="Optimiser steps, and the length of the cosine schedule.")
    batch_rows: Count = Field(description="Sequences a step.")
    pool_rows: Count = Field(
        description="Sequences drawn at a time, sorted by length into batches of near-equal "
        "length, and trained on once."
    )
    lengths: Range = Field(description="Smallest and largest content length trained on.")
    short_first_steps: CountOrZero = Field(
        description="Steps over which the largest content length grows from the smallest to "
        "the full one; 0 trains on all lengths from the start (as published)."
    )
    peak_lr: Positive = Field(description="Peak learning rate of AdamW.")
    warmup_steps: CountOrZero = Field(description="Linear warm-up steps.")
    final_lr_fraction: Fraction = Field(description="End of the cosine, as a share of the peak.")
    weight_decay: NotNegative = Field(description="AdamW's decoupled weight decay.")
    grad_clip: Positive = Field(description="Largest global gradient norm.")
    precision: Literal["float32", "bfloat16"] = Field(
        description="Arithmetic of the forward pass; weights and optimiser stay in float32."
    )
    keep_steps: Annotated[list[Count], Distinct] = Field(
        description="Steps after which a checkpoint is kept, beside `final`."
    )
    eval_every_steps: Count = Field(description="Steps between evaluations on the way.")
    eval_rows: Count = Field(description="Held-out sequences per distribution an evaluation.")
    stop: Stop | None = Field(description="Early stop, or null for none.")

    _ = field_validator("lengths")(_lengths)

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        for name in ("warmup_steps", "short_first_steps"):
            if getattr(self, name) > self.steps:
                raise ValueError(f"{name} {getattr(self, name)} exceeds steps {self.steps}")
        if self.pool_rows < self.batch_rows:
            raise ValueError(
                f"pool_rows {self.pool_rows} is smaller than batch_rows {self.batch_rows}; "
                "a pool must hold a batch at least"
            )
        beyond = [step for step in self.keep_steps if step > self.steps]
        if beyond:
            raise ValueError(f"keep_steps {beyond} lie beyond the last step {self.steps}")
        return self


class Tokens(Model):
    """The sequences on which activations are read."""

    seed: CountOrZero = Field(description="Seed of the sequences, common to all members.")
    sequences: Count = Field(description="Distinct sequences drawn.")
    lengths: Range = Field(description="Smallest and largest content length.")
    fit: Range = Field(description="[first, end) of the sequences that rotations are fitted on.")
    train: Range = Field(description="[first, end) of the sequences that SAEs are trained on.")
    eval: Range = Field(description="[first, end) of the sequences behind every reported number.")

    _ = field_validator("lengths")(_lengths)

    @model_validator(mode="after")
    def _splits(self) -> Tokens:
        ranges = {name: getattr(self, name) for name in SPLITS}
        for name, (first, end) in ranges.items():
            if first >= end:
                raise ValueError(f"split {name} = [{first}, {end}] is empty; end must exceed first")
            if end > self.sequences:
                raise ValueError(
                    f"split {name} = [{first}, {end}] asks for more than the {self.sequences} "
                    "sequences there are; raise `sequences` or lower the end"
                )
        ordered = sorted(ranges.items(), key=lambda item: item[1])
        for (one, (_, end)), (other, (first, _)) in itertools.pairwise(ordered):
            if first < end:
                raise ValueError(
                    f"splits {one} = {ranges[one]} and {other} = {ranges[other]} overlap; every "
                    "number reported must come from sequences nothing was fitted on"
                )
        low, high = self.lengths
        exist = task.n_distinct((low, high))
        if 2 * self.sequences > exist:
            raise ValueError(
                f"sequences = {self.sequences}, but only {exist} distinct ones of length {low} "
                f"to {high} exist and at most half may be asked for; allow longer ones"
            )
        return self


class DyckCohort(CohortConfig):
    """A cohort of Dyck-3 transformers, trained here."""

    kind: Literal["dyck"] = Field(description="`dyck`: toy transformers trained by the run.")
    share: Annotated[list[Shareable], Distinct] = Field(
        description="Tensors that every other seed copies from the trained anchor and keeps "
        "frozen; an empty list trains all seeds independently."
    )
    training: Training
    tokens: Tokens
    activation_dtype: Literal["float32", "float16"] = Field(
        description="Floating-point type of stored activations."
    )

    @field_validator("sites")
    @classmethod
    def _known_sites(cls, value: list[str]) -> list[str]:
        for site in value:
            if site in sites.ALIASES:
                raise ValueError(
                    f"{site!r} is the same tensor as {sites.ALIASES[site]!r}; use that name"
                )
            if site not in sites.SITES:
                raise ValueError(f"{site!r} does not exist; expected some of {list(sites.SITES)}")
        return value

    @model_validator(mode="after")
    def _checkpoints_kept(self) -> DyckCohort:
        for name in self.checkpoints:
            if name != "final" and int(name[4:]) not in self.training.keep_steps:
                raise ValueError(
                    f"checkpoint {name!r} is not kept; add {int(name[4:])} to training.keep_steps"
                )
        return self

    def needs_anchor(self, seed: int) -> bool:
        return bool(self.share) and seed != self.anchor

    def tokens_spec(self) -> dict[str, Any]:
        return self.tokens.model_dump()

    def training_spec(self, seed: int) -> dict[str, Any]:
        share = sorted(self.share) if self.needs_anchor(seed) else []
        return {"seed": seed, "share": share, "training": self.training.model_dump()}

    def activation_spec(self) -> dict[str, Any]:
        return {"dtype": self.activation_dtype}

    def report_spec(self) -> dict[str, Any]:
        return {"shared": sorted(self.share), "recipe": self.training.model_dump()}

    def most_tokens(self, split: str) -> int:
        first, end = getattr(self.tokens, split)
        return int((end - first) * (self.tokens.lengths[1] + 2))

    @property
    def width(self) -> int:
        return sites.D_MODEL
