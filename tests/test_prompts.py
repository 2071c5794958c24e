"""Contrastive prompts: the shipped files, and what is refused of others."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from language_models import train_tokenizer

from crossseed.cohorts.text import prompts
from crossseed.errors import UserError

SHIPPED = sorted((Path(__file__).parent.parent / "resources" / "prompts").glob("*.yaml"))

SENTIMENT = next(path for path in SHIPPED if path.stem == "sentiment")


@pytest.fixture(scope="module")
def tokenizer():
    texts = [text for path in SHIPPED for text in [path.read_text(encoding="utf-8")]]
    return train_tokenizer(texts, 700)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_files_have_enough_prompts_and_share_none(path, tokenizer):
    found = prompts.read(path)
    every = [p for split in (found.vector, found.trials) for part in split.values() for p in part]
    assert len(set(every)) == len(every)
    assert min(len(part) for s in (found.vector, found.trials) for part in s.values()) >= 40
    concept = prompts.concept(found, tokenizer, 40)
    assert concept.trials.tokens_nt.shape[0] == 80
    assert (concept.trials.at_nt.sum(axis=1) == 1).all()
    assert concept.toward.weight_nt.sum() == pytest.approx(1)
    assert not set(concept.trials.intended.ravel()) & set(concept.trials.old.ravel())
    # What is averaged ends where the prompt does.
    ends = concept.trials.at_nt.argmax(axis=1)
    said = tokenizer.decode(concept.trials.tokens_nt[0][: ends[0] + 1])
    assert said in found.trials[found.file.toward]


def test_the_three_concepts_of_the_study_are_there():
    assert {path.stem for path in SHIPPED} >= {"sentiment", "recipient", "magnitude"}


def changed(tmp_path, change):
    told = yaml.safe_load(SENTIMENT.read_text(encoding="utf-8"))
    change(told)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(told), encoding="utf-8")
    return path


def _without_class(told):
    del told["vector"]["classes"][told["away"]]


def _duplicated(told):
    told["trials"] = {
        **told["vector"],
        "templates": ["{thing} {quality}.", "It was {quality}: {thing}."],
    }


def _same_template(told):
    told["trials"]["templates"].append(told["vector"]["templates"][0])


def _unbalanced(told):
    told["trials"]["templates"][0] += " {"


def _empty_target(told):
    told["targets"][told["toward"]] = [""]


def _alike(told):
    classes = told["vector"]["classes"]
    classes[told["away"]] = classes[told["toward"]]


def _few(told):
    told["vector"]["templates"] = told["vector"]["templates"][:1]


def _without_filler(told):
    told["trials"]["templates"][0] += " {nothing}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_class, r"vector\.classes has \w+, expected"),
        (_duplicated, r"is a filler of thing of both vector and trials"),
        (_same_template, r"is a template of both vector and trials"),
        (_unbalanced, r"is no template"),
        (_empty_target, r"targets\.\w+\.0: .*at least 1"),
        (_alike, r"stands under vector\.\w+ and under vector\.\w+"),
        (_few, r"vector has \d+ distinct prompts of \w+, expected at least 40"),
        (_without_filler, r"names \{nothing\}, which has no filler"),
        (lambda told: told.pop("targets"), r"targets: Field required"),
        (lambda told: told.update(more=1), r"more: Extra inputs"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, change, said):
    with pytest.raises(UserError, match=rf"mine\.yaml: .*{said}"):
        prompts.read(changed(tmp_path, change))


def test_unreadable_files_are_refused(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(UserError, match="not a readable YAML file"):
        prompts.read(path)


def test_targets_that_begin_alike_are_left_out_or_refused(tmp_path, tokenizer):
    def one_word(told):
        told["targets"] = {told["toward"]: [" one"], told["away"]: [" one two"]}

    with pytest.raises(UserError, match="begins every target"):
        prompts.concept(prompts.read(changed(tmp_path, one_word)), tokenizer, 4)
    found = prompts.concept(prompts.read(SENTIMENT), tokenizer, 4)
    assert np.unique(found.trials.tokens_nt, axis=0).shape[0] == 8


def test_where_all_targets_begin_alike_the_trials_go_on_by_that():
    """Letters alone: every word begins with the space, and differs in its next token."""
    letters = train_tokenizer(["a b"], 258)
    found = prompts.read(next(path for path in SHIPPED if path.stem == "recipient"))
    concept = prompts.concept(found, letters, 4)
    ends = concept.trials.at_nt.argmax(axis=1)
    said = [
        letters.decode(row[: end + 1])
        for row, end in zip(concept.trials.tokens_nt, ends, strict=True)
    ]
    assert all(text.endswith(" to ") for text in said)
    assert [letters.decode([int(t)]) for t in concept.trials.intended[0]] == ["M"]
    assert [letters.decode([int(t)]) for t in concept.trials.old[0]] == ["J"]
