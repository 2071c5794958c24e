"""Text classifiers: training with exact resume, bases from elsewhere, configuration."""

import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from classifiers import (
    COHORT,
    SITE,
    SMOKE,
    changed,
    content,
    home,
    paths,
    plain,
    reading,
    seed42,
    seed137,
    tiny,
    tokenizer_files,
    train,
)

from crossseed import specs
from crossseed.cohorts.base import FINAL
from crossseed.cohorts.classifier import (
    baseline,
    batches,
    stepping,
    training,
    upper,
)
from crossseed.cohorts.classifier import tokenizer as tk
from crossseed.cohorts.classifier.config import START
from crossseed.cohorts.neox.config import NAMES
from crossseed.config.load import load_run
from crossseed.errors import TrainingDiverged, UserError
from crossseed.joint.upper import check_pair
from crossseed.store import read_table

__all__ = ["home", "seed42", "seed137"]


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
