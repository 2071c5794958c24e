"""Language models trained by the run: tokenizer, batches, baselines."""

import itertools
import math
import re
import shutil
from collections import Counter

import numpy as np
import pytest
from small_neox import (
    COHORT,
    SMOKE,
    STEPS,
    chain,
    content,
    home,
    recipe_of,
    run_in,
    tokenizer_files,
    trained,
)

from crossseed import specs
from crossseed.cohorts.neox import tokenizer as tk
from crossseed.cohorts.neox import tokens, training
from crossseed.cohorts.neox.config import TOKENIZER_NAMES, NeoxTraining
from crossseed.cohorts.text.corpus import part_of
from crossseed.errors import UserError

__all__ = ["chain", "home"]


# --- tokenizer --------------------------------------------------------------------------


def test_the_tokenizer_is_equal_bytes_twice(home, tmp_path):
    tk.make(specs.tokenizer(run_in(home), COHORT), tokenizer_files(tmp_path))
    assert content(tmp_path / "tokenizer") == content(home / "tokenizer")


@pytest.mark.parametrize(
    "text",
    [
        "Document 7. banber cenlem",
        "  indented\n\n\tand\r\nmore \n",
        "a , b . c ! don ' t do n't",
        "naïve 日本語 \N{SNOWMAN}\0\x7f",
        "",
    ],
)
def test_the_tokenizer_round_trips_text(home, text):
    tokenizer = tk.load(tokenizer_files(home))
    ids = tokenizer(text).input_ids
    assert tokenizer.eos_token_id not in ids
    assert tokenizer.decode(ids) == text


def test_the_vocabulary_is_of_the_size_asked_for_and_learned_from_the_text(home):
    tokenizer = tk.load(tokenizer_files(home))
    assert len(tokenizer) == SMOKE["cohorts"][COHORT]["model"]["vocabulary"] == 320
    assert sorted(tokenizer.get_vocab().values()) == list(range(320))
    text = tk.own_documents(specs.tokenizer(run_in(home), COHORT))[0]
    assert len(tokenizer(text).input_ids) < len(text.encode())


def test_the_tokenizer_depends_on_training_documents_alone(home, tmp_path):
    shutil.copytree(home / "corpus", tmp_path / "corpus")
    share, seed = 0.5, 0
    found = {True: None, False: None}
    for number in range(100):
        text = f"Another document, number {number}: " + "xyzzy plugh " * 40
        found[part_of(text, seed) < share] = text
    (tmp_path / "corpus" / "more.txt").write_text(found[False])
    tk.make(specs.tokenizer(run_in(tmp_path), COHORT), tokenizer_files(tmp_path))
    assert content(tmp_path / "tokenizer") == content(home / "tokenizer")
    (tmp_path / "corpus" / "more.txt").write_text(found[True])
    tk.make(specs.tokenizer(run_in(tmp_path), COHORT), tokenizer_files(tmp_path))
    assert content(tmp_path / "tokenizer") != content(home / "tokenizer")


def test_too_little_text_for_the_vocabulary_is_told(home, tmp_path):
    with pytest.raises(UserError, match=r"gives only \d+ of the 50000 tokens.*model\.vocabulary"):
        tk.make(
            specs.tokenizer(run_in(home, model__vocabulary=50000), COHORT),
            tokenizer_files(tmp_path),
        )
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_a_missing_or_damaged_tokenizer_is_named(tmp_path):
    with pytest.raises(UserError, match="give --tokenizer"):
        tk.load([])
    for text in (None, "{", '{"version": "1.0"}'):
        if text is not None:
            (tmp_path / "tokenizer.json").write_text(text)
        with pytest.raises(UserError, match=re.escape(str(tmp_path))):
            tk.load([tmp_path / name for name in TOKENIZER_NAMES])


# --- text and batches -------------------------------------------------------------------


