"""Interpretability of latents: planted patterns are found, planted noise is not."""

from __future__ import annotations

import json
import re

import language_models
import numpy as np
import pandas as pd
import pytest
from explained import (
    BIGRAM,
    CONTEXT,
    FEW,
    LATENTS,
    LENGTH,
    NOISE,
    PARITY,
    SETTINGS,
    UNIGRAM,
    Planted,
    by_latent,
    dictionary,
    server,
    studied,
)

from crossseed.cohorts.base import module_of
from crossseed.errors import UserError
from crossseed.interpret import (
    COLUMNS,
    DETECTION,
    FUZZING,
    NGRAM,
    STEP_COLUMNS,
    chat,
    delphi,
    explain,
    ngrams,
    steps,
)
from crossseed.interpret import contexts as c
from crossseed.interpret.latents import Latent
from crossseed.interpret.scores import NOT_REACHED
from crossseed.report import interpret as report
from crossseed.report import tables as t
from crossseed.stability import CELL

__all__ = ["server"]


# --- windows ----------------------------------------------------------------------------


def test_windows_are_whole_consecutive_and_of_one_sequence():
    split = Planted(0, sequences=10)
    # A token in the middle of the third sequence was not kept.
    keep = np.arange(split.n_tokens) != 2 * LENGTH + 10
    for name in ("sequence_n", "position_n", "document_n", "token_n"):
        setattr(split, name, getattr(split, name)[keep])
    split.x, split.n_tokens = split.x[keep], split.n_tokens - 1
    found = c.windows(split, CONTEXT, 10**6)
    rows = found.first_w[:, None] + np.arange(CONTEXT)
    assert (np.diff(split.position_n[rows], axis=1) == 1).all()
    assert (split.sequence_n[rows] == split.sequence_n[rows[:, :1]]).all()
    assert (found.tokens_wt == split.token_n[rows]).all()
    # 33 tokens hold four windows; the broken sequence 10 and 22: one and two.
    assert len(rows) == 9 * 4 + 3
    assert c.windows(split, CONTEXT, 40).tokens_wt.shape == (4, CONTEXT)
    with pytest.raises(
        UserError, match=r"no sequence has 40 tokens.*stability\.interpret\.context"
    ):
        c.windows(split, 40, 10**6)


def test_firings_are_those_of_the_dictionary(monkeypatch):
    monkeypatch.setattr(c, "BLOCK_ROWS", 3 * CONTEXT)
    split = Planted(0, sequences=20)
    found = c.windows(split, CONTEXT, 10**6)
    read = c.firings(split, found, dictionary(4), [PARITY, BIGRAM])
    rows = found.first_w[:, None] + np.arange(CONTEXT)
    for number, latent in enumerate((PARITY, BIGRAM)):
        assert (read.of(number) == split.x[rows, latent]).all()


