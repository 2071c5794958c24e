"""Contrastive prompts that people write, and the concepts that language models are steered by.

A file of `resources/prompts/` says in words what it is about, from what prompts the steering vector is
taken (``vector``), on which others it is scored (``trials``), and which words count as a move towards
the one class or the other (``targets``).
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from crossseed.cohorts.base import Concept, Examples, Published, Subject, Trials
from crossseed.config import documents
from crossseed.config.fields import Distinct, Model, NonEmpty
from crossseed.errors import UserError
from crossseed.seeding import generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Distinct prompts a class, at least: fewer would make a vector of their fillers.
LEAST = 40
# Prompts that one template makes of a class, at most.
MOST = 100_000
Words = Annotated[list[Annotated[str, NonEmpty]], Distinct, NonEmpty]


class PromptSet(Model):
    """Prompts from templates: every template with every combination of its fillers."""

    templates: Words
    fillers: dict[str, Words]
    classes: dict[str, dict[str, Words]] = Field(description="More fillers, of each class its own.")


class PromptFile(Model):
    """One file."""

    question: str
    read: Literal["mean", "last"]
    toward: str
    away: str
    targets: dict[str, Words]
    vector: PromptSet
    trials: PromptSet


class Prompts(NamedTuple):
    """A file filled in.

    Attributes:
        file: what it says.
        vector, trials: prompts by class, in the order of the templates.
    """

    name: str
    file: PromptFile
    vector: dict[str, list[str]]
    trials: dict[str, list[str]]


def read(path: Path) -> Prompts:
    """The prompts of a file, checked.

    Raises:
        UserError: not YAML or not of this form; a class is missing, has fewer than `LEAST` distinct
            prompts, or shares one with another class or the other split; the splits share a template or
            a filler; a placeholder has no filler.
    """
    try:
        file = PromptFile.model_validate(documents.plain(documents.read(path), str(path)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise UserError(f"{path}: {where}: {first['msg']}; see resources/prompts/") from error
    classes = (file.toward, file.away)
    for where, named in (
        ("targets", file.targets),
        ("vector.classes", file.vector.classes),
        ("trials.classes", file.trials.classes),
    ):
        if set(named) != set(classes):
            raise UserError(
                f"{path}: {where} has {', '.join(named) or 'no class'}, expected {file.toward} and "
                f"{file.away}, the classes of `toward` and `away`"
            )
    _check_held_out(path, file)
    filled = {
        split: {name: _filled(path, split, prompts, name) for name in classes}
        for split, prompts in (("vector", file.vector), ("trials", file.trials))
    }
    seen: dict[str, str] = {}
    for split, by_class in filled.items():
        for name, prompts in by_class.items():
            for prompt in prompts:
                if prompt in seen:
                    raise UserError(
                        f"{path}: {prompt!r} stands under {seen[prompt]} and under {split}.{name}; what "
                        "scores a vector must not have made it, and classes must differ"
                    )
                seen[prompt] = f"{split}.{name}"
            if len(prompts) < LEAST:
                raise UserError(
                    f"{path}: {split} has {len(prompts)} distinct prompts of {name}, expected at "
                    f"least {LEAST}; add fillers or templates"
                )
    return Prompts(Path(path).stem, file, **filled)


def _check_held_out(path: Path, file: PromptFile) -> None:
    """Refuses templates, and fillers that are not of a class, that stand in both splits."""
    vector, trials = file.vector, file.trials
    both = [("template", set(vector.templates) & set(trials.templates))]
    for name in set(vector.fillers) & set(trials.fillers):
        both.append((f"filler of {name}", set(vector.fillers[name]) & set(trials.fillers[name])))
    for what, common in both:
        if common:
            raise UserError(
                f"{path}: {sorted(common)[0]!r} is a {what} of both vector and trials; what scores a vector must "
                "not have made it"
            )


def _filled(path: Path, split: str, prompts: PromptSet, name: str) -> list[str]:
    fillers = {**prompts.fillers, **prompts.classes[name]}
    found = []
    for template in prompts.templates:
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise UserError(
                f"{path}: {split}: {template!r} is no template ({error}); write {{name}} for a filler, and "
                "{{ for a brace"
            ) from error
        wanted = [field for _, field, _, _ in parts if field is not None]
        if any(form or turned for _, field, form, turned in parts if field is not None):
            raise UserError(
                f"{path}: {split}: {template!r} formats a filler; write {{name}} alone, without : or !"
            )
        missing = sorted(set(wanted) - set(fillers))
        if missing:
            raise UserError(
                f"{path}: {split}: {template!r} names {{{missing[0]}}}, which has no filler for {name}"
            )
        names = list(dict.fromkeys(wanted))
        n = math.prod(len(fillers[field]) for field in names)
        if n > MOST:
            raise UserError(
                f"{path}: {split}: {template!r} makes {n:,} prompts of {name}, expected {MOST:,} at most; take fewer "
                "fillers"
            )
        for values in itertools.product(*(fillers[field] for field in names)):
            found.append(template.format(**dict(zip(names, values, strict=True))))
    return list(dict.fromkeys(found))


def concept(prompts: Prompts, tokenizer: PreTrainedTokenizerBase, trials: int) -> Concept:
    """What steers a language model by these prompts.

    Args:
        prompts: from `read`.
        tokenizer: of the models.
        trials: prompts a class that score it, drawn by the name of the file.

    Raises:
        UserError: the words of a class go on as those of the other for this tokenizer.
    """
    file = prompts.file
    classes = (file.toward, file.away)
    words = {
        name: [tokenizer.encode(word, add_special_tokens=False) for word in file.targets[name]]
        for name in classes
    }
    # Where all begin alike, such as with a token of the space alone, trials go on by that.
    steps = zip(*(ids[:-1] for found in words.values() for ids in found), strict=False)
    begun = [step[0] for step in itertools.takewhile(lambda step: len(set(step)) == 1, steps)]
    first = {name: [ids[len(begun)] for ids in found] for name, found in words.items()}
    common = set(first[file.toward]) & set(first[file.away])
    targets = {name: sorted(set(tokens) - common) for name, tokens in first.items()}
    for name, tokens in targets.items():
        if not tokens:
            raise UserError(
                f"concept {prompts.name}: the tokenizer begins every target of {name} as it begins one of the "
                "other class, so no move towards it can be seen; add other words to its targets"
            )
    rng = generator("trials", prompts.name)
    chosen = []
    for name in classes:
        found = prompts.trials[name]
        picked = np.sort(rng.permutation(len(found))[:trials])
        chosen += [found[i] for i in picked]
    toward, away = (_examples(tokenizer, prompts.vector[name], file.read) for name in classes)
    tokens_nt, last_nt = _tokenised(tokenizer, chosen, begun)
    intended, old = (np.tile(targets[name], (len(chosen), 1)) for name in classes)
    scored = Trials(tokens_nt, last_nt, "token", intended, old)
    nowhere = Published(np.zeros_like(last_nt), np.zeros(0, dtype=np.int64))
    return Concept(prompts.name, toward, away, scored, nowhere)


def pinned(subject: Subject, shared: Sequence[str], width: int) -> np.ndarray:
    """Nothing: the models are not known to share weights, (0, width)."""
    return np.zeros((0, width))


def concepts(
    paths: Sequence[Path], tokenizer: PreTrainedTokenizerBase, trials: int
) -> list[Concept]:
    """The concepts of some files, in their order."""
    return [concept(read(path), tokenizer, trials) for path in paths]


def _examples(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], how: str) -> Examples:
    tokens_nt, last_nt = _tokenised(tokenizer, prompts)
    if how == "last":
        weight = last_nt.astype(np.float64)
    else:
        # Every position up to the last one.
        weight = (np.cumsum(last_nt[:, ::-1], axis=1)[:, ::-1] > 0).astype(np.float64)
    weight /= weight.sum(axis=1, keepdims=True) * len(weight)
    return Examples(tokens_nt, weight)


def _tokenised(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], begun: Sequence[int] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids filled up on the right, and where each prompt, gone on by `begun`, ends; causal models
    see no filling."""
    encoded = [[*tokenizer.encode(p, add_special_tokens=False), *begun] for p in prompts]
    longest = max(len(ids) for ids in encoded)
    tokens = np.zeros((len(encoded), longest), dtype=np.int64)
    last = np.zeros((len(encoded), longest), dtype=bool)
    for row, ids in enumerate(encoded):
        tokens[row, : len(ids)] = ids
        last[row, len(ids) - 1] = True
    return tokens, last
