"""Text classifiers: grammars, baselines, labelled data, tokenizer and token sets."""

import json
import re
import sys
import types
from collections import Counter

import numpy as np
import pytest
import yaml
from classifiers import (
    COHORT,
    GRAMMARS,
    SHIPPED,
    SMOKE,
    TINY,
    changed,
    content,
    home,
    made,
    tiny,
    tokenizer_files,
)

from crossseed import specs
from crossseed.cohorts.base import DEVELOPMENT, SPLITS
from crossseed.cohorts.classifier import (
    baseline,
    data,
    grammar,
    training,
)
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.grammar import WORD, Labelled
from crossseed.errors import UserError

__all__ = ["home"]


# --- grammars ---------------------------------------------------------------------------


@pytest.fixture(params=SHIPPED, ids=lambda path: path.stem)
def shipped(request):
    return grammar.read(request.param)


def drawn(found, n=5400, seed=0):
    return found.sentences(
        seed, {"train": n, "development": 200, "eval": 400, "unlabelled": n // 2}
    )


def test_shipped_grammars_make_five_thousand_distinct_balanced_sentences(shipped):
    parts = drawn(shipped)
    texts = [text.casefold() for part in parts.values() for text in part.texts]
    assert len(parts["train"].texts) >= 5000
    assert len(set(texts)) == len(texts)
    for part in parts.values():
        counts = Counter(part.label_n.tolist())
        assert set(counts) == set(range(len(shipped.classes)))
        assert max(counts.values()) - min(counts.values()) <= 1


def test_words_held_out_have_labels_in_eval_alone_and_in_each_of_its_sentences(shipped):
    held_out = {
        word
        for topic in shipped.file.topics.values()
        for text in topic.held_out
        for word in WORD.findall(text)
    }
    parts = drawn(shipped)
    seen = {
        word for text in parts.pop("unlabelled").texts for word in WORD.findall(text.casefold())
    }
    assert seen > held_out
    for name, part in parts.items():
        for text in part.texts:
            found = held_out & set(WORD.findall(text.casefold()))
            assert bool(found) == (name == "eval"), text


def test_each_sentence_has_the_one_class_that_the_grammar_makes_it_of(shipped):
    for part in drawn(shipped, n=600).values():
        for text, label in zip(part.texts, part.label_n, strict=True):
            assert shipped.classes_of(text) == [shipped.classes[label]], text
    assert shipped.classes_of("What the grammar does not make.") == []


def test_sentences_are_a_function_of_the_seed(shipped):
    one, again, other = (drawn(shipped, 300, seed) for seed in (0, 0, 1))
    assert one["train"].texts == again["train"].texts
    assert np.array_equal(one["eval"].label_n, again["eval"].label_n)
    assert one["train"].texts != other["train"].texts


@pytest.mark.parametrize(
    ("name", "at_most"), [("sentiment", 0.65), ("emotion", 0.8), ("politeness", 0.95)]
)
def test_counting_words_does_not_decide_everything(name, at_most):
    found = grammar.read(GRAMMARS / f"{name}.yaml")
    parts = drawn(found, n=2000)
    n_classes = len(found.classes)
    counted = baseline.bag_of_words(parts["train"], parts["development"], parts["eval"], n_classes)
    chance = baseline.majority(parts["train"], parts["eval"], n_classes)
    assert chance.accuracy == pytest.approx(1 / n_classes, abs=0.01)
    assert chance.accuracy < counted.accuracy < at_most


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"classes": {"x": TINY["classes"]["x"]}}, "at least 2"),
        ({"extra": 1}, "extra"),
        ({"classes__y": {"only": ["{both} {thing}"]}}, "stands under x and under y"),
        ({"classes__y": {"only": ["{two} {one}"]}}, "can be filled without a topic"),
        ({"classes__y": {"only": ["{thng}"]}}, "names {thng}, which nothing fills"),
        ({"classes__y": {"only": ["{thing"]}}, "is no template"),
        ({"phrases__both": ["{both} {one}"]}, "the phrase 'both' holds itself"),
        ({"fillers__thing": ["c"]}, "'thing' names two things"),
        ({"topics__thing__held_out": ["tea"]}, "'tea' is held out, and stands in other sentences"),
        ({"fillers__one": ["rum"]}, "'rum' is held out, and stands in other sentences"),
    ],
)
def test_a_grammar_that_cannot_be_meant_is_refused(tmp_path, keys, said):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(tiny(**keys)))
    with pytest.raises(UserError, match=rf"{re.escape(str(path))}.*{re.escape(said)}"):
        grammar.read(path)


def test_too_few_sentences_and_two_classes_of_one_are_told(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TINY))
    found = grammar.read(path)
    enough = {"train": 2, "development": 2, "eval": 2, "unlabelled": 0}
    assert sorted(found.sentences(0, enough)["eval"].texts) == ["A b rum", "B a rum"]
    with pytest.raises(
        UserError, match="x gives no more than 2 of the 3 sentences asked for train"
    ):
        found.sentences(0, {**enough, "train": 6})
    path.write_text(yaml.safe_dump(tiny(fillers__two=["a"])))
    with pytest.raises(UserError, match=r"is made of (x and of y|y and of x)"):
        grammar.read(path).sentences(0, enough)