def test_training_text_is_the_reserved_documents_each_followed_by_end_of_text(home):
    spec = specs.train(run_in(home), COHORT, 0)
    tokenizer = tk.load(tokenizer_files(home))
    own = tk.own_documents(spec)
    ids = training.encode(own, tokenizer)
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(ids).split(tk.END_OF_TEXT) == [*own, ""]
    assert list(ids) == [
        i for text in own for i in (*tokenizer(text).input_ids, tokenizer.eos_token_id)
    ]
    assert np.array_equal(training.encode(own, tokenizer, 1000), ids[:1000])
    assert training.encode([], tokenizer).shape == (0,)


def test_no_text_is_both_trained_on_and_compared_or_held_out(home):
    run = run_in(home)
    spec = specs.train(run, COHORT, 0)
    tokenizer = tk.load(tokenizer_files(home))
    own = tk.own_documents(spec)
    texts = [path.read_text() for path in sorted((home / "corpus").iterdir())]
    others = [text for text in texts if text not in own]
    assert len(own) + len(others) == len(texts)
    assert 0.3 < len(own) / len(texts) < 0.7

    recipe = NeoxTraining.model_validate(spec["training"])
    held_out = training._held_out_rows(spec, recipe, tokenizer)
    assert held_out.shape == (recipe.eval_rows, recipe.context)
    sets, _ = tokens.make_tokens(specs.tokens(run, COHORT), tokenizer_files(home))
    compared = np.concatenate([found.tokens_nt.ravel() for found in sets.values()])
    for ids in (held_out.ravel(), compared):
        parts = tokenizer.decode(ids).split(tk.END_OF_TEXT)
        assert len(parts) > 1
        numbers = [int(n) for part in parts for n in re.findall(r"Document (\d+)\.", part)]
        assert numbers
        assert not any(f"Document {number}." in text for number in numbers for text in own)
    for row in held_out:
        for part in tokenizer.decode(row).split(tk.END_OF_TEXT):
            assert any(part in text for text in others)
            assert len(part) < 40 or not any(part in text for text in own)


def test_batches_are_a_function_of_seed_and_step():
    ids = np.arange(3000, dtype=np.int32)
    whole = list(training.training_batches(0, ids, recipe_of(), 0))
    assert len(whole) == STEPS
    for start in (1, 14, 15, 29, STEPS - 1, STEPS):
        rest = list(training.training_batches(0, ids, recipe_of(), start))
        assert len(rest) == STEPS - start
        assert all(np.array_equal(a, b) for a, b in zip(whole[start:], rest, strict=True))
    other = list(training.training_batches(1, ids, recipe_of(), 0))
    assert not any(np.array_equal(a, b) for a, b in zip(whole, other, strict=True))


