"""Labelled sentences from template grammars that people write.

A file of `resources/grammars/` names classes, of each some constructions, of each some templates. What fills a
template is drawn; a sentence's class is that of its template, and no sentence has two. Of all sentences with
labels, those of `eval` alone hold words under ``held_out`` of a topic, and each of them does. Sentences without
labels, which bases are pre-trained on as BERT was on text, hold words of both sorts, and none is one of `eval`.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import yaml
from pydantic import Field, ValidationError

from crossseed.cohorts.text.corpus import key_of
from crossseed.config.fields import Distinct, Model, NonEmpty
from crossseed.errors import UserError
from crossseed.seeding import generator

Words = Annotated[list[Annotated[str, NonEmpty]], Distinct, NonEmpty]
# In the order in which they are drawn; no sentence stands in two.
PARTS = ("train", "development", "eval")
# Which topics fill the sentences of a part: those held out, those shown, or (None) any.
HELD_OUT: dict[str, bool | None] = {
    "train": False,
    "development": False,
    "eval": True,
    "unlabelled": None,
}
# Draws in a row that give nothing new before a class counts as exhausted.
PATIENCE = 2000
WORD = re.compile(r"\w+")


class Topic(Model):
    """What sentences are about."""

    shown: Words
    held_out: Words


class GrammarFile(Model):
    """One file."""

    question: str
    topics: dict[str, Topic]
    fillers: dict[str, Words]
    phrases: dict[str, Words]
    classes: Annotated[dict[str, dict[str, Words]], Field(min_length=2)]


class Labelled(NamedTuple):
    """Sentences and the numbers of their classes."""

    texts: list[str]
    label_n: np.ndarray


class Grammar:
    """A file that was checked.

    Attributes:
        name: of the file. file: what it says. classes: names of the classes in order of their numbers.
    """

    def __init__(self, name: str, file: GrammarFile) -> None:
        self.name, self.file = name, file
        self.classes = list(file.classes)

    def draw(self, template: str, held_out: bool | None, rng: np.random.Generator) -> str:
        """One sentence of a template; topics are filled with words held out, with the others, or with any."""
        text = self._fill(template, held_out, rng)
        return text[0].upper() + text[1:]

    def _fill(self, template: str, held_out: bool | None, rng: np.random.Generator) -> str:
        parts = []
        for literal, name in _parts(template):
            parts.append(literal)
            if name is not None:
                choices = self._choices(name, held_out)
                parts.append(self._fill(choices[int(rng.integers(len(choices)))], held_out, rng))
        return "".join(parts)

    def _choices(self, name: str, held_out: bool | None) -> list[str]:
        """What may fill a name; None: whatever the split."""
        file = self.file
        if name in file.topics:
            topic = file.topics[name]
            if held_out is None:
                return [*topic.shown, *topic.held_out]
            return topic.held_out if held_out else topic.shown
        return file.fillers.get(name) or file.phrases[name]

    def words(self, held_out: bool | None = None) -> set[str]:
        """Words, in small letters, of all sentences; of those with words held out alone, or of the others."""
        file = self.file
        templates = [
            *_templates(file),
            *(text for found in file.phrases.values() for text in found),
        ]
        texts = ["".join(literal for literal, _ in _parts(text)) for text in templates]
        texts += [word for found in file.fillers.values() for word in found]
        texts += [word for name in file.topics for word in self._choices(name, held_out)]
        return {word for text in texts for word in WORD.findall(text.casefold())}

    @cached_property
    def _patterns(self) -> dict[str, re.Pattern[str]]:
        found = {}
        for label, constructions in self.file.classes.items():
            templates = [text for group in constructions.values() for text in group]
            found[label] = re.compile("|".join(self._pattern(text) for text in templates), re.I)
        return found

    def _pattern(self, template: str) -> str:
        parts = []
        for literal, name in _parts(template):
            parts.append(re.escape(literal))
            if name is not None:
                choices = (self._pattern(text) for text in self._choices(name, None))
                parts.append(f"(?:{'|'.join(choices)})")
        return "".join(parts)

    def classes_of(self, sentence: str) -> list[str]:
        """The classes of which the grammar makes a sentence; none if it makes it of no class."""
        return [label for label, pattern in self._patterns.items() if pattern.fullmatch(sentence)]

    def sentences(self, seed: int, counts: Mapping[str, int]) -> dict[str, Labelled]:
        """Distinct sentences by part, classes balanced to within one, constructions taken by turns.

        Args:
            seed: of the draws.
            counts: how many sentences each of `PARTS` has, and ``unlabelled``.

        Raises:
            UserError: the grammar does not make so many, or makes one of two classes.
        """
        seen: dict[bytes, str] = {}
        found = {}
        for part in HELD_OUT:
            texts, labels = [], []
            for number, label in enumerate(self.classes):
                n = counts[part] // len(self.classes) + (number < counts[part] % len(self.classes))
                texts += self._distinct(seed, part, label, n, seen)
                labels += [number] * n
            order = generator("grammar-order", self.name, seed, part).permutation(len(texts))
            found[part] = Labelled([texts[i] for i in order], np.array(labels, np.int64)[order])
        return found

    def _distinct(
        self, seed: int, part: str, label: str, wanted: int, seen: dict[bytes, str]
    ) -> list[str]:
        """New sentences of one class; `seen` has those there are, and takes these."""
        rng = generator("grammar", self.name, seed, part, label)
        constructions = list(self.file.classes[label].values())
        texts: list[str] = []
        failed = turn = 0
        while len(texts) < wanted:
            templates = constructions[turn % len(constructions)]
            template = templates[int(rng.integers(len(templates)))]
            text = self.draw(template, HELD_OUT[part], rng)
            other = seen.get(key_of(text))
            if other is not None and other != label:
                raise UserError(
                    f"grammar {self.name!r}: {text!r} is made of {other} and of {label}; change a template, so "
                    "that each sentence has one class"
                )
            if other is not None:
                failed += 1
                # Smaller constructions run dry first; the others go on in their place.
                turn += failed % 20 == 0
                if failed == PATIENCE:
                    raise UserError(
                        f"grammar {self.name!r}: {label} gives no more than {len(texts)} of the {wanted} "
                        f"sentences asked for {part}; lower the number, or add templates or fillers"
                    )
                continue
            seen[key_of(text)] = label
            texts.append(text)
            failed = 0
            turn += 1
        return texts


def read(path: Path) -> Grammar:
    """The grammar of a file, checked.

    Raises:
        UserError: not YAML or not of this form; a placeholder that nothing fills; phrases that hold each
            other; a template of two classes, or without a topic; a word held out that stands elsewhere.
    """
    try:
        file = GrammarFile.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable grammar ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}: {where}: {first['msg']}; see resources/grammars/") from error
    _check_names(path, file)
    grammar = Grammar(Path(path).stem, file)
    homes: dict[str, str] = {}
    for label, constructions in file.classes.items():
        for template in (text for group in constructions.values() for text in group):
            if homes.setdefault(template, label) != label:
                raise UserError(
                    f"{path}: {template!r} stands under {homes[template]} and under {label}; each sentence has "
                    "one class"
                )
            if not _has_topic(template, file):
                raise UserError(
                    f"{path}: {template!r} can be filled without a topic, so that nothing of it would be new in "
                    f"eval; put one of {', '.join(file.topics) or 'the topics'} in"
                )
    leaked = sorted(_held_out(file) & grammar.words(held_out=False))
    if leaked:
        raise UserError(
            f"{path}: {leaked[0]!r} is held out, and stands in other sentences too; take it out of one place"
        )
    return grammar


def _check_names(path: Path, file: GrammarFile) -> None:
    kinds: tuple[Mapping[str, Any], ...] = (file.topics, file.fillers, file.phrases)
    names = [name for kind in kinds for name in kind]
    twice = sorted(name for name in names if names.count(name) > 1)
    if twice:
        raise UserError(f"{path}: {twice[0]!r} names two things; rename one")
    texts = [*_templates(file), *(text for found in file.phrases.values() for text in found)]
    for text in texts:
        try:
            used = [name for _, name in _parts(text) if name is not None]
        except ValueError as error:
            raise UserError(
                f"{path}: {text!r} is no template ({error}); write {{name}} for what is filled in"
            ) from error
        missing = [name for name in used if name not in names]
        if missing:
            raise UserError(f"{path}: {text!r} names {{{missing[0]}}}, which nothing fills")
    for name in file.phrases:
        if name in _below(name, file):
            raise UserError(f"{path}: the phrase {name!r} holds itself; take it out of its parts")


def _templates(file: GrammarFile) -> Iterator[str]:
    for constructions in file.classes.values():
        for group in constructions.values():
            yield from group


def _parts(template: str) -> list[tuple[str, str | None]]:
    """(literal, name of what follows or None)."""
    return [(literal, name) for literal, name, _, _ in string.Formatter().parse(template)]


def _below(phrase: str, file: GrammarFile) -> set[str]:
    """Phrases that a phrase is made of, directly or not."""
    found: set[str] = set()
    queue = [phrase]
    while queue:
        for text in file.phrases[queue.pop()]:
            new = {name for _, name in _parts(text) if name in file.phrases} - found
            found |= {name for name in new if name is not None}
            queue += [name for name in new if name is not None]
    return found


def _has_topic(template: str, file: GrammarFile) -> bool:
    """Whether every sentence of a template holds a topic."""
    return any(
        name in file.topics
        or (name in file.phrases and all(_has_topic(text, file) for text in file.phrases[name]))
        for _, name in _parts(template)
    )


def _held_out(file: GrammarFile) -> set[str]:
    words = (word for topic in file.topics.values() for word in topic.held_out)
    return {part for word in words for part in WORD.findall(word.casefold())}