# --- baselines --------------------------------------------------------------------------


def test_counting_words_finds_what_words_decide_and_nothing_else():
    rng = np.random.default_rng(0)
    words = np.array(["red", "green", "big", "small", "old", "new"])

    def part(n, decided):
        texts, labels = [], []
        for _ in range(n):
            label = int(rng.integers(2))
            own = ["red", "green"][label] if decided else "red"
            texts.append(" ".join([own, *rng.choice(words[2:], 2)]))
            labels.append(label)
        return Labelled(texts, np.array(labels))

    planted = baseline.bag_of_words(part(200, True), part(50, True), part(200, True), 2)
    assert planted.accuracy == 1
    assert planted.loss_nats < 0.05
    null = baseline.bag_of_words(part(200, False), part(50, False), part(2000, False), 2)
    assert null.accuracy == pytest.approx(0.5, abs=0.04)
    assert null.loss_nats == pytest.approx(np.log(2), abs=0.05)


def test_wilsons_interval_is_that_of_the_textbook():
    # Wilson 1927, as in Newcombe 1998, table I: 81 of 263.
    assert training.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    low, high = training.wilson(1.0, 50)
    assert low == pytest.approx(0.9287, abs=1e-4)
    assert high == pytest.approx(1, abs=1e-12)


# --- data -------------------------------------------------------------------------------


def rows(n, classes=("bad", "good"), first=0):
    return [
        {"text": f"Sentence number {i} is here.", "label": i % len(classes), "other": 1}
        for i in range(first, first + n)
    ]


# What is told of labelled data wherever they lie.
DATA = {
    "text_field": "text", "label_field": "label", "classes": ["bad", "good"], "train": 10, "development": 4, "eval": 6,
}  # fmt: skip


def files(folder, shown, evaluated, **keys):
    for name, found in (("train", shown), ("eval", evaluated)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    told = {"train_file": str(folder / "train.jsonl"), "eval_file": str(folder / "eval.jsonl")}
    return {**DATA, "source": "files", **told, **keys}


def test_no_sentence_stands_in_two_parts_and_numbers_or_names_say_the_class(tmp_path):
    named = [{**row, "label": ["bad", "good"][row["label"]]} for row in rows(10, first=8)]
    # Ten rows of eval repeat training sentences but for letter case, and are left out.
    repeated = [{**row, "text": row["text"].upper()} for row in rows(10)]
    found = data.sentences(
        files(tmp_path, [*rows(10), *named], [*repeated, *rows(9, first=40)]), []
    )
    sizes = {part: len(texts) for part, (texts, _) in found.parts.items()}
    assert sizes == {"train": 10, "development": 4, "eval": 6}
    texts = [text.casefold() for texts, _ in found.parts.values() for text in texts]
    assert len(set(texts)) == len(texts)
    for texts, label_n in found.parts.values():
        assert [int(text.split()[2]) % 2 for text in texts] == label_n.tolist()
    assert found.parts["eval"].texts[0] == "Sentence number 40 is here."


@pytest.mark.parametrize("hidden", [-1, None])
def test_an_unlabelled_split_is_refused_by_name(tmp_path, hidden):
    evaluated = [{**row, "label": hidden} for row in rows(9, first=40)]
    told = files(tmp_path, rows(20), evaluated)
    path = re.escape(told["eval_file"])
    with pytest.raises(UserError, match=rf"^{path}: has no labels \('label' is {hidden} in"):
        data.sentences(told, [])


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (2, "line 3: 'label' is 2, which is none of the 2 classes bad, good"),
        (1.0, "'label' is 1.0, which is none"),
        (True, "'label' is True, which is none"),
        ("fine", "'label' is 'fine', which is none"),
        (-2, "'label' is -2, which is none"),
    ],
)
def test_a_label_outside_the_classes_is_refused_by_row_and_value(tmp_path, label, said):
    train = rows(20)
    train[2]["label"] = label
    with pytest.raises(UserError, match=re.escape(said)):
        data.sentences(files(tmp_path, train, rows(9, first=40)), [])


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"classes": ["bad", "good", "fine"]}, "is of class 2 ('fine'), one of the 3"),
        ({"train": 30}, "gives 16 distinct sentences for train, but data.train = 30"),
        ({"eval": 30}, "gives 9 distinct sentences for eval, but data.eval = 30"),
        ({"label_field": "lable"}, "has no 'lable'; set data.label_field to one of label"),
        ({"text_field": "body"}, "has no 'body'"),
        ({"eval_file": "none.jsonl"}, "none.jsonl: no such file"),
    ],
)
def test_data_that_are_not_as_declared_are_refused(tmp_path, keys, said):
    told = files(tmp_path, rows(20), rows(9, first=40), **keys)
    with pytest.raises(UserError, match=re.escape(said)):
        data.sentences(told, [])