def test_an_epoch_visits_sequences_of_its_own_cut_once():
    ids = np.arange(3000, dtype=np.int32)
    recipe = recipe_of()
    per_epoch = (3000 // recipe.context - 1) // recipe.batch_rows
    assert 4 * per_epoch <= STEPS
    batches = list(training.training_batches(0, ids, recipe, 0))
    offsets, orders = set(), set()
    for first in range(0, STEPS - per_epoch + 1, per_epoch):
        rows = np.concatenate(batches[first : first + per_epoch])
        assert rows.shape == (per_epoch * recipe.batch_rows, recipe.context)
        # The ids are positions: each row is a stretch of the text, and no two overlap.
        assert (np.diff(rows, axis=1) == 1).all()
        starts = rows[:, 0]
        assert len(np.unique(starts // recipe.context)) == len(starts)
        assert len(np.unique(starts % recipe.context)) == 1
        offsets.add(int(starts[0] % recipe.context))
        orders.add(tuple(starts // recipe.context))
        # All but the sequences of a batch that would not be full, and the one cut off.
        assert len(starts) > 3000 // recipe.context - 1 - recipe.batch_rows
    assert len(offsets) > 1
    assert len(orders) > 1


def test_too_little_text_to_train_or_evaluate_is_told(home, tmp_path):
    with pytest.raises(UserError, match=r"100 training tokens give no batch.*batch_rows"):
        next(training.training_batches(0, np.arange(100), recipe_of(), 0))
    with pytest.raises(UserError, match=r"training\.eval_rows = 99999 of 24 need.*eval_rows"):
        trained(home, tmp_path, training__eval_rows=99999)


# --- baselines --------------------------------------------------------------------------


def naive_baselines(ids, rows, vocabulary):
    single, pair = Counter(ids), Counter(itertools.pairwise(ids))
    before = Counter(ids[:-1])
    unigram_nats = bigram_nats = 0.0
    n = 0
    for row in rows:
        for v, w in itertools.pairwise(row):
            unigram = (single[w] + 1) / (len(ids) + vocabulary)
            if before[v]:
                distinct = sum(pair[v, u] > 0 for u in range(vocabulary))
                left = training.DISCOUNT * distinct / before[v]
                bigram = max(pair[v, w] - training.DISCOUNT, 0) / before[v] + left * unigram
            else:
                bigram = unigram
            unigram_nats -= math.log(unigram)
            bigram_nats -= math.log(bigram)
            n += 1
    return {"unigram_loss_nats": unigram_nats / n, "bigram_loss_nats": bigram_nats / n}


@pytest.mark.parametrize("seed", range(5))
def test_baselines_equal_a_naive_count(seed):
    rng = np.random.default_rng(seed)
    vocabulary = 9
    # Some tokens, the last one perhaps among them, never follow or never come at all.
    ids = rng.choice([0, 1, 1, 2, 5, 7], size=int(rng.integers(2, 60))).astype(np.int32)
    rows = rng.integers(vocabulary, size=(6, 5)).astype(np.int32)
    found = training.baselines(ids, rows, vocabulary)
    expected = naive_baselines(ids.tolist(), rows.tolist(), vocabulary)
    assert found == pytest.approx(expected, rel=1e-12)


def test_the_naive_count_holds_on_text(home):
    spec = specs.train(run_in(home), COHORT, 0)
    tokenizer = tk.load(tokenizer_files(home))
    ids = training.encode(tk.own_documents(spec), tokenizer)
    rows = training._held_out_rows(spec, recipe_of(), tokenizer)
    found = training.baselines(ids, rows, 320)
    assert found == pytest.approx(naive_baselines(ids.tolist(), rows.tolist(), 320), rel=1e-12)


def test_baselines_are_distributions():
    """Over all next tokens, the probabilities sum to one, after seen and unseen tokens alike."""
    ids = np.array([0, 1, 1, 2, 0, 1, 3, 0], dtype=np.int32)
    for v in range(6):
        for name in ("unigram_loss_nats", "bigram_loss_nats"):
            total = sum(
                math.exp(-training.baselines(ids, np.array([[v, w]], np.int32), 6)[name])
                for w in range(6)
            )
            assert total == pytest.approx(1, abs=1e-12)


def test_baselines_approach_the_entropies_of_a_planted_chain(chain):
    rows = chain.sample(1, 40_000).reshape(400, 100)
    assert chain.entropy - chain.entropy_rate > 0.5
    found = training.baselines(chain.sample(0, 60_000), rows, 12)
    # Their excess is the sampling of both texts and the discount; that of the rows has either sign.
    assert found["unigram_loss_nats"] == pytest.approx(chain.entropy, abs=0.02)
    assert found["bigram_loss_nats"] == pytest.approx(chain.entropy_rate, abs=0.02)
    far = training.baselines(chain.sample(0, 300), rows, 12)
    assert far["bigram_loss_nats"] > found["bigram_loss_nats"] + 0.02


def test_the_bigram_baseline_gains_nothing_where_there_is_nothing_to_gain():
    ids = np.random.default_rng(0).integers(12, size=40_000).astype(np.int32)
    rows = np.random.default_rng(1).integers(12, size=(200, 100)).astype(np.int32)
    found = training.baselines(ids, rows, 12)
    assert found["unigram_loss_nats"] == pytest.approx(math.log(12), abs=1e-3)
    assert found["bigram_loss_nats"] == pytest.approx(math.log(12), abs=5e-3)
    assert found["bigram_loss_nats"] > math.log(12)
