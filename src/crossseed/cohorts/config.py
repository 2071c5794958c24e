"""What every kind of cohort declares, and what the rest of the project asks of its configuration."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from crossseed.cohorts.base import FINAL
from crossseed.config.fields import CountOrZero, Distinct, Model, NonEmpty

# That one range may stand for.
MOST_CHECKPOINTS = 100_000
RANGE = re.compile(r"step(\d+) to step(\d+) by (\d+)")


def expand_checkpoints(value: Any) -> Any:
    """Checkpoint names from a list in which ``step1000 to step9000 by 1000`` stands for nine.

    Raises:
        ValueError: steps do not lead from the first to the last, or there are more than `MOST_CHECKPOINTS`.
    """
    if not isinstance(value, list):
        return value
    found: list[Any] = []
    for name in value:
        steps = RANGE.fullmatch(name) if isinstance(name, str) else None
        if steps is None:
            found.append(name)
            continue
        first, last, by = map(int, steps.groups())
        if by == 0 or last < first or (last - first) % by:
            raise ValueError(
                f"{name!r} does not lead from the first step to the last; expected e.g. "
                "'step1000 to step9000 by 1000'"
            )
        if (last - first) // by >= MOST_CHECKPOINTS:
            raise ValueError(
                f"{name!r} stands for {(last - first) // by + 1:,} checkpoints, expected {MOST_CHECKPOINTS:,} at most; take "
                "larger steps"
            )
        found += [f"step{step}" for step in range(first, last + 1, by)]
    return found


def _checkpoint_names(names: list[str]) -> list[str]:
    for name in names:
        if name != FINAL and not re.fullmatch(r"step(0|[1-9]\d*)", name):
            raise ValueError(
                f"{name!r} is no checkpoint; expected 'final', e.g. 'step1000', or "
                "'step1000 to step9000 by 1000'"
            )
    return names


Checkpoints = Annotated[
    list[str],
    BeforeValidator(expand_checkpoints),
    AfterValidator(_checkpoint_names),
    Distinct,
    NonEmpty,
]
Checkpoint = Annotated[str, AfterValidator(lambda name: _checkpoint_names([name])[0])]


class CohortConfig(Model):
    """What every kind of cohort declares."""

    kind: str
    seeds: Annotated[
        list[CountOrZero],
        Distinct,
        NonEmpty,
        Field(description="Seeds of the members; studies of pairs need two."),
    ]
    anchor: CountOrZero = Field(
        description="The seed whose dictionaries are tried on the others and whose basis is "
        "the common frame."
    )
    checkpoints: Annotated[
        Checkpoints,
        Field(
            description="Checkpoints whose activations are stored and studied: `final`, `step` "
            "and a number, or `step1000 to step9000 by 1000`."
        ),
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

    activation_dtype: Literal["float32", "float16"] = Field(
        description="Floating-point type of stored activations."
    )

    # What each verb needs to know of the cohort, as plain scalars; see `crossseed.specs`.

    @abstractmethod
    def tokens_spec(self) -> dict[str, Any]:
        """Leaves that decide the cohort's token sets."""

    def training_spec(self, seed: int) -> dict[str, Any]:
        """Leaves that decide the weights of one seed; only for models that the run trains.

        Raises:
            ValueError: the run does not train this kind.
        """
        raise ValueError(f"cohorts of kind {self.kind} are not trained here")

    def tokenizer_spec(self) -> dict[str, Any]:
        """Leaves that decide the tokenizer; only where the run makes one.

        Raises:
            ValueError: the run makes no tokenizer for this kind.
        """
        raise ValueError(f"cohorts of kind {self.kind} make no tokenizer")

    def check_spec(self) -> dict[str, Any]:
        """What members must agree with; only where they lie outside the run.

        Raises:
            ValueError: the run does not check members of this kind.
        """
        raise ValueError(f"cohorts of kind {self.kind} are not checked")

    def id_of(self, seed: int, checkpoint: str) -> str:
        """Under which name a member lies outside the run.

        Raises:
            ValueError: members of this kind do not lie outside the run.
        """
        raise ValueError(f"cohorts of kind {self.kind} are not checked")

    @abstractmethod
    def reading_spec(self, seed: int, checkpoint: str) -> dict[str, Any]:
        """Leaves that decide what activations a member gives, beside its weights."""

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
    def sequences_of(self, split: str) -> int:
        """Sequences of a split."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Classes that a model predicts among, all heads together; at most, where it is not known."""

    def missing_checkpoints(self, names: Sequence[str]) -> list[str]:
        """Those of some checkpoints that the cohort is known not to have."""
        return []

    @property
    def shared_tensors(self) -> list[str]:
        """Tensors that all members have in common."""
        return []

    @property
    def reads_text(self) -> bool:
        """Whether the members read text, by a tokenizer."""
        return False

    @property
    def why_not_resumed(self) -> str | None:
        """Why members cannot be run with other activations at one place; None if they can."""
        return None

    @property
    def why_not_steered(self) -> str | None:
        """Why members cannot be steered; None if they can."""
        return None

    @property
    def why_not_trained_through(self) -> str | None:
        """Why no SAE can be trained through members; None if one can."""
        return f"is of kind {self.kind}, whose members are not cut into what lies below a site and above"

    def why_not_cut(self, site: str) -> str | None:
        """Why members cannot be cut at a site of theirs; None if they can."""
        return None

    @property
    def predicts_positions(self) -> bool:
        """Whether members predict something at each position, and not one class of a whole sequence."""
        return True

    @property
    def has_development(self) -> bool:
        """Whether the token file has sequences of `DEVELOPMENT` beside the splits."""
        return False

    @property
    def kinship(self) -> dict[str, str]:
        """``data`` and ``kind_of_seed``: what members were trained on, and what their seeds decide."""
        return {"data": "", "kind_of_seed": "pretrain"}

    @property
    def symmetric(self) -> bool:
        """Whether the symmetries of the members' weights are known here, so that they can be aligned."""
        return False

    def fresh_spec(self) -> dict[str, Any]:
        """What fresh sequences are drawn by; only where members are `symmetric`.

        Raises:
            ValueError: this kind has no sampler.
        """
        raise ValueError(f"cohorts of kind {self.kind} have no sampler")

    def text_spec(self) -> dict[str, Any]:
        """Which tokenizer reads prompts, where the run makes none for the cohort."""
        return {}

    def sentences_spec(self) -> dict[str, Any]:
        """How sentences become tokens and which ``classes`` they have; only where whole sentences are classified.

        Raises:
            ValueError: this kind does not classify sentences.
        """
        raise ValueError(f"cohorts of kind {self.kind} do not classify sentences")

    def needs_anchor(self, seed: int) -> bool:
        """Whether this seed starts from weights of the trained anchor."""
        return False

    # What members take, for `crossseed.estimate`.

    @property
    @abstractmethod
    def forward_flop_per_token(self) -> float:
        """Arithmetic of a forward pass through the blocks, per token."""

    @property
    def parameters(self) -> int:
        """Parameters of a model that the run trains."""
        return 0

    @property
    def kept_checkpoints(self) -> int:
        """Checkpoints kept of a model that the run trains."""
        return 0

    @property
    def training_steps(self) -> int:
        """Optimiser steps of training one model."""
        return 0

    @property
    def training_flop(self) -> float:
        """Arithmetic of training one model."""
        return 0.0

    # Where files lie, as templates over ``{cohort}``, ``{seed}`` and ``{checkpoint}``.

    @property
    def trained_files(self) -> list[str]:
        """Files of one seed's weights that its training makes; none if the run trains none."""
        return []

    @property
    def resource_files(self) -> list[str]:
        """Files of `resources/` that token sets, tokenizer and training are made from."""
        return []

    @property
    def tokenizer_files(self) -> list[str]:
        """Files of a tokenizer that the run makes for the cohort."""
        return []

    @property
    def member_files(self) -> list[str]:
        """Files that a member is loaded from."""
        return []

    @property
    def downloaded(self) -> bool:
        """Whether the members come from the hub."""
        return False

    @property
    def device_map(self) -> str | None:
        """How a member is spread over devices; None for one device."""
        return None

    @property
    def loaded_bytes(self) -> int:
        """Bytes of the weights of a member, as they are loaded to be read."""
        return 0

    @property
    def checked(self) -> bool:
        """Whether the members lie outside the run, and so are checked before any job needs them."""
        return False