def test_a_data_set_of_the_hub_is_asked_for_by_split(monkeypatch):
    asked = []

    def load_dataset(dataset, **keys):
        asked.append((dataset, keys["name"], keys["split"]))
        if keys["split"] == "test":
            return [{**row, "label": -1} for row in rows(9, first=40)]
        return rows(20) if keys["split"] == "train" else rows(9, first=40)

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset
    monkeypatch.setitem(sys.modules, "datasets", module)
    told = {
        **DATA,
        "source": "hub",
        "dataset": "org/set",
        "name": "small",
        "revision": None,
        "train_split": "train",
        "eval_split": "validation",
    }
    assert len(data.sentences(told, []).parts["eval"].texts) == 6
    assert asked == [("org/set", "small", "train"), ("org/set", "small", "validation")]
    with pytest.raises(UserError, match=r"^split 'test' of dataset 'org/set': has no labels"):
        data.sentences({**told, "eval_split": "test"}, [])


def test_a_grammar_of_other_classes_is_refused():
    told = specs.tokens(changed(), COHORT)["data"]
    with pytest.raises(UserError, match=r"has the classes negative, positive, but data\.classes"):
        data.sentences({**told, "classes": ["positive", "negative"]}, SHIPPED)
    with pytest.raises(UserError, match="grammar 'sentiment': its file is not given"):
        data.sentences(told, [])


def test_the_tokenizer_is_equal_bytes_twice(home, tmp_path):
    tk.make(specs.tokenizer(changed(), COHORT), tokenizer_files(tmp_path), SHIPPED)
    assert content(tmp_path / "tokenizer") == content(home / "tokenizer")


def test_frequent_words_are_tokens_and_others_come_in_letters(home, tmp_path):
    tokenizer = tk.load(tokenizer_files(home), {})
    ids = tokenizer("The film was not XYZ49.").input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).startswith("the film was not xyz49")
    assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
    assert tokenizer.tokenize("film, ox") == ["film", ",", "o", "##x"]
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))
    tk.make(
        specs.tokenizer(changed(model__vocabulary=100), COHORT), tokenizer_files(tmp_path), SHIPPED
    )
    fewer = tk.load(tokenizer_files(tmp_path), {})
    assert len(fewer) == 100 < len(tokenizer)
    assert fewer.tokenize("the circus") == ["the", "c", "##i", "##r", "##c", "##u", "##s"]


def test_token_sets_are_whole_sentences_with_their_class(home):
    sets, used = made(home)
    tokenizer = tk.load(tokenizer_files(home), {})
    read = grammar.read(GRAMMARS / "sentiment.yaml")
    assert (used["n_classes"], used["classes"]) == (2, ["negative", "positive"])
    seen = set()
    for split, n in (("fit", 40), ("train", 60), ("eval", 30)):
        found = sets[split]
        assert len(found.tokens_nt) == n == sum(used["sentences"][split].values())
        assert found.document_n.tolist() == list(range(n))
        assert np.array_equal(found.keep_nt, found.tokens_nt != tokenizer.pad_token_id)
        label_nt = found.labels["class"]
        assert (label_nt == label_nt[:, :1]).all()
        for ids, keep, label in zip(found.tokens_nt, found.keep_nt, label_nt[:, 0], strict=True):
            text = re.sub(r" ([.,])", r"\1", tokenizer.decode(ids[keep][1:-1]))
            assert read.classes_of(text) == [read.classes[label]], text
            assert text not in seen
            seen.add(text)
    assert sum(used["sentences_cut"].values()) == 0


def test_special_tokens_and_padding_are_left_out_as_asked(home):
    sets, _ = made(home, tokens__keep_special_tokens=False)
    whole, _ = made(home)
    for split, found in sets.items():
        dropped = whole[split].keep_nt & ~found.keep_nt
        assert (dropped.sum(axis=1) == 2).all()
        assert dropped[:, 0].all()
        if split in SPLITS:
            cohort = changed(tokens__keep_special_tokens=False).cohorts[COHORT]
            assert found.keep_nt.sum() <= cohort.most_tokens(split)
    # All sentences on which early stopping decides, none of which is trained on or scored.
    told = SMOKE["cohorts"][COHORT]["data"]["development"]
    assert len(whole[DEVELOPMENT].tokens_nt) <= told
    rows = {split: set(map(bytes, found.tokens_nt)) for split, found in whole.items()}
    assert not any(rows[DEVELOPMENT] & rows[split] for split in SPLITS)


def test_long_sentences_are_cut_and_counted(home):
    sets, used = made(home, tokens__context=8, tokens__fit=20, tokens__eval=12)
    tokenizer = tk.load(tokenizer_files(home), {})
    assert all(found.tokens_nt.shape[1] == 8 for found in sets.values())
    assert used["sentences_cut"]["eval"] > 0
    ends = sets["eval"].tokens_nt[:, -1]
    assert set(ends.tolist()) <= {tokenizer.sep_token_id, tokenizer.pad_token_id}


def test_padding_in_a_sentence_is_refused(home):
    with pytest.raises(UserError, match=re.escape("'a [PAD] b' holds the padding token '[PAD]'")):
        tk.encode(tk.load(tokenizer_files(home), {}), ["a [PAD] b"], 24)
