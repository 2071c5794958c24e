"""Labelled sentences in three parts: `train`, `development` and `eval`; no sentence stands in two.

Labels are checked as they are read: each is the number or the name of a class, and each class is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, assert_never

import numpy as np
from pydantic import TypeAdapter

from crossseed.cohorts.classifier import grammar as grammars
from crossseed.cohorts.classifier.grammar import PARTS, Labelled
from crossseed.cohorts.classifier.settings import Data, FileData, GrammarData, HubData
from crossseed.cohorts.text import corpus
from crossseed.cohorts.text.config import HubCorpus
from crossseed.errors import UserError
from crossseed.store import arrays_digest

# What data sets put where a label is kept back.
HIDDEN = -1


class Sentences(NamedTuple):
    """The data of a cohort.

    Attributes:
        classes: names in order of their numbers. parts: by part of `PARTS`.
        unlabelled: more sentences, which are in no part.
    """

    classes: list[str]
    parts: dict[str, Labelled]
    unlabelled: list[str]

    @property
    def digest(self) -> str:
        """Of all texts and labels, in order."""
        more = "\0".join(self.unlabelled).encode()
        arrays = {"unlabelled": np.frombuffer(more, np.uint8)}
        for part, found in self.parts.items():
            data = "\0".join(found.texts).encode()
            arrays |= {
                f"{part}/texts": np.frombuffer(data, np.uint8),
                f"{part}/labels": found.label_n,
            }
        return arrays_digest(arrays)


def sentences(told: Mapping[str, Any], files: Sequence[Path]) -> Sentences:
    """The sentences that a spec's ``data`` names.

    Args:
        told: see `crossseed.cohorts.classifier.config.Data`.
        files: the grammar's file, where the data are of one.

    Raises:
        UserError: a split without labels, a label outside the classes, a class without a sentence, or too
            few sentences; the data cannot be read.
    """
    data: Data = TypeAdapter(Data).validate_python(told)
    counts = {part: int(getattr(data, part)) for part in PARTS}
    unlabelled: list[str] = []
    match data:
        case GrammarData():
            parts = _of_grammar(data, files, counts | {"unlabelled": data.unlabelled})
            unlabelled = parts.pop("unlabelled").texts
        case FileData() | HubData():
            parts = _of_rows(data, counts)
        case _:
            assert_never(data)
    for part, found in parts.items():
        lacking = set(range(len(data.classes))) - set(found.label_n.tolist())
        if lacking:
            name = data.classes[min(lacking)]
            raise UserError(
                f"{_name(data)}: none of the {len(found.texts)} sentences of {part} is of class {min(lacking)} "
                f"({name!r}), one of the {len(data.classes)} of data.classes; correct data.classes, or take more "
                "sentences"
            )
    return Sentences(data.classes, parts, unlabelled)


def _name(data: Data) -> str:
    match data:
        case GrammarData():
            return f"grammar {data.grammar!r}"
        case FileData():
            return f"{data.train_file} and {data.eval_file}"
        case HubData():
            return f"dataset {data.dataset!r}"
        case _:
            assert_never(data)


def _of_grammar(
    data: GrammarData, files: Sequence[Path], counts: Mapping[str, int]
) -> dict[str, Labelled]:
    path = next((path for path in files if path.stem == data.grammar), None)
    if path is None:
        raise UserError(
            f"grammar {data.grammar!r}: its file is not given; give --data resources/grammars/{data.grammar}.yaml"
        )
    grammar = grammars.read(path)
    if grammar.classes != data.classes:
        raise UserError(
            f"{path}: has the classes {', '.join(grammar.classes)}, but data.classes = "
            f"{', '.join(data.classes)}; give them in that order"
        )
    return grammar.sentences(data.seed, counts)


def _of_rows(data: FileData | HubData, counts: Mapping[str, int]) -> dict[str, Labelled]:
    """By what a sentence says, it goes to `development` or `train`, whatever its place in the data; `eval` is
    the first of its split."""
    own = _distinct(data, *_split(data, "train"))
    # In the order of their keys, which is another for other data and the same for the same.
    keys = sorted(own, key=lambda key: corpus.place_of(key, 0))
    cut = counts["development"]
    chosen = {"development": keys[:cut], "train": keys[cut : cut + counts["train"]]}
    others = _distinct(data, *_split(data, "eval"))
    chosen["eval"] = [key for key in others if key not in own][: counts["eval"]]
    for part in PARTS:
        if len(chosen[part]) < counts[part]:
            raise UserError(
                f"{_name(data)}: gives {len(chosen[part])} distinct sentences for {part}, but data.{part} = "
                f"{counts[part]}; lower it"
            )
    rows = own | others
    return {
        part: Labelled(
            [rows[key][0] for key in chosen[part]],
            np.array([rows[key][1] for key in chosen[part]], np.int64),
        )
        for part in PARTS
    }


def _split(data: FileData | HubData, part: str) -> tuple[str, Iterator[tuple[str, dict[str, Any]]]]:
    """Name of the split that a part is of, and its rows with where they stand."""
    if isinstance(data, FileData):
        path = Path(data.train_file if part == "train" else data.eval_file)
        if not path.is_file():
            raise UserError(f"{path}: no such file; correct data.{part}_file")
        return str(path), corpus.jsonl_rows(path, data.text_field)
    split = data.train_split if part == "train" else data.eval_split
    told = HubCorpus(
        source="hub",
        dataset=data.dataset,
        name=data.name,
        split=split,
        revision=data.revision,
        text_field=data.text_field,
        min_characters=0,
    )
    return f"split {split!r} of dataset {data.dataset!r}", corpus.hub_rows(told)


def _distinct(
    data: FileData | HubData, split: str, rows: Iterator[tuple[str, dict[str, Any]]]
) -> dict[bytes, tuple[str, int]]:
    """(text, label) by the text's key: the first of equal ones."""
    found: dict[bytes, tuple[str, int]] = {}
    for where, row in rows:
        text = corpus.value_of(row, data.text_field, where)
        label = _label(row, data, where, split)
        if text.strip():
            found.setdefault(corpus.key_of(text), (text, label))
    if not found:
        raise UserError(f"{split}: holds no sentence; choose another split or file")
    return found


def _label(row: Mapping[str, Any], data: FileData | HubData, where: str, split: str) -> int:
    if data.label_field not in row:
        raise UserError(
            f"{where}: has no {data.label_field!r}; set data.label_field to one of {', '.join(sorted(row))}"
        )
    label = row[data.label_field]
    if label is None or label == HIDDEN:
        raise UserError(
            f"{split}: has no labels ({data.label_field!r} is {label} in its first row without one, {where}); "
            "accuracy on it would mean nothing: choose a split with labels, such as validation"
        )
    if isinstance(label, str) and label in data.classes:
        return data.classes.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(data.classes):
        return label
    raise UserError(
        f"{where}: {data.label_field!r} is {label!r}, which is none of the {len(data.classes)} classes "
        f"{', '.join(data.classes)}, nor a number from 0 to {len(data.classes) - 1}; correct data.classes"
    )
