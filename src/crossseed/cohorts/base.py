"""What the rest of the project asks of a cohort, whatever its kind.

A kind is a package under `crossseed.cohorts` with the modules

    tokenizer  make(spec, out, data); only where the run makes one
    check      check(spec, members, out); only where models lie outside the run
    config     a class derived from `crossseed.cohorts.config.CohortConfig`; light, since it is imported to plan
    tokens     make_tokens(spec, inputs, data) -> ({split: TokenSet}, what was used), disjoint splits
    members    load(spec, paths, sites, device) -> Member
    interventions  load(spec, paths, device) -> Subject
    upper      load(spec, paths, site, device) -> a model cut after a block (`crossseed.joint.upper.Upper`), which
               also gives `clean(tokens, at)` passes, `scored(TokenSet, predictions, *name)`, and what models of
               a pair have `alike`; only where SAEs are trained through the models
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

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from crossseed.starting import imported

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("fit", "train", "eval")
# Sequences, in the token files of cohorts that have them, on which early stopping decides.
DEVELOPMENT = "development"
CURVE_COLUMNS = ("cohort", "seed", "step", "learning_rate", "loss_nats", "gradient_norm")
QUALITY_COLUMNS = ("cohort", "seed", "step", "distribution", "measure", "value", "n_tokens")
FINAL = "final"
# Tokens that a model is run on at once.
FORWARD_TOKENS = 4096


def step_of(checkpoint: str) -> int | None:
    """The training step of a checkpoint's name; None for `final`."""
    return None if checkpoint == FINAL else int(checkpoint.removeprefix("step"))


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

    @property
    def digest(self) -> str: ...

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
    return imported(module_name(kind, part))


def spread(n: int, wanted: int) -> np.ndarray:
    """Numbers of `wanted` of n sequences, or of all, evenly spaced, (wanted,)."""
    return np.unique(np.linspace(0, n - 1, min(wanted, n)).astype(int))


def batches(n: int, size: int) -> Iterator[slice]:
    """Slices of n rows, `size` at a time."""
    for start in range(0, n, size):
        yield slice(start, min(n, start + size))
