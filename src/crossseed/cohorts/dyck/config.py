"""Configuration of toy cohorts."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from crossseed.cohorts.base import SPLITS, step_of
from crossseed.cohorts.config import CohortConfig
from crossseed.cohorts.dyck import sites, task
from crossseed.cohorts.optimisation import Optimisation
from crossseed.config.fields import (
    Count,
    CountOrZero,
    Distinct,
    Fraction,
    Model,
    Sequences,
)
from crossseed.layout import MODEL

# One file holds all checkpoints of a seed.
CHECKPOINTS = f"{MODEL}/checkpoints.safetensors"
CHECKPOINTS_SCHEMA = "dyck-checkpoints/1"
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


class Training(Optimisation):
    """How each model is trained."""

    pool_rows: Count = Field(
        description="Sequences drawn at a time, sorted by length into batches of near-equal "
        "length, and trained on once."
    )
    lengths: Range = Field(description="Smallest and largest content length trained on.")
    short_first_steps: CountOrZero = Field(
        description="Steps over which the largest content length grows from the smallest to "
        "the full one; 0 trains on all lengths from the start (as published)."
    )
    stop: Stop | None = Field(description="Early stop, or null for none.")

    _ = field_validator("lengths")(_lengths)

    @model_validator(mode="after")
    def _consistent(self) -> Training:
        if self.short_first_steps > self.steps:
            raise ValueError(
                f"short_first_steps {self.short_first_steps} exceeds steps {self.steps}"
            )
        if self.pool_rows < self.batch_rows:
            raise ValueError(
                f"pool_rows {self.pool_rows} is smaller than batch_rows {self.batch_rows}; "
                "a pool must hold a batch at least"
            )
        return self


class Tokens(Model):
    """The sequences on which activations are read."""

    seed: CountOrZero = Field(description="Seed of the sequences, common to all members.")
    sequences: Sequences = Field(description="Distinct sequences drawn.")
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
        missing = self.missing_checkpoints(self.checkpoints)
        if missing:
            raise ValueError(
                f"checkpoint {missing[0]!r} is not kept; add {step_of(missing[0])} to "
                "training.keep_steps"
            )
        return self

    def missing_checkpoints(self, names: Sequence[str]) -> list[str]:
        kept = {None, *self.training.keep_steps}
        return [name for name in names if step_of(name) not in kept]

    @property
    def shared_tensors(self) -> list[str]:
        return sorted(self.share)

    @property
    def symmetric(self) -> bool:
        return True

    def fresh_spec(self) -> dict[str, Any]:
        return {"lengths": list(self.tokens.lengths)}

    def needs_anchor(self, seed: int) -> bool:
        return bool(self.share) and seed != self.anchor

    def tokens_spec(self) -> dict[str, Any]:
        return self.tokens.model_dump()

    def training_spec(self, seed: int) -> dict[str, Any]:
        share = sorted(self.share) if self.needs_anchor(seed) else []
        return {"seed": seed, "share": share, "training": self.training.model_dump()}

    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        return {"dtype": self.activation_dtype}

    @property
    def forward_flop_per_token(self) -> float:
        return 2.0 * sites.N_PARAMETERS

    @property
    def parameters(self) -> int:
        return sites.N_PARAMETERS

    @property
    def kept_checkpoints(self) -> int:
        return len(self.training.keep_steps) + 1

    @property
    def training_steps(self) -> int:
        return self.training.steps

    @property
    def training_flop(self) -> float:
        rows = self.training.steps * self.training.batch_rows
        return 3 * self.forward_flop_per_token * rows * sum(self.training.lengths) / 2

    @property
    def trained_files(self) -> list[str]:
        return [CHECKPOINTS]

    @property
    def member_files(self) -> list[str]:
        return [CHECKPOINTS]

    def report_spec(self) -> dict[str, Any]:
        return {"shared": sorted(self.share), "recipe": self.training.model_dump()}

    def sequences_of(self, split: str) -> int:
        first, end = getattr(self.tokens, split)
        return int(end - first)

    def most_tokens(self, split: str) -> int:
        return self.sequences_of(split) * (self.tokens.lengths[1] + 2)

    @property
    def classes(self) -> int:
        return task.VOCAB + task.N_DEPTHS + 2

    @property
    def width(self) -> int:
        return sites.D_MODEL
