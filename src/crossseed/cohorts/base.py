"""What the rest of the project asks of a cohort, whatever its kind.

A kind is a package under `crossseed.cohorts` with the modules

    config     a class derived from `CohortConfig`; light, since it is imported to plan
    tokens     make_tokens(spec) -> {split: TokenSet}, disjoint by sequence
    training   train(spec, *, device, code, anchor, out, curve, accuracy): one member
    members    load(path, cohort, seed, checkpoint, device) -> Member

Adding a kind adds such a package, and its config class to `crossseed.config.schema`; no
rule changes.
"""

from __future__ import annotations

import importlib
import re
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Protocol

import numpy as np
from pydantic import Field, field_validator, model_validator

from crossseed.config.fields import CountOrZero, Distinct, Model, NonEmpty

SPLITS = ("fit", "train", "eval")
CURVE_COLUMNS = ("cohort", "seed", "step", "learning_rate", "loss_nats", "gradient_norm")
ACCURACY_COLUMNS = ("cohort", "seed", "step", "distribution", "head", "accuracy", "n_tokens")


class CohortConfig(Model):
    """What every kind of cohort declares."""

    kind: str
    seeds: Annotated[
        list[CountOrZero],
        Distinct,
        Field(min_length=2, description="Seeds of the members, two at least."),
    ]
    anchor: CountOrZero = Field(
        description="The seed whose dictionaries are tried on the others and whose basis is "
        "the common frame."
    )
    checkpoints: Annotated[
        list[str],
        Distinct,
        NonEmpty,
        Field(description="Checkpoints studied: `final`, or `step` and a number that is kept."),
    ]
    sites: Annotated[
        list[str],
        Distinct,
        NonEmpty,
        Field(description="Residual-stream sites studied, under TransformerLens hook names."),
    ]

    @model_validator(mode="after")
    def _anchor_is_member(self) -> CohortConfig:
        if self.anchor not in self.seeds:
            raise ValueError(
                f"anchor {self.anchor} is not a member; choose one of the seeds {self.seeds}"
            )
        return self

    @field_validator("checkpoints")
    @classmethod
    def _checkpoint_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if name != "final" and not re.fullmatch(r"step[1-9]\d*", name):
                raise ValueError(f"{name!r} is no checkpoint; expected 'final' or e.g. 'step1000'")
        return value

    # What each verb needs to know of the cohort, as plain scalars; see `crossseed.specs`.

    @abstractmethod
    def tokens_spec(self) -> dict[str, Any]:
        """Leaves that decide the cohort's token sets."""

    @abstractmethod
    def training_spec(self, seed: int) -> dict[str, Any]:
        """Leaves that decide the weights of one member."""

    @abstractmethod
    def activation_spec(self) -> dict[str, Any]:
        """Leaves that decide how activations are stored."""

    @abstractmethod
    def report_spec(self) -> dict[str, Any]:
        """What the page says of the cohort: ``shared`` tensors and the training ``recipe``."""

    @abstractmethod
    def most_tokens(self, split: str) -> int | None:
        """An upper bound on the tokens of a split, where one is known before any job runs."""

    @property
    @abstractmethod
    def width(self) -> int | None:
        """Size of an activation vector, where it is known before a model is loaded."""

    @abstractmethod
    def needs_anchor(self, seed: int) -> bool:
        """Whether this seed starts from weights of the trained anchor."""


class TokenSet(NamedTuple):
    """Sequences of one split.

    Attributes:
        tokens_nt: token ids, shape (sequences, positions).
        keep_nt: True where an activation is read (not padding), same shape.
        labels: per-position labels by name, same shape.
    """

    tokens_nt: np.ndarray
    keep_nt: np.ndarray
    labels: dict[str, np.ndarray]


class Member(Protocol):
    """One loaded model.

    Attributes:
        digest: identifies its weights.
    """

    digest: str

    def activations(self, tokens_nt: np.ndarray, sites: list[str]) -> dict[str, np.ndarray]:
        """Float32 activations by site, each of shape (sequences, positions, width)."""

    def width(self, site: str) -> int:
        """Size of an activation vector at a site."""


def module_name(kind: str, part: str) -> str:
    """The module that does one part of a kind's work: ``tokens``, ``training`` or ``members``."""
    return f"crossseed.cohorts.{kind}.{part}"


def module_of(kind: str, part: str) -> Any:
    """That module, imported by name so that editing one kind reruns no cell of another."""
    return importlib.import_module(module_name(kind, part))


def batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))
