"""Minimal edits of sentences that people write, each beside a neutral edit of the same sentence.

A file of `resources/counterfactuals/` has edits; of each, triples of templates: an original, the edited one, and
the control. All three must be sentences of the grammar it names, so that their classes are known and not claimed.
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import yaml
from pydantic import Field, ValidationError

from crossseed.cohorts.base import spread
from crossseed.cohorts.classifier.grammar import Grammar
from crossseed.config.fields import Count, Distinct, Model, Name, NonEmpty
from crossseed.errors import UserError

# Items an edit, at least: five would do to pick those that confirm.
LEAST = 20
# And at most: evenly spaced over all combinations.
MOST = 60
WORD = re.compile(r"\w+")
Text = Annotated[str, NonEmpty]


class Triple(Model):
    """Templates that are filled alike."""

    original: Text
    edited: Text
    control: Text


class Edit(Model):
    """One way to edit a sentence."""

    changes: Text = Field(description="What is changed, in words.")
    before: Text = Field(description="Class of original and control.")
    after: Text = Field(description="Class of the edited sentence.")
    words: Count = Field(description="Words inserted, deleted or replaced at most, by either edit.")
    triples: Annotated[list[Triple], NonEmpty]


class CounterfactualFile(Model):
    """One file."""

    question: Text
    grammar: Name
    fillers: dict[str, Annotated[list[Text], Distinct, NonEmpty]]
    edits: Annotated[dict[str, Edit], NonEmpty]


class Item(NamedTuple):
    """One sentence, and its two edits.

    Attributes:
        edit: name of the edit. number: within it.
        original, edited, control: sentences.
        before, after: classes of original and control, and of the edited sentence.
        words_edited, words_control: how many words the edit and the control change.
        group: number of the triple, and the filler of the original that has most values. Items of a group are one
            template about one thing: no independent evidence.
    """

    edit: str
    number: int
    original: str
    edited: str
    control: str
    before: str
    after: str
    words_edited: int
    words_control: int
    group: str


class Counterfactuals(NamedTuple):
    """A file filled in.

    Attributes:
        name: of the file. file: what it says. items: edit by edit, in the order of the file.
    """

    name: str
    file: CounterfactualFile
    items: list[Item]


def read(path: Path, grammar: Grammar) -> Counterfactuals:
    """The items of a file, checked.

    Args:
        path: the file.
        grammar: the one it names, read.

    Raises:
        UserError: not YAML or not of this form; another grammar; a placeholder that nothing fills; fewer than
            `LEAST` distinct items of an edit; a sentence that the grammar does not make, or makes of another
            class; an edit that changes nothing, or more words than it says, or
            less than half as many in the control as in the edit.
    """
    try:
        file = CounterfactualFile.model_validate(
            yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable file of counterfactuals ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"{path}: {where}: {first['msg']}; see resources/counterfactuals/"
        ) from error
    if file.grammar != grammar.name:
        raise UserError(
            f"{path}: is of the grammar {file.grammar!r}, but that of {grammar.name!r} is given; give its own"
        )
    items: list[Item] = []
    for name, edit in file.edits.items():
        for key, label in (("before", edit.before), ("after", edit.after)):
            if label not in grammar.classes:
                raise UserError(
                    f"{path}: {name}: {key} is {label!r}, which is none of the classes "
                    f"{', '.join(grammar.classes)} of the grammar"
                )
        filled = list(dict.fromkeys(_filled(path, name, edit, file)))
        if len(filled) < LEAST:
            raise UserError(
                f"{path}: {name} has {len(filled)} distinct items, expected at least {LEAST}; add fillers or "
                "triples"
            )
        chosen = [filled[i] for i in spread(len(filled), MOST)]
        items += [
            _item(f"{path}: {name}", name, edit, number, sentences, group, grammar)
            for number, (*sentences, group) in enumerate(chosen)
        ]
    return Counterfactuals(Path(path).stem, file, items)


def grammar_of(path: Path) -> str:
    """Name of the grammar that a file is of.

    Raises:
        UserError: it cannot be read, or names none.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: not a readable file of counterfactuals ({error})") from error
    if not isinstance(found, dict) or not isinstance(found.get("grammar"), str):
        raise UserError(f"{path}: names no grammar; see resources/counterfactuals/")
    return found["grammar"]


def _filled(
    path: Path, name: str, edit: Edit, file: CounterfactualFile
) -> Iterator[tuple[str, str, str, str]]:
    """(original, edited, control, group) of every triple with every combination of its fillers."""
    for triple_number, triple in enumerate(edit.triples):
        templates = (triple.original, triple.edited, triple.control)
        try:
            fields, of_original = (
                [
                    field
                    for template in some
                    for _, field, _, _ in string.Formatter().parse(template)
                    if field is not None
                ]
                for some in (templates, templates[:1])
            )
        except ValueError as error:
            raise UserError(
                f"{path}: {name}: {triple.original!r} or its edits are no templates ({error}); write {{name}} for "
                "a filler"
            ) from error
        wanted = list(dict.fromkeys(fields))
        missing = [field for field in wanted if field not in file.fillers]
        if missing:
            raise UserError(f"{path}: {name} names {{{missing[0]}}}, which has no filler")
        # The first of those that have as many values.
        content = max(of_original, key=lambda field: len(file.fillers[field]), default=None)
        for values in itertools.product(*(file.fillers[field] for field in wanted)):
            by_name = dict(zip(wanted, values, strict=True))
            original, edited, control = (template.format(**by_name) for template in templates)
            group = str(triple_number) + (f": {by_name[content]}" if content else "")
            yield _capital(original), _capital(edited), _capital(control), group


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _item(
    where: str,
    name: str,
    edit: Edit,
    number: int,
    sentences: Sequence[str],
    group: str,
    grammar: Grammar,
) -> Item:
    original, edited, control = sentences
    for text, label in ((original, edit.before), (edited, edit.after), (control, edit.before)):
        found = grammar.classes_of(text)
        if found != [label]:
            raise UserError(
                f"{where}: {text!r} should be {label}, but the grammar {grammar.name!r} makes it "
                f"{' and '.join(found) or 'of no class'}; use words and templates of the grammar"
            )
    changed = {}
    for what, text in (("edit", edited), ("control", control)):
        changed[what] = words_changed(original, text)
        if not 1 <= changed[what] <= edit.words:
            raise UserError(
                f"{where}: the {what} of {original!r} changes {changed[what]} words, expected 1 to {edit.words} "
                "(`words`); change the templates or the bound"
            )
    if 2 * changed["control"] < changed["edit"]:
        raise UserError(
            f"{where}: the control of {original!r} changes {changed['control']} words and the edit "
            f"{changed['edit']}; let the control change at least half as many"
        )
    return Item(
        name,
        number,
        original,
        edited,
        control,
        edit.before,
        edit.after,
        changed["edit"],
        changed["control"],
        group,
    )


def words_changed(first: str, second: str) -> int:
    """Fewest words to insert, delete or replace that turn one text into another (Levenshtein's distance);
    letter case and punctuation do not count."""
    a, b = (WORD.findall(text.casefold()) for text in (first, second))
    row = np.arange(len(b) + 1)
    for i, word in enumerate(a, start=1):
        row = _next_row(row, word, b, i)
    return int(row[-1])


def _next_row(row: np.ndarray, word: str, words: Sequence[str], i: int) -> np.ndarray:
    found = np.empty_like(row)
    found[0] = i
    for j, other in enumerate(words, start=1):
        found[j] = min(row[j] + 1, found[j - 1] + 1, row[j - 1] + (word != other))
    return found
