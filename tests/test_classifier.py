"""Text classifiers: grammars, labelled data, token sets, exact resume, folders, the part above a site."""

import copy
import json
import re
import shutil
import sys
import types
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from crossseed import specs
from crossseed.cohorts.base import DEVELOPMENT, FINAL, SPLITS
from crossseed.cohorts.classifier import (
    baseline,
    batches,
    data,
    grammar,
    members,
    stepping,
    tokens,
    training,
    upper,
)
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.config import START
from crossseed.cohorts.classifier.grammar import WORD, Labelled
from crossseed.cohorts.neox.config import NAMES, TOKENIZER_NAMES
from crossseed.config.load import load_run
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint.upper import check_pair
from crossseed.store import read_table

ROOT = Path(__file__).parent.parent
GRAMMARS = ROOT / "resources/grammars"
SHIPPED = sorted(GRAMMARS.glob("*.yaml"))
# SAEs of two of its members have tests of their own.
SMOKE = yaml.safe_load((Path(__file__).parent / "smoke_classifier.yaml").read_text()) | {
    "joint": None
}
COHORT = "smoke-bert"
SITE = "blocks.0.hook_normalized_resid_post"


def changed(**keys):
    """The smoke run, keys of its cohort such as ``training__epochs`` replaced; the block ``model`` too."""
    config = copy.deepcopy(SMOKE)
    for key, value in keys.items():
        *folders, last = key.split("__")
        target = config["cohorts"][COHORT]
        for part in folders:
            target = target[part]
        target[last] = value
    return load_run(config)


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


TINY = {
    "question": "Which comes first?",
    "topics": {"thing": {"shown": ["tea", "milk"], "held_out": ["rum"]}},
    "fillers": {"one": ["a"], "two": ["b"]},
    "phrases": {"both": ["{one} {two}"]},
    "classes": {"x": {"only": ["{both} {thing}"]}, "y": {"only": ["{two} {one} {thing}"]}},
}


def tiny(**keys):
    found = copy.deepcopy(TINY)
    for key, value in keys.items():
        *folders, last = key.split("__")
        target = found
        for part in folders:
            target = target[part]
        target[last] = value
    return found


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


