"""What the rest of the project asks of a cohort, whatever its kind.

A kind is a package under `crossseed.cohorts` with the modules

    tokenizer  make(spec, out, data); only where the run makes one
    check      check(spec, members, out); only where models lie outside the run
    config     a class derived from `CohortConfig`; light, since it is imported to plan
    tokens     make_tokens(spec, inputs, data) -> ({split: TokenSet}, what was used), disjoint splits
    members    load(spec, paths, sites, device) -> Member
    interventions  load(spec, paths, device) -> Subject
    upper      load(spec, paths, site, device) -> a model cut after a block (`crossseed.joint.upper.Upper`), which
               also gives `clean(tokens, at)` passes and `scored(TokenSet, predictions, *name)`;
               check_pair(first, second); only where SAEs are trained through the models
    concepts   make(spec, tokenizer, files, token sets) -> [Concept]; pinned(subject, shared, width) ->
               rows that span what shared weights fix of the residual stream
    words      make(spec, tokenizer) -> Words: the text of token ids
    training   train(spec, *, device, code, anchor, inputs, data, out, curve, quality): one member;
               only where the run trains the models

`data` are the cohort's `resource_files`; kinds that have none take no such argument.

Adding a kind adds such a package, and its config class to `crossseed.config.schema`; no
rule changes.
"""

from __future__ import annotations

import importlib
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Protocol

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from crossseed.config.fields import CountOrZero, Distinct, Model, NonEmpty

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("fit", "train", "eval")
# Sequences, in the token files of cohorts that have them, on which early stopping decides.
DEVELOPMENT = "development"
CURVE_COLUMNS = ("cohort", "seed", "step", "learning_rate", "loss_nats", "gradient_norm")
QUALITY_COLUMNS = ("cohort", "seed", "step", "distribution", "measure", "value", "n_tokens")
FINAL = "final"
# What names a member, and one on the way to another, in tables.
MEMBER = ("cohort", "seed", "checkpoint")
JOURNEY = ("cohort", "source_seed", "target_seed", "checkpoint")
# Tokens that a model is run on at once.
FORWARD_TOKENS = 4096
# That one range may stand for.
MOST_CHECKPOINTS = 100_000
RANGE = re.compile(r"step(\d+) to step(\d+) by (\d+)")


def expand_checkpoints(value: Any) -> Any:
    """Checkpoint names from a list in which ``step1000 to step9000 by 1000`` stands for nine."""
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


def step_of(checkpoint: str) -> int | None:
    """The training step of a checkpoint's name; None for `final`."""
    return None if checkpoint == FINAL else int(checkpoint.removeprefix("step"))


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
        """Leaves that decide the weights of one seed; only for models that the run trains."""
        raise ValueError(f"cohorts of kind {self.kind} are not trained here")

    def tokenizer_spec(self) -> dict[str, Any]:
        """Leaves that decide the tokenizer; only where the run makes one."""
        raise ValueError(f"cohorts of kind {self.kind} make no tokenizer")

    def check_spec(self) -> dict[str, Any]:
        """What members must agree with; only where they lie outside the run."""
        raise ValueError(f"cohorts of kind {self.kind} are not checked")

    def id_of(self, seed: int, checkpoint: str) -> str:
        """Under which name a member lies outside the run."""
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
        """What fresh sequences are drawn by; only where members are `symmetric`."""
        raise ValueError(f"cohorts of kind {self.kind} have no sampler")

    def text_spec(self) -> dict[str, Any]:
        """Which tokenizer reads prompts, where the run makes none for the cohort."""
        return {}

    def sentences_spec(self) -> dict[str, Any]:
        """How sentences become tokens and which ``classes`` they have; only where whole sentences are classified."""
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


class TokenSet(NamedTuple):
    """Sequences of one split.

    Attributes:
        tokens_nt: token ids, shape (sequences, positions).
        keep_nt: True where an activation is read (not padding), same shape.
        labels: per-position labels by name, same shape.
        document_n: number of the document in which each sequence starts, non-decreasing. What is
            independent of what else: halves and bootstrap units hold whole documents. Sequences
            made one by one are their own documents.
    """

    tokens_nt: np.ndarray
    keep_nt: np.ndarray
    labels: dict[str, np.ndarray]
    document_n: np.ndarray


