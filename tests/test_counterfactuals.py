"""Minimal edits: that shipped ones are what they say, and that others are refused."""

import copy
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from crossseed import counterfactuals
from crossseed.cohorts.classifier import grammar
from crossseed.errors import UserError

RESOURCES = Path(__file__).parent.parent / "resources"
SHIPPED = sorted((RESOURCES / "counterfactuals").glob("*.yaml"))


def grammar_of(name):
    return grammar.read(RESOURCES / "grammars" / f"{name}.yaml")


def test_every_grammar_has_counterfactuals():
    named = {path.stem for path in (RESOURCES / "grammars").glob("*.yaml")}
    assert {path.stem for path in SHIPPED} == named


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_edits_have_twenty_items_and_a_neutral_twin_each(path):
    found = counterfactuals.read(path, grammar_of(path.stem))
    counts = Counter(item.edit for item in found.items)
    assert set(counts) == set(found.file.edits)
    assert min(counts.values()) >= counterfactuals.LEAST
    assert any(edit.before != edit.after for edit in found.file.edits.values())
    assert any(edit.before == edit.after for edit in found.file.edits.values())
    for item in found.items:
        assert len({item.original, item.edited, item.control}) == 3
        assert 2 * item.words_control >= item.words_edited
    numbers = [(item.edit, item.number) for item in found.items]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_no_model_was_trained_on_a_shipped_sentence(path):
    read = grammar_of(path.stem)
    held_out = read.words(held_out=True) - read.words(held_out=False)
    for item in counterfactuals.read(path, read).items:
        for text in (item.original, item.edited, item.control):
            assert held_out & set(counterfactuals.WORD.findall(text.casefold())), text


FILE = {
    "question": "What?",
    "grammar": "sentiment",
    "fillers": {
        "thing": ["film", "novel", "album"],
        "other": ["play", "trip", "show"],
        "pos": ["superb", "lovely", "clever"],
        "when": ["in may"],
    },
    "edits": {
        "negation": {
            "changes": "not is put in",
            "before": "positive",
            "after": "negative",
            "words": 1,
            "triples": [
                {
                    "original": "The {thing} was {pos} {when}.",
                    "edited": "The {thing} was not {pos} {when}.",
                    "control": "The {other} was {pos} {when}.",
                }
            ],
        }
    },
}


def written(folder, edit=None, triple=None, **keys):
    found = {**copy.deepcopy(FILE), **keys}
    found["edits"]["negation"] |= edit or {}
    found["edits"]["negation"]["triples"][0] |= triple or {}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def test_items_are_every_combination_in_order(tmp_path):
    found = counterfactuals.read(written(tmp_path), grammar_of("sentiment"))
    assert len(found.items) == 27
    assert found.items[0] == counterfactuals.Item(
        "negation",
        0,
        "The film was superb in may.",
        "The film was not superb in may.",
        "The play was superb in may.",
        "positive",
        "negative",
        1,
        1,
        "0: film",
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"extra": 1}, "extra"),
        ({"grammar": "emotion"}, "is of the grammar 'emotion', but that of 'sentiment' is given"),
        ({"edit": {"before": "happy"}}, "before is 'happy', which is none of the classes"),
        (
            {"edit": {"after": "positive"}},
            "should be positive, but the grammar 'sentiment' makes it negative",
        ),
        ({"triple": {"edited": "The {thing} bored us {when}."}}, "makes it of no class"),
        (
            {"triple": {"edited": "The {thng} was {pos} {when}."}},
            "names {thng}, which has no filler",
        ),
        ({"triple": {"edited": "The {thing was {pos} {when}."}}, "are no templates"),
        (
            {"triple": {"control": "The {thing} was {pos} {when}."}},
            "has 9 distinct items, expected at least 20",
        ),
        (
            {"triple": {"control": "The {thing} was {pos} {when}."}, "wide": True},
            "the control of 'The film was superb in may.' changes 0 words, expected 1 to 1",
        ),
        (
            {"triple": {"edited": "Nobody could call the {thing} {pos} {when}."}},
            "the edit of 'The film was superb in may.' changes 4 words, expected 1 to 1",
        ),
        (
            {
                "edit": {"words": 4},
                "triple": {"edited": "Nobody could call the {thing} {pos} {when}."},
            },
            "changes 1 words and the edit 4; let the control change at least half as many",
        ),
    ],
)
def test_edits_that_are_not_what_they_say_are_refused(tmp_path, change, said):
    if change.pop("wide", False):
        change["fillers"] = {
            **FILE["fillers"],
            "thing": ["film", "novel", "album", "play", "trip", "show", "course"],
        }
    with pytest.raises(UserError, match=re.escape(said)):
        counterfactuals.read(written(tmp_path, **change), grammar_of("sentiment"))


@pytest.mark.parametrize(
    ("first", "second", "n"),
    [
        ("a b c", "a b c", 0),
        ("A, b c.", "a b c!", 0),
        ("a b c", "a x c", 1),
        ("a b c", "b c", 1),
        ("a b c", "c a b", 2),
        ("", "a b", 2),
        ("kitten sat in it", "the kitten sits on it", 3),
    ],
)
def test_words_changed_is_the_fewest(first, second, n):
    assert counterfactuals.words_changed(first, second) == n
    assert counterfactuals.words_changed(second, first) == n
