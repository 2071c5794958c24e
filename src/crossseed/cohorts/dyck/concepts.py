"""What toy models are steered by (arXiv 2605.24577, section on steering).

Vectors are differences of class means over the `train` split, scored on `eval`. The study mixed positions
whose depth is frozen by an earlier violation into two of its vectors; here they count where their
label is meant. The published measure is taken where the study takes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed.cohorts.base import Concept, Examples, Published, Subject, TokenSet, Trials, spread
from crossseed.cohorts.dyck import task
from crossseed.cohorts.dyck.interventions import DyckSubject
from crossseed.errors import UserError

# Sequences that the vectors are taken from, at most.
MOST_SEQUENCES = 1024
DEPTH = 4


class _View(NamedTuple):
    """Some sequences and their labels, each (sequences, positions)."""

    tokens: np.ndarray
    depth: np.ndarray
    invalid: np.ndarray

    def some(self, rows: np.ndarray, most: int) -> _View:
        """At most so many of some sequences, evenly spaced, without the padding that they share."""
        rows = rows[spread(len(rows), most)]
        tokens = self.tokens[rows]
        longest = int((tokens != task.PAD).any(axis=0).nonzero()[0][-1]) + 1
        return _View(*(part[rows, :longest] for part in self))

    @property
    def opener(self) -> np.ndarray:
        bracket = self.tokens >= task.FIRST_BRACKET
        found: np.ndarray = bracket & ((self.tokens - task.FIRST_BRACKET) % 2 == 0)
        return found

    @property
    def closer(self) -> np.ndarray:
        found: np.ndarray = (self.tokens >= task.FIRST_BRACKET) & ~self.opener
        return found

    @property
    def real(self) -> np.ndarray:
        found: np.ndarray = self.tokens != task.PAD
        return found


Where = Callable[[_View], np.ndarray]


class _Recipe(NamedTuple):
    """How a concept is made.

    Attributes:
        toward, away: positions whose means differ by the vector.
        trial: positions that are scored; what they should then predict is `intended`, not `old`.
        published: positions at which the study counts lost accuracy.
    """

    head: str
    toward: Where
    away: Where
    trial: Where
    intended: Where
    old: Where
    published: Where


def _at_depth(depth: int) -> Where:
    return lambda v: v.real & (v.depth == depth) & (v.invalid == 0)


RECIPES = {
    "depth_shift": _Recipe(
        "depth",
        toward=_at_depth(DEPTH + 1),
        away=_at_depth(DEPTH),
        trial=_at_depth(DEPTH),
        intended=lambda v: v.depth + 1,
        old=lambda v: v.depth,
        published=lambda v: v.real & (v.depth == DEPTH),
    ),
    "sticky_suppression": _Recipe(
        "valid",
        toward=_at_depth(DEPTH),
        away=lambda v: v.real & (v.depth == DEPTH) & (v.invalid == 1),
        trial=lambda v: v.real & (v.depth == DEPTH) & (v.invalid == 1),
        intended=lambda v: np.zeros_like(v.invalid),
        old=lambda v: v.invalid,
        published=lambda v: v.real & (v.depth == DEPTH) & (v.invalid == 1),
    ),
    "closer_signal": _Recipe(
        "tok",
        toward=lambda v: v.closer,
        away=lambda v: v.opener,
        trial=lambda v: v.opener,
        # The closer of the same family follows its opener in the vocabulary.
        intended=lambda v: v.tokens + 1,
        old=lambda v: v.tokens,
        published=lambda v: v.closer,
    ),
}
NAMES = tuple(RECIPES)


def make(
    spec: Mapping[str, Any],
    tokenizer: Sequence[Path],
    files: Sequence[Path],
    sets: Mapping[str, TokenSet],
) -> list[Concept]:
    """See `crossseed.cohorts.base`."""
    examples, held_out = _view(sets["train"]), _view(sets["eval"])
    examples = examples.some(np.arange(len(examples.tokens)), MOST_SEQUENCES)
    found = []
    for name in spec["concepts"]:
        recipe = RECIPES[name]
        # Sequences in which something is scored.
        scored = np.flatnonzero(recipe.trial(held_out).any(axis=1))
        if not len(scored):
            raise UserError(
                f"concept {name}: no sequence of tokens.eval has a position that scores it; draw more or "
                "longer ones, or leave the concept out of steering.concepts"
            )
        found.append(_concept(name, recipe, examples, held_out.some(scored, spec["trials"])))
    return found


def _view(found: TokenSet) -> _View:
    parts = (found.tokens_nt, found.labels["depth"], found.labels["valid"])
    return _View(*(part.astype(np.int64) for part in parts))


def _concept(name: str, recipe: _Recipe, examples: _View, trials: _View) -> Concept:

    def weighted(where: Where) -> Examples:
        chosen = where(examples).astype(np.float64)
        return Examples(examples.tokens, chosen / max(chosen.sum(), 1.0))

    at, at_published = recipe.trial(trials), recipe.published(trials)
    labels = {"tok": trials.tokens, "depth": trials.depth, "valid": trials.invalid}
    return Concept(
        name,
        weighted(recipe.toward),
        weighted(recipe.away),
        Trials(
            trials.tokens,
            at,
            recipe.head,
            recipe.intended(trials)[at][:, None],
            recipe.old(trials)[at][:, None],
        ),
        Published(at_published, labels[recipe.head][at_published]),
    )


def pinned(subject: Subject, shared: Sequence[str], width: int) -> np.ndarray:
    """Rows that span what all members have in common in the residual stream, (rows, width): the fixed
    positional table, and tensors that they share.

    Of embeddings, those of tokens in use; of unembeddings, differences of rows, since a softmax sees no
    more.
    """
    assert isinstance(subject, DyckSubject)
    tensors = {
        name: tensor.double().cpu().numpy() for name, tensor in subject.model.state_dict().items()
    }
    used = task.FIRST_BRACKET + task.N_BRACKETS
    rows = [tensors["W_pos"]]
    for name in shared:
        tensor = tensors[name][:used] if name in ("W_E", "W_U_tok") else tensors[name]
        rows.append(tensor if name == "W_E" else tensor[1:] - tensor[:1])
    return np.concatenate(rows)