def files(folder, shown, evaluated, **keys):
    for name, found in (("train", shown), ("eval", evaluated)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    told = {
        "source": "files",
        "train_file": str(folder / "train.jsonl"),
        "eval_file": str(folder / "eval.jsonl"),
        "text_field": "text",
        "label_field": "label",
        "classes": ["bad", "good"],
        "train": 10,
        "development": 4,
        "eval": 6,
    }
    return {**told, **keys}


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
        "source": "hub",
        "dataset": "org/set",
        "name": "small",
        "revision": None,
        "train_split": "train",
        "eval_split": "validation",
        "text_field": "text",
        "label_field": "label",
        "classes": ["bad", "good"],
        "train": 10,
        "development": 4,
        "eval": 6,
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


# --- tokenizer and token sets -----------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with the tokenizer of the cohort."""
    folder = tmp_path_factory.mktemp("classifier")
    tk.make(specs.tokenizer(changed(), COHORT), tokenizer_files(folder), SHIPPED)
    return folder


def tokenizer_files(folder):
    return [folder / "tokenizer" / name for name in TOKENIZER_NAMES]


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


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


def made(home, **keys):
    return tokens.make_tokens(specs.tokens(changed(**keys), COHORT), tokenizer_files(home), SHIPPED)


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


# --- training ---------------------------------------------------------------------------


def train(home, out, seed=42, start_from=None, code="code", **keys):
    """Trains one member into `out`; returns its files' bytes."""
    run = changed(**keys)
    config = run.cohorts[COHORT]
    own = [] if config.tokenizer_files == [] else tokenizer_files(home)
    kept = sorted({Path(path).parent.name for path in config.trained_files})
    training.train(
        specs.train(run, COHORT, seed),
        device="cpu",
        code=code,
        anchor=[start_from / c / name for c in kept for name in NAMES] if start_from else [],
        inputs=own,
        out=[out / c / name for c in kept for name in NAMES],
        curve=out / "training.csv",
        quality=out / "quality.csv",
        data=SHIPPED,
    )
    return content(out)


@pytest.fixture(scope="module")
def seed42(home):
    return train(home, home / "seed42")


@pytest.fixture(scope="module")
def seed137(home, seed42):
    return train(home, home / "seed137", seed=137, start_from=home / "seed42")


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def of_base(name):
    return name.startswith("bert.") and not name.startswith("bert.pooler.")


def same(first, second, chosen):
    return [torch.equal(first[name], second[name]) for name in first if chosen(name)]


def test_fine_tuned_seeds_start_from_one_base_and_differ_in_the_head(home, seed42, seed137):
    anchor, other = weights(home / "seed42" / START), weights(home / "seed137" / START)
    assert all(same(anchor, other, of_base))
    assert not torch.equal(anchor["classifier.weight"], other["classifier.weight"])
    ends = weights(home / "seed42" / FINAL), weights(home / "seed137" / FINAL)
    assert not any(same(*ends, lambda name: name.endswith("dense.weight")))


def test_pre_trained_seeds_have_nothing_in_common(home, seed42, tmp_path):
    train(home, tmp_path / "137", seed=137, kind_of_seed="pretrain")
    anchor, other = weights(home / "seed42" / START), weights(tmp_path / "137" / START)
    assert not any(same(anchor, other, lambda name: name.endswith("dense.weight")))
    # The anchor's own base is the one that the others start from.
    train(home, tmp_path / "42", kind_of_seed="pretrain")
    assert all(same(anchor, weights(tmp_path / "42" / START), lambda _: True))


def test_training_is_equal_bytes_twice(home, seed42, tmp_path):
    assert train(home, tmp_path) == seed42


@pytest.mark.parametrize("steps", [2, 5, 6, 7, 14, 20])
def test_a_killed_job_goes_on_bit_exactly(home, seed42, tmp_path, monkeypatch, capsys, steps):
    """Killed while words are predicted, between the stages, and while classes are."""

    class Killed(Exception):
        pass

    taken = iter(range(1000))
    step = stepping.Stepper.__call__
    with monkeypatch.context() as patch:
        patch.setattr(training.Resume, "due", lambda self: True)

        def stopping(self, *args):
            if next(taken) == steps:
                raise Killed
            return step(self, *args)

        patch.setattr(stepping.Stepper, "__call__", stopping)
        with pytest.raises(Killed):
            train(home, tmp_path)
    assert train(home, tmp_path) == seed42
    assert "resuming at step" in capsys.readouterr().out


def test_measures_stand_beside_their_floors(home, seed42):
    found = read_table(home / "seed42/quality.csv", training.QUALITY_COLUMNS)
    rows = {(r["distribution"], r["measure"], int(r["step"])): r for r in found}
    at = {k[1]: float(r["value"]) for k, r in rows.items() if k[0] == "eval"}
    assert at["accuracy_low"] <= at["accuracy"] <= at["accuracy_high"]
    assert at["accuracy_majority"] == 0.5
    assert at["majority_loss_nats"] == pytest.approx(np.log(2), abs=1e-3)
    assert {"accuracy_bag_of_words", "bag_of_words_loss_nats", "loss_nats"} <= set(at)
    assert all(r["n_tokens"] == "40" for k, r in rows.items() if k[0] == "eval")
    # An epoch is 8 steps; of 2 epochs the better one is kept.
    losses = {s: float(rows["development", "loss_nats", s]["value"]) for s in (8, 16)}
    assert at["kept_step"] == min(losses, key=losses.get)
    hidden = {k[1]: float(r["value"]) for k, r in rows.items() if "hidden words" in k[0]}
    assert set(hidden) == {"masked_loss_nats", "unigram_masked_loss_nats"}
    curve = read_table(home / "seed42/training.csv", training.CURVE_COLUMNS)
    assert [int(row["step"]) for row in curve] == [0, 16]


def test_early_stopping_keeps_the_best_epoch(home, tmp_path, monkeypatch):
    """A loss on `development` that falls once and then rises ends training after `patience` epochs."""
    given = iter([0.5, 0.4, 0.6, 0.7, 0.8, 0.9])
    scores = baseline.scores

    def planted(logits, labels):
        found = scores(logits, labels)
        return found._replace(loss_nats=next(given)) if len(labels) == 20 else found

    monkeypatch.setattr(training.baseline, "scores", planted)
    # Of the counted words too, whose losses on `development` are not asked for here.
    monkeypatch.setattr(training.baseline, "bag_of_words", lambda *_: baseline.Scores(0.5, 0.7))
    train(home, tmp_path, training__epochs=6, training__patience=2)
    found = read_table(tmp_path / "quality.csv", training.QUALITY_COLUMNS)
    steps = {int(r["step"]) for r in found if r["distribution"] == "development"}
    assert steps == {8, 16, 24, 32}
    assert [float(r["value"]) for r in found if r["measure"] == "kept_step"] == [16]


def test_a_diverging_loss_stops_with_step_and_cell(home, tmp_path):
    wild = {"training__peak_lr": 1e30, "training__grad_clip": 1e30, "training__warmup_ratio": 0.0}
    with pytest.raises(TrainingDiverged, match=r"smoke-bert seed 42.*step \d+"):
        train(home, tmp_path, **wild)
    assert not content(tmp_path)


def test_the_rate_rises_and_falls_as_published():
    found = [stepping.rate(step, 100, 0.1, 2.0) for step in range(101)]
    assert found[0] == 0
    assert found[5] == 1
    assert found[10] == max(found) == 2
    assert found[55] == pytest.approx(1)
    assert found[100] == pytest.approx(0, abs=1e-12)


def test_sentences_come_once_an_epoch_in_an_order_of_seed_and_step():
    whole = list(batches.order_of(4, 10, 0, 7, "a"))
    assert [len(rows) for rows in whole] == [4, 4, 2, 4, 4, 2, 4]
    assert (
        sorted(np.concatenate(whole[:3])) == sorted(np.concatenate(whole[3:6])) == list(range(10))
    )
    for start in range(8):
        rest = list(batches.order_of(4, 10, start, 7, "a"))
        assert all(np.array_equal(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_words_are_hidden_as_in_bert():
    rng = np.random.default_rng(0)
    shape = (400, 50)
    special = np.zeros(shape, bool)
    special[:, 0] = special[:, 30:] = True
    batch = batches.Batch(rng.integers(5, 100, shape), ~special, np.zeros(len(special)))
    found = batches.hidden(batch, special, 0.15, 4, 100, "x")
    chosen = found.target != batches.IGNORED
    assert not chosen[special].any()
    assert chosen[~special].mean() == pytest.approx(0.15, abs=0.01)
    assert np.array_equal(found.target[chosen], batch.tokens_nt[chosen])
    assert np.array_equal(found.tokens_nt[~chosen], batch.tokens_nt[~chosen])
    assert (found.tokens_nt[chosen] == 4).mean() == pytest.approx(0.8, abs=0.03)
    kept = (found.tokens_nt[chosen] == batch.tokens_nt[chosen]).mean()
    assert kept == pytest.approx(0.1, abs=0.03)
    # However few words there are, one is hidden.
    one = batches.hidden(batch, special, 1e-9, 4, 100, "x")
    assert (one.target != batches.IGNORED).sum() == 1


def test_a_classifier_learns_an_order_that_counting_words_cannot(tmp_path):
    """The class is which of two words comes first, in sentences that hold both."""
    words = ["tea", "milk", "rum", "ale", "cola", "juice", "wine", "mead"]
    planted = tiny(
        topics={"thing": {"shown": words[:5], "held_out": words[5:]}},
        fillers={"one": ["a"], "two": ["b"], "more": ["c", "d", "e", "f", "g", "h"]},
        phrases={},
        classes={
            "x": {"only": ["{more} a {more} b {thing}", "a {thing} {more} b {more}"]},
            "y": {"only": ["{more} b {more} a {thing}", "b {thing} {more} a {more}"]},
        },
    )
    path = tmp_path / "sentiment.yaml"
    path.write_text(yaml.safe_dump(planted))
    told = {"data__classes": ["x", "y"], "data__train": 320, "data__eval": 100}
    told |= {"model__pretraining": None, "model__dropout": 0.0, "model__width": 32}
    told |= {"training__epochs": 8, "training__peak_lr": 5e-3}
    run = changed(**told)
    tk.make(specs.tokenizer(run, COHORT), tokenizer_files(tmp_path), [path])
    training.train(
        specs.train(run, COHORT, 42),
        device="cpu",
        code="code",
        anchor=[],
        inputs=tokenizer_files(tmp_path),
        out=[tmp_path / FINAL / name for name in NAMES],
        curve=tmp_path / "training.csv",
        quality=tmp_path / "quality.csv",
        data=[path],
    )
    found = read_table(tmp_path / "quality.csv", training.QUALITY_COLUMNS)
    at = {r["measure"]: float(r["value"]) for r in found if r["distribution"] == "eval"}
    assert at["accuracy_bag_of_words"] < 0.65
    assert at["accuracy_low"] > at["accuracy_bag_of_words"] + 0.1


# --- folders, members, and the part above a site ----------------------------------------


def plain(folder):
    from transformers import AutoModelForSequenceClassification

    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def test_plain_transformers_loads_the_folder_and_finds_the_logged_accuracy(home, seed42):
    from transformers import AutoTokenizer

    folder = home / "seed42" / FINAL
    model, tokenizer = plain(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    told = specs.tokens(changed(), COHORT)["data"]
    texts, label_n = data.sentences(told, SHIPPED).parts["eval"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        hit = model(**inputs).logits.argmax(-1).numpy() == label_n
    found = read_table(home / "seed42/quality.csv", training.QUALITY_COLUMNS)
    (logged,) = (
        float(r["value"])
        for r in found
        if r["measure"] == "accuracy" and r["distribution"] == "eval"
    )
    assert hit.mean() == pytest.approx(logged)
    says = json.loads((folder / "config.json").read_text())["crossseed"]
    assert (says["seed"], says["classes"]) == (42, ["negative", "positive"])


def reading(seed=42, checkpoint=FINAL):
    return specs.extract(changed(), COHORT, seed, checkpoint)


def paths(folder):
    return [folder / name for name in NAMES]


def test_activations_are_those_of_the_model_that_sees_no_padding(home, seed42):
    folder = home / "seed42" / FINAL
    sets, _ = made(home)
    tokens_nt, keep_nt = sets["eval"].tokens_nt, sets["eval"].keep_nt
    assert not keep_nt.all()
    sites = [SITE, "blocks.1.hook_mlp_out"]
    member = members.load(reading(), paths(folder), sites, "cpu")
    found = member.activations(tokens_nt, sites)
    model = plain(folder)
    for row, keep in enumerate(keep_nt):
        ids = torch.from_numpy(tokens_nt[row][keep][None].astype(np.int64))
        with torch.no_grad():
            alone = model(ids, output_hidden_states=True).hidden_states[1][0].numpy()
        np.testing.assert_allclose(found[SITE][row][keep], alone, atol=2e-6)
    on_device = member.activations_on_device(torch.from_numpy(tokens_nt), sites)
    assert np.array_equal(on_device[SITE].numpy(), found[SITE])


def test_a_folder_of_another_seed_is_refused(home, seed42):
    with pytest.raises(UserError, match="weights of seed 42, expected 137"):
        members.load(reading(137), paths(home / "seed42" / FINAL), [SITE], "cpu")


@pytest.fixture(scope="module")
def cut(home, seed42):
    return upper.load(reading(), paths(home / "seed42" / FINAL), SITE, "cpu")


def test_below_and_above_a_site_make_the_whole_model(home, cut):
    model = plain(home / "seed42" / FINAL)
    sets, _ = made(home)
    tokens_nt = sets["eval"].tokens_nt
    attend = torch.from_numpy(sets["eval"].keep_nt)
    with torch.no_grad():
        whole = model(
            torch.from_numpy(tokens_nt.astype(np.int64)),
            attention_mask=attend.long(),
            output_hidden_states=True,
        )
    clean = cut.clean(tokens_nt)
    assert torch.equal(clean.attend_nt, attend)
    for found, expected in (
        (clean.site_ntd[attend], whole.hidden_states[1][attend]),
        (clean.next_ntd[attend], whole.hidden_states[2][attend]),
        (clean.logits_nc, whole.logits),
    ):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert cut.classes == ["negative", "positive"]


def test_gradients_flow_to_the_activations_alone(home, cut):
    sets, _ = made(home)
    clean = cut.clean(sets["eval"].tokens_nt[:3])
    site = clean.site_ntd.clone().requires_grad_(True)
    above = cut(site, clean.attend_nt)
    (above.logits_nc.sum() + above.next_ntd[clean.attend_nt].sum()).backward()
    assert site.grad[clean.attend_nt].abs().sum() > 0
    # What is at padding reaches no token.
    assert site.grad[~clean.attend_nt].abs().max() == 0
    assert not any(p.requires_grad or p.grad is not None for p in cut.model.parameters())
    assert not cut.model.training


@pytest.mark.parametrize(
    ("site", "said"),
    [
        ("blocks.1.hook_normalized_resid_post", "is the output of its last block"),
        ("blocks.0.hook_mlp_out", "is within a block"),
        ("blocks.7.hook_normalized_resid_post", "does not exist"),
    ],
)
def test_a_site_with_nothing_above_it_is_refused(home, seed42, site, said):
    with pytest.raises(UserError, match=said):
        upper.load(reading(), paths(home / "seed42" / FINAL), site, "cpu")


def test_activations_of_another_model_are_refused_by_value(cut):
    with pytest.raises(UserError, match="activations are 15 wide, but it is 16 wide"):
        cut(torch.zeros(2, 5, 15), torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(UserError, match="sequences of 33 tokens are longer than its 32 positions"):
        cut(torch.zeros(2, 33, 16), torch.ones(2, 33, dtype=torch.bool))
    with pytest.raises(UserError, match="sequences of 33 tokens are longer than its 32 positions"):
        cut.clean(np.ones((1, 33), np.int64))


def test_members_that_are_no_pair_are_refused_by_name_and_value(home, seed137, cut, tmp_path):
    other = upper.load(reading(137), paths(home / "seed137" / FINAL), SITE, "cpu")
    check_pair(cut, other)
    train(home, tmp_path / "wide", model__width=32)
    wide = upper.load(reading(), paths(tmp_path / "wide" / FINAL), SITE, "cpu")
    with pytest.raises(UserError, match="no pair: width is 16, there 32"):
        check_pair(cut, wide)
    tk.make(specs.tokenizer(changed(data__seed=1), COHORT), tokenizer_files(tmp_path), SHIPPED)
    train(tmp_path, tmp_path / "words", data__seed=1)
    words = upper.load(reading(), paths(tmp_path / "words" / FINAL), SITE, "cpu")
    with pytest.raises(UserError, match=r"no pair: (tokenizer|vocabulary) is "):
        check_pair(cut, words)


# --- bases from elsewhere ---------------------------------------------------------------


@pytest.fixture(scope="module")
def hub(home, seed42):
    """Two bases that are language models alone, and one of another tokenizer, as ``org/name`` folders."""
    from transformers import BertForMaskedLM

    folder = home / "hub"
    config = plain(home / "seed42" / FINAL).config
    for number, name in enumerate(("base1", "base2", "foreign")):
        torch.manual_seed(number)
        BertForMaskedLM(config).save_pretrained(folder / "org" / name)
        for path in tokenizer_files(home):
            shutil.copyfile(path, folder / "org" / name / path.name)
    path = folder / "org/foreign/tokenizer.json"
    path.write_text(path.read_text().replace('"film"', '"filn"'))
    return folder


def unmoved(found, base):
    """Whether a model is its base still, after steps at a rate of 1e-30."""
    return all(
        torch.allclose(found[name], base[name], rtol=0, atol=1e-20)
        for name in found
        if of_base(name)
    )


def from_checkpoint(hub, **keys):
    told = {"source": "checkpoint", "id": "org/base1", "tokenizer": "org/base1", "width": 16}
    return {"model": {**told, "folder": str(hub), "layers": 2, **keys}}


def test_seeds_start_from_a_base_made_elsewhere(home, hub, tmp_path):
    keys = from_checkpoint(hub) | {"training__peak_lr": 1e-30}
    for seed in (42, 137):
        train(home, tmp_path / str(seed), seed=seed, **keys)
    base = weights(hub / "org/base1")
    found = [weights(tmp_path / str(seed) / FINAL) for seed in (42, 137)]
    for model in found:
        assert unmoved(model, base)
    assert not torch.equal(found[0]["classifier.weight"], found[1]["classifier.weight"])
    assert not (tmp_path / "42" / START).exists()
    check_pair(
        *(
            upper.load(reading(seed), paths(tmp_path / str(seed) / FINAL), SITE, "cpu")
            for seed in (42, 137)
        )
    )


def test_a_base_for_each_seed_is_named_by_it(home, hub, tmp_path):
    keys = from_checkpoint(hub, id="org/base{seed}") | {"kind_of_seed": "pretrain"}
    keys |= {"seeds": [1, 2], "anchor": 1, "training__peak_lr": 1e-30}
    train(home, tmp_path, seed=2, **keys)
    found, base = weights(tmp_path / FINAL), weights(hub / "org/base2")
    assert unmoved(found, base)


@pytest.mark.parametrize(
    ("told", "more", "said"),
    [
        ({"width": 32}, {}, "its hidden size is 16, but width = 32"),
        ({"layers": 3}, {}, "it has 2 layers, but layers = 3"),
        ({"tokenizer": "org/foreign"}, {}, "its tokenizer is not that of 'org/foreign'"),
        ({"id": "org/none"}, {}, "model 'org/none'"),
        ({}, {"tokens__context": 33}, "it knows 32 positions, but tokens.context = 33"),
    ],
)
def test_a_base_that_is_not_as_declared_is_refused_by_name_and_value(
    home, hub, tmp_path, told, more, said
):
    with pytest.raises(UserError, match=re.escape(said)):
        train(home, tmp_path, **from_checkpoint(hub, **told), **more)


# --- configuration ----------------------------------------------------------------------

CHECKPOINT = from_checkpoint(Path("hub"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"model__heads": 3}, "3 heads do not divide the width 16"),
        ({"checkpoints": ["step10"]}, "'step10' is not kept; a classifier has step0 and final"),
        ({**CHECKPOINT, "checkpoints": ["step0"]}, "'step0' is not kept; a classifier has final"),
        ({"sites": ["blocks.2.hook_mlp_out"]}, "blocks.2.hook_mlp_out"),
        ({"tokens__train": 100}, "take 140 sentences, but data.train = 120"),
        ({"tokens__eval": 41}, "takes 41 sentences, but data.eval = 40"),
        ({"training__batch_rows": 121}, "training.batch_rows = 121 exceeds data.train = 120"),
        ({"data__classes": ["one"]}, "at least 2"),
        ({**CHECKPOINT, "kind_of_seed": "pretrain"}, "needs one for each; put {seed} in"),
        (
            from_checkpoint(Path("hub"), id="org/base{seed}"),
            "starts all from one; leave {seed} out",
        ),
        (from_checkpoint(Path("hub"), id="org/base{step}"), "names ['step']; known is {seed}"),
        (from_checkpoint(Path("hub"), id="base"), "'base' is no model id"),
    ],
)
def test_what_cannot_be_meant_is_told(keys, said):
    with pytest.raises(UserError, match=re.escape(said)):
        changed(**keys)


@pytest.mark.parametrize(
    ("study", "told"),
    [
        ("splice", {"sequences": 8}),
        ("port", {"dictionaries": ["topk"], "map": "procrustes", "sequences": 4}),
        (
            "attribution",
            {
                "members": "anchor",
                "right": [2],
                "midpoint": [2],
                "gauss": [2],
                "batches": 2,
                "sequences": 2,
            },
        ),
        (
            "steering",
            {
                "concepts": [],
                "prompts": ["recipient"],
                "directions": 100,
                "trials": 4,
                "sequences": 2,
            },
        ),
    ],
)
def test_studies_of_predictions_at_positions_refuse_classifiers(study, told):
    with pytest.raises(
        UserError, match=rf"{study}: cohorts\.smoke-bert predicts .*set {study}: null"
    ):
        load_run({**copy.deepcopy(SMOKE), study: told})