def test_items_are_balanced_drawn_over_strengths_and_marked_at_the_same_places():
    rng = np.random.default_rng(0)
    acts = np.zeros((400, CONTEXT), np.float32)
    # Fires at the first token of 200 windows, ever stronger; a weak second firing is not marked.
    acts[:200, 0] = np.arange(1, 201)
    acts[:200, 5] = 0.2
    asked = c.items(acts, 50, rng)
    assert asked.fires_i.sum() == 50
    assert (~asked.fires_i).sum() == 50
    assert len(set(asked.window_i)) == 100
    assert (asked.fires_i == (asked.window_i < 200)).all()
    groups = np.bincount(asked.window_i[asked.fires_i] // 20, minlength=10)
    assert (groups == 5).all()
    assert (asked.marks_it == (np.arange(CONTEXT) == 0)).all()
    few = c.items(acts[195:203], 50, rng)
    assert (few.fires_i.sum(), len(few.fires_i)) == (5, 8)


def test_what_explains_a_latent_never_scores_it():
    """Windows shown are of `train`, windows asked of `eval`; the two splits are read apart."""
    train, test = Planted(0), Planted(1)
    # Letters tell the splits apart.
    test.token_n = np.where(test.token_n == 11, 10, test.token_n)
    train.token_n = np.where(train.token_n == 10, 11, train.token_n)
    seen = []

    class Listening:
        def ask(self, prompt):
            seen.append(prompt)
            return f"{explain.FORM} something" if explain.FORM in prompt else "[]"

        def ask_all(self, prompts):
            return [self.ask(prompt) for prompt in prompts]

    studied(("told", Listening()), splits=(train, test))
    explaining = [prompt for prompt in seen if explain.FORM in prompt]
    asked = [prompt for prompt in seen if explain.FORM not in prompt]
    assert explaining
    assert asked

    def letters(prompts):
        lines = [line for prompt in prompts for line in re.findall(r"(?m)^\d+: (.*)$", prompt)]
        return set("".join(lines))

    assert "l" in letters(explaining)
    assert "k" not in letters(explaining)
    assert "k" in letters(asked)
    assert "l" not in letters(asked)


# --- n-grams ----------------------------------------------------------------------------


def test_planted_patterns_are_found_and_noise_is_not():
    found = studied()
    by = by_latent(found.rows)
    assert set(by) == {(k, q) for k in range(4) for q in (DETECTION, FUZZING)}
    # Of a pair that the edge of a window cuts, an eighth of all, nothing is seen.
    for latent, least in ((BIGRAM, 0.93), (UNIGRAM, 0.99)):
        for quantity in (DETECTION, FUZZING):
            assert by[latent, quantity]["value"] >= least
            assert abs(by[latent, quantity]["null"] - 0.5) < 0.16
    for quantity in (DETECTION, FUZZING):
        assert abs(by[NOISE, quantity]["value"] - 0.5) < 0.16
    # An n-gram sees the letter, not how many others came before. (Fuzzing marks random letters as wrong ones, so that the
    # letter alone is right there.)
    assert by[PARITY, DETECTION]["value"] < by[UNIGRAM, DETECTION]["value"] - 0.1
    assert all(set(row) == set(COLUMNS) - {*CELL, "init"} for row in found.rows)
    told = {row["latent"]: row for row in found.explanations}
    assert told[BIGRAM]["explanation"].startswith("'cd' (")
    assert told[UNIGRAM]["explanation"].startswith("'e' (")
    assert told[NOISE]["explanation"] == ""
    assert all("<<d>>" in text for text in told[BIGRAM]["shown"])
    assert sum("c<<d>>" in text for text in told[BIGRAM]["shown"]) > 12
    assert len(told[BIGRAM]["shown"]) == SETTINGS.train_examples


def test_noise_scores_half_on_average():
    """Many latents that fire at random, densely and rarely: neither the score nor its null is biased."""
    rng = np.random.default_rng(5)
    tokens = rng.integers(12, size=(2, 1200, CONTEXT))
    every = ngrams.grams(*tokens, 3, "left")
    scores = []
    for number in range(60):
        rate = [0.01, 0.05][number % 2]
        train, test = ((rng.random((1200, CONTEXT)) < rate).astype(np.float32) for _ in range(2))
        found, _ = ngrams.score(every, train, c.items(test, 50, rng), rng)
        scores.append(list(found.values()))
    error = np.std(scores, axis=0) / np.sqrt(len(scores))
    assert (np.abs(np.mean(scores, axis=0) - 0.5) < 3.5 * error).all()
    assert (np.std(scores, axis=0) < 0.08).all()


def test_a_latent_of_one_place_is_no_pattern_of_tokens():
    """Fires at the first token of some windows, whatever it is: place alone must tell neither score nor null."""
    rng = np.random.default_rng(6)
    tokens = rng.integers(12, size=(2, 1000, CONTEXT))
    acts = np.zeros((2, 1000, CONTEXT), np.float32)
    acts[:, :, 0] = rng.random((2, 1000)) < 0.3
    every = ngrams.grams(*tokens, 3, "left")
    scores = [
        ngrams.score(every, acts[0], c.items(acts[1], 50, np.random.default_rng(k)), rng)[0]
        for k in range(20)
    ]
    assert abs(np.mean([of[FUZZING] for of in scores]) - 0.5) < 0.06
    assert abs(np.mean([of[DETECTION] for of in scores]) - 0.5) < 0.06


def test_n_grams_count_what_they_cover():
    tokens = np.array([[1, 2, 3, 1, 2]])
    one, two, three = ngrams.grams(tokens, np.array([[2, 3, 9, 9, 9]]), 3, "left")
    assert one.train_wt[0].tolist()[:2] == one.train_wt[0].tolist()[3:]
    assert one.test_wt[0, 0] == one.train_wt[0, 1]
    assert two.train_wt[0, 0] == -1
    assert two.train_wt[0, 1] == two.train_wt[0, 4]
    assert two.test_wt[0, 1] == two.train_wt[0, 2]
    assert three.train_wt[0, :2].tolist() == [-1, -1]
    assert two.seen[two.train_wt[0, 1]] == 2
    # On both sides: the token, the one before, then the one after.
    _, pair, around = ngrams.grams(tokens, tokens, 3, "both")
    assert (pair.before, pair.after, around.before, around.after) == (1, 0, 1, 1)
    assert around.train_wt[0].tolist().count(-1) == 2
    assert around.train_wt[0, 4] == -1


def test_a_firing_that_the_next_token_decides_needs_both_sides():
    rng = np.random.default_rng(7)
    tokens = rng.integers(8, size=(2, 1500, CONTEXT))
    after = np.concatenate([tokens[:, :, 1:], np.full((2, 1500, 1), -1)], axis=2)
    acts = ((tokens == 3) & (after == 4)).astype(np.float32)
    asked = c.items(acts[1], 50, rng)
    scores = {
        sides: ngrams.score(ngrams.grams(*tokens, 3, sides), acts[0], asked, rng)[0]
        for sides in ("left", "both")
    }
    assert scores["both"][DETECTION] > 0.95
    assert scores["left"][DETECTION] < 0.9


# --- over latents -----------------------------------------------------------------------


def test_the_planted_step_is_found_and_shuffled_classes_have_none():
    rng = np.random.default_rng(8)
    found_in = np.repeat([1, 2, 3, 4], 30)
    density = rng.integers(4, size=120)
    score = np.where(found_in > 1, 0.73, 0.65) + rng.normal(0, 0.06, 120)
    value, null, p = steps.contrast(steps.step, score, found_in, density, rng)
    assert value.low < 0.08 < value.high
    assert abs(null) < 0.01
    assert p == pytest.approx(1 / 1000)
    flat, _, p = steps.contrast(steps.slope, score, found_in, density, rng)
    assert flat.low < 0 < flat.high
    assert p > 0.01


def test_a_step_that_density_makes_is_gone_at_equal_density():
    rng = np.random.default_rng(9)
    found_in = np.repeat([1, 2], 80)
    # Shared latents are rarer, and rarer ones are told better; sharing itself does nothing.
    stratum = np.where(rng.random(160) < np.where(found_in > 1, 0.85, 0.15), 0, 1)
    score = 0.6 + 0.1 * (stratum == 0) + rng.normal(0, 0.03, 160)
    assert steps.step(score, found_in, stratum) > 0.05
    value, _, p = steps.contrast(steps.step_same_density, score, found_in, stratum, rng)
    assert value.low < 0 < value.high
    assert p > 0.05
    assert np.isnan(steps.step_same_density(score, found_in, found_in))


@pytest.mark.parametrize("of", list(steps.CONTRASTS))
def test_contrasts_of_nothing_are_rarely_told(monkeypatch, of):
    """Sharing does nothing; rarer latents are told better, and are shared more often where that is accounted for, and
    shared ones are told better than others where only those in several SAEs are compared."""
    monkeypatch.setattr(steps, "SHUFFLES", 99)
    rng = np.random.default_rng(10)
    held, told = [], []
    for _ in range(200):
        found_in, stratum = rng.integers(1, 4, 40), rng.integers(4, size=40)
        score = rng.normal(0.7, 0.1, 40)
        if of == "step_same_density":
            stratum = np.where(rng.random(40) < np.where(found_in > 1, 0.85, 0.15), 0, 1)
            score += 0.2 * (stratum == 0)
        if of == "slope":
            score += 0.2 * (found_in > 1)
        value, _, p = steps.contrast(steps.CONTRASTS[of], score, found_in, stratum, rng)
        if np.isfinite(value.value):
            held.append(value.low <= 0 <= value.high)
            told.append(p <= 0.05)
    assert len(told) > 180
    assert np.mean(held) > 0.9
    assert np.mean(told) < 0.1


def test_rows_over_latents_have_their_nulls_and_the_share_that_fires_enough():
    found = studied(latents=[*LATENTS, Latent(2, 1, 1e-6, 2, False)._replace(number=4)])
    steps = {(r["scorer"], r["quantity"], r["part"]): r for r in found.steps}
    assert steps["", "often_enough", "1"]["value"] == pytest.approx(2 / 3)
    assert steps[NGRAM, DETECTION, "2"]["value"] >= 0.99
    assert steps[NGRAM, DETECTION, "1"]["n"] == 2
    assert steps[NGRAM, DETECTION, "step"]["value"] > 0.1
    for name in ("1", "2", "3"):
        assert abs(steps[NGRAM, DETECTION, name]["null"] - 0.5) < 0.16
    assert all(set(row) == set(STEP_COLUMNS) - {*CELL, "init"} for row in found.steps)


def test_a_study_without_windows_says_what_to_lower():
    with pytest.raises(UserError, match=r"none of 4 latents fires.*least_windows"):
        studied(settings=SETTINGS._replace(least_windows=2000), splits=(Planted(0, 60), Planted(1)))


# --- files ------------------------------------------------------------------------------


def test_the_export_reads_back_by_the_rules_of_delphi(tmp_path):
    """As its loader and constructor do: locations sorted by latent, windows pooled by sequence and place."""
    from safetensors.numpy import load_file

    found = studied()
    out = tmp_path / "cell-delphi"
    for _ in range(2):
        delphi.write(
            out, "blocks.1.hook_resid_post", found.latents, 4,
            [(w.tokens_wt, r) for w, r in zip(found.windows, found.read, strict=True)],
            {0: "the text cd"},
            {"model_name": "org/model", "dataset_repo": "a", "dataset_split": "train, eval"},
        )  # fmt: skip
    module = out / "latents/blocks.1.hook_resid_post"
    (path,) = module.glob("*.safetensors")
    first, last = (int(part) for part in path.stem.split("_"))
    assert (first, last) == (0, 3)
    config = json.loads((module / "config.json").read_text())
    assert config["cache_ctx_len"] == CONTEXT
    assert {"dataset_repo", "dataset_split", "dataset_name", "dataset_column"} < set(config)
    assert {"batch_size", "n_tokens", "n_splits", "model_name"} < set(config)
    data = load_file(path)
    assert data["locations"].dtype == np.uint16
    assert data["activations"].dtype == np.float16
    locations = data["locations"].astype(np.int64)
    locations[:, 2] += first
    tokens = data["tokens"]
    assert tokens.size == config["n_tokens"]
    order = np.argsort(locations[:, 2], kind="stable")
    for number, latent in enumerate(found.latents):
        mine = order[locations[order, 2] == latent]
        flat = locations[mine, 0] * CONTEXT + locations[mine, 1]
        # Consecutive windows are one after another, which its pooling counts on.
        assert (np.diff(flat) > 0).all()
        acts = np.zeros(tokens.shape, np.float32)
        acts.ravel()[flat] = data["activations"][mine]
        whole = np.concatenate([part.of(number) for part in found.read])
        assert np.allclose(acts, whole, atol=1e-3)
    assert (tokens == np.concatenate([w.tokens_wt for w in found.windows])).all()
    (text,) = (out / "explanations").iterdir()
    assert text.name == "blocks.1.hook_resid_post_latent0.txt"
    assert json.loads(text.read_text()) == "the text cd"


def test_a_study_gives_the_same_twice():
    one, two = studied(), studied()
    assert repr(one.rows) == repr(two.rows)
    assert repr(one.steps) == repr(two.steps)
    assert one.explanations == two.explanations


def test_tokens_have_their_words(tmp_path):
    toy = module_of("dyck", "words").make({}, [])
    assert "".join(toy([1, 3, 4, 5, 6, 7, 8, 2, 0])) == "^()[]{}$_"
    tokenizer = language_models.train_tokenizer(["many words here"] * 2, vocabulary=270)
    language_models.write_models(tmp_path, ["org/m"], tokenizer)
    ids = tokenizer.encode("many words")
    spec = {"tokenizer": "org/m", "folder": str(tmp_path)}
    assert "".join(module_of("hub", "words").make(spec, [])(ids)) == "many words"
    files = [tmp_path / "org/m/tokenizer.json"]
    assert "".join(module_of("neox", "words").make({}, files)(ids)) == "many words"


# --- the page ---------------------------------------------------------------------------


def page_tables(scored):
    cell = dict(zip(CELL, ("toy", 0, "final", "blocks.0.hook_resid_post", "topk-x8"), strict=True))
    rows = [{**cell, "init": "seed1", **row} for row in scored.steps]
    empty = {name: pd.DataFrame(columns=list(columns)) for name, columns in t.COLUMNS.items()}
    return t.Tables(**{**empty, "interpret_steps": pd.DataFrame(rows, columns=list(STEP_COLUMNS))})


def test_the_page_has_the_published_scores_beside_and_says_what_was_not_reached(server):
    server.http.shutdown()
    server.http.server_close()
    tables = page_tables(studied(("openai m", chat.endpoint("m")), settings=FEW))
    found = report.of_cohort(tables, "toy")
    assert found["heads"][:3] == ["in 1", "in 2", "in 3"]
    last = found["rows"][-1]
    assert last["scorer"] == "another model and scorer"
    assert last["cells"][0]["value"] == "0.648"
    assert any("openai m: scorer not reached" in sentence for sentence in found["sentences"])
    unreached = next(row for row in found["rows"] if row["scorer"].startswith("openai m"))
    assert unreached["cells"][0] == {"value": "–", "more": NOT_REACHED}
    figure = report.by_sharing(tables, {"toy": {}})
    assert len(figure.axes) == 2
    assert report.of_cohort(tables, "another") == {}