class Scored(NamedTuple):
    """Sequences, and the predictions on them that are scored.

    Attributes:
        tokens_nt: token ids, (sequences, positions). mask_nt: True where there is a token, False at padding.
        special_nt: True at tokens that are not studied unless they are asked for.
        label: right class of each sequence, or of each prediction, (sequences,) or (sequences, predictions).
        at_np: positions of the predictions, (sequences, predictions); None where a whole sequence is classified.
        document_n: see `TokenSet`.
    """

    tokens_nt: np.ndarray
    mask_nt: np.ndarray
    special_nt: np.ndarray
    label: np.ndarray
    at_np: np.ndarray | None
    document_n: np.ndarray


class Member(Protocol):
    """One loaded model.

    Attributes:
        digest: identifies its weights.
    """

    digest: str

    def activations(self, tokens_nt: np.ndarray, sites: list[str]) -> dict[str, np.ndarray]:
        """Float32 activations by site, each of shape (sequences, positions, width)."""

    def activations_on_device(self, tokens_nt: np.ndarray, sites: list[str]) -> dict[str, Tensor]:
        """The same as tensors, where the model computes."""

    def width(self, site: str) -> int:
        """Size of an activation vector at a site."""


class Examples(NamedTuple):
    """Where a class is seen.

    Attributes:
        tokens_nt: sequences. weight_nt: of each position in the mean of the class; sums to 1, or to 0
            where the class is never seen.
    """

    tokens_nt: np.ndarray
    weight_nt: np.ndarray


class Trials(NamedTuple):
    """Where steering is scored.

    Attributes:
        tokens_nt: sequences. at_nt: True where a prediction is scored.
        head: whose prediction.
        intended, old: classes that steering should move the prediction to, and away from, each
            (scored positions, how many count alike).
    """

    tokens_nt: np.ndarray
    at_nt: np.ndarray
    head: str
    intended: np.ndarray
    old: np.ndarray


class Published(NamedTuple):
    """Where the study that is reproduced counts lost accuracy: positions of the trials' sequences, and the
    right class at each; nowhere for language models."""

    at_nt: np.ndarray
    label_n: np.ndarray


# Token ids to the text of each.
Words = Callable[[Sequence[int]], list[str]]


class Concept(NamedTuple):
    """Something that a model is steered by: the mean of one class less that of another."""

    name: str
    toward: Examples
    away: Examples
    trials: Trials
    published: Published


class Start(Protocol):
    """A forward pass up to one place, to be gone on with from there as often as one likes.

    Attributes:
        value_ntd: the model's own activations at the place, (sequences, positions, width), float32
            or what the model computes in.
    """

    value_ntd: Tensor

    def logits(self, value: Tensor, at_nt: np.ndarray | None = None) -> list[Tensor]:
        """What the model predicts with `value` at the place; differentiable in it.

        Args:
            value: (k · sequences, positions, width): k changes, each of all sequences.
            at_nt: where predictions are wanted, (sequences, positions); None for everywhere.

        Returns:
            Of each head, float32 logits of shape (k · sequences, positions, classes), or
            (k, wanted, classes) with the wanted positions in the order of the sequences.
        """


class Subject(Protocol):
    """One whole model, run with other activations at one place: a site, or a component.

    Attributes:
        heads: names of what it predicts.
        components: places by kind: ``head``, ``mlp``, and for language models ``block`` (what a block
            adds to the residual stream) and ``residual`` (all of it after a block); each in the order of
            the forward pass. The value of an attention head is what it reads, before its output matrix.
    """

    heads: tuple[str, ...]
    components: dict[str, list[str]]

    def start(self, tokens_nt: np.ndarray, place: str) -> Start:
        """A forward pass up to a place.

        Raises:
            UserError: the model has no such place.
        """

    def targets(self, tokens_nt: np.ndarray, labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The class that each head should predict, (sequences, positions); −1 where none is."""


def module_name(kind: str, part: str) -> str:
    """The module that does one part of a kind's work, such as ``tokens`` or ``members``."""
    return f"crossseed.cohorts.{kind}.{part}"


def module_of(kind: str, part: str) -> Any:
    """That module, imported by name so that editing one kind reruns no cell of another."""
    return importlib.import_module(module_name(kind, part))


def spread(n: int, wanted: int) -> np.ndarray:
    """Numbers of `wanted` of n sequences, or of all, evenly spaced."""
    return np.unique(np.linspace(0, n - 1, min(wanted, n)).astype(int))


def batches(n: int, size: int) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))
