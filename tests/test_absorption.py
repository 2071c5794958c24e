"""First letters: planted latents of letters are found, planted absorption is measured, and where there is none, none is."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import sparse

from crossseed import plan
from crossseed.absorption import COLUMNS, RANDOM, measure, probes, words
from crossseed.absorption.study import Limits, Seen, over, random_coder, study
from crossseed.config.load import load_run
from crossseed.errors import UserError
from crossseed.report import absorption as page
from crossseed.report import tables as t
from crossseed.sae.dictionary import Dictionary
from crossseed.stability import CELL
from crossseed.store import write_table

LIMITS = Limits(3, 400, 2, 5, 0.03, 0.6, 0.025, 0.4)
N_LETTERS, N_TOKENS = 6, 15
# Ids of words; the others are none.
TEXTS = {
    100 + N_TOKENS * number + token: f" {words.LETTERS[number].upper()}{words.LETTERS[token]}x"
    for number, token in itertools.product(range(N_LETTERS), range(N_TOKENS))
}
LETTER_STRENGTH, TOKEN_STRENGTH = 4.0, 3.0


def decode(token: int) -> str:
    return TEXTS.get(token, "!?")


class Split:
    """Rows that are the direction of their token's letter, that of the token, and noise."""

    path = "planted"

    def __init__(self, seed: int, n: int = 3000) -> None:
        rng = np.random.default_rng(seed)
        self.token_n = rng.choice([*TEXTS, 1, 2], n)
        self.n_tokens, self.width = n, 112
        word = self.token_n >= 100
        at = np.where(word, self.token_n - 100, 0)
        x = LETTER_STRENGTH * BASIS[at // N_TOKENS] + TOKEN_STRENGTH * BASIS[N_LETTERS + at]
        self.x = np.where(word[:, None], x, 0) + 0.05 * rng.standard_normal((n, self.width))
        self.x = self.x.astype(np.float32)

    def rows(self, part: slice) -> np.ndarray:
        return self.x[part]


BASIS = np.linalg.qr(np.random.default_rng(0).standard_normal((112, 112))).Q


def dictionary(silenced: np.ndarray, taking: bool) -> Dictionary:
    """A latent a letter and a latent a token.

    Args:
        silenced: tokens, from 0 on, on which the letter's latent is silent. taking: whether the token's latent
            then writes the letter's direction too.
    """
    n = N_LETTERS + len(TEXTS)
    encoder, decoder = BASIS[:n].copy(), BASIS[:n].copy()
    for token in np.flatnonzero(silenced):
        encoder[token // N_TOKENS] -= 2 * BASIS[N_LETTERS + token]
        if taking:
            more = LETTER_STRENGTH / TOKEN_STRENGTH * BASIS[token // N_TOKENS]
            decoder[N_LETTERS + token] += more
    return Dictionary(
        encoder.T.astype(np.float32),
        np.full(n, -0.5, np.float32),
        decoder.astype(np.float32),
        np.zeros(BASIS.shape[1], np.float32),
        {"metadata": {"crossseed": {"architecture": "relu_l1"}}},
        "",
        MappingProxyType({}),
    )


SILENCED = np.random.default_rng(3).random(len(TEXTS)) < 0.4
# Of two seeds: the letters' latents are in the other, those of tokens are not.
SEEN = Seen(
    np.r_[np.full(N_LETTERS, 1 / N_LETTERS), np.full(len(TEXTS), 1 / len(TEXTS))],
    np.r_[np.ones(N_LETTERS), np.zeros(len(TEXTS))],
)


def studied(of: Dictionary, limits: Limits = LIMITS):
    dictionaries = {"seed1": of, "seed2": of}
    seen = dict.fromkeys(dictionaries, SEEN)
    rows = study(dictionaries, seen, Split(1), Split(2), decode, limits, "a test")
    assert all({"init", "letter", *row} <= set(COLUMNS) for row in rows)
    return {(row["init"], row["letter"], row["quantity"]): row for row in rows}


@pytest.fixture(scope="module")
def absorbing():
    return studied(dictionary(SILENCED, taking=True))


@pytest.fixture(scope="module")
def clean():
    return studied(dictionary(np.zeros(len(TEXTS), bool), taking=False))


def held_rows():
    """Tokens of the held-out rows that are used, from 0 on."""
    letter_i = words.letters_of(decode, np.array([*TEXTS, 1]))
    split = Split(2)
    chosen = words.choose(
        split.token_n, letter_i, words.held_out(letter_i), LIMITS.rows, "held out"
    )
    return split.token_n[chosen] - 100


def test_planted_absorption_is_measured(absorbing):
    tokens = held_rows()
    for letter in range(N_LETTERS):
        name = words.LETTERS[letter]
        expected = SILENCED[tokens[tokens // N_TOKENS == letter]].mean()
        for quantity in ("silent", "absorption_rate"):
            row = absorbing["seed1", name, quantity]
            assert row["value"] == pytest.approx(expected, abs=0.02), (name, quantity)
        assert absorbing["seed1", name, "split_latents"]["value"] == 1
        assert absorbing["", name, "probe_f1"]["value"] > 0.98
    whole = absorbing["", "", "absorption_rate"]
    assert whole["low"] < whole["value"] < whole["high"]
    assert whole["n"] == N_LETTERS
    assert absorbing["", "", "absorbed_of_silent"]["value"] > 0.98
    # Every absorbing latent is that of one token.
    assert absorbing["seed1", "", "absorbers"]["value"] == pytest.approx(
        len(np.unique(tokens[SILENCED[tokens]])) / N_LETTERS, abs=0.2
    )


def test_without_planted_absorption_there_is_none(clean):
    assert clean["", "", "latent_f1"]["value"] > 0.98
    assert clean["", "", "silent"]["value"] == 0
    assert clean["", "", "absorption_rate"]["value"] == 0
    assert np.isnan(clean["", "", "absorbed_of_silent"]["value"])
    assert np.isnan(clean["", "", "reappears_difference"]["value"])


def test_latents_that_are_silent_are_not_absorbed_unless_another_carries_the_letter():
    lost = studied(dictionary(SILENCED, taking=False))
    assert lost["", "", "silent"]["value"] > 0.2
    assert lost["", "", "absorption_rate"]["value"] < 0.02


def test_permuted_letters_and_random_dictionaries_have_no_letters(clean):
    kept = clean["", "", "letters_kept"]
    assert (kept["value"], kept["n"]) == (N_LETTERS, 26)
    assert kept["null"] == 0
    assert clean["", "", "letters_rare"]["value"] == 26 - N_LETTERS
    assert clean["", "", "probe_f1"]["null"] < 0.35
    assert clean["", "", "latent_f1"]["null"] < 0.35
    assert clean[RANDOM, "", "latent_f1"]["value"] < 0.7


def test_absorbing_latents_are_compared_with_letters_own(absorbing):
    assert absorbing["", "", "main_reappears"]["value"] == 1
    assert absorbing["", "", "absorber_reappears"]["value"] == 0
    found = absorbing["", "", "reappears_difference"]
    assert found["value"] == 1
    # Letters' latents are the most frequent: part of what sets them apart is that.
    assert 0 < found["null"] < 0.3
    assert (RANDOM, "", "reappears_difference") not in absorbing


def test_letters_that_are_rare_or_weak_are_left_out_and_counted():
    many = Limits(*LIMITS)._replace(letters_min_tokens=N_TOKENS)
    found = studied(dictionary(SILENCED, taking=True), many)
    assert {key[2]: row["value"] for key, row in found.items()} == {
        "letters_kept": 0,
        "letters_rare": 26,
        "letters_weak": 0,
    }
    noise = Split(5)
    noise.x = np.random.default_rng(6).standard_normal(noise.x.shape).astype(np.float32)
    of = dictionary(SILENCED, taking=True)
    rows = study({"seed1": of}, {"seed1": SEEN}, noise, noise, decode, LIMITS, "a test")
    by = {(row["letter"], row["quantity"]): row["value"] for row in rows if not row["init"]}
    assert by["", "letters_weak"] == N_LETTERS
    assert by["", "letters_kept"] == 0
    silent = Split(7)
    silent.token_n = np.ones_like(silent.token_n)
    with pytest.raises(UserError, match="planted: no token of a word"):
        study({"seed1": of}, {"seed1": SEEN}, silent, silent, decode, LIMITS, "a test")


def test_words_and_their_letters():
    assert words.letter_of(" Self") == words.letter_of("self") == words.LETTERS.index("s")
    for text in ("x", " 7up", "##ing", "a b", "don't", "é́tat", "", "  two"):
        assert words.letter_of(text) == words.NONE, text


def test_no_token_is_both_fitted_on_and_held_out_and_frequent_ones_do_not_drown_others():
    letter_i = words.letters_of(decode, np.array([*TEXTS, 1]))
    out = words.held_out(letter_i)
    assert all(out[letter_i == number].sum() == N_TOKENS // 3 for number in range(N_LETTERS))
    assert not out[letter_i == words.NONE].any()
    # Token 100 makes up nearly all rows.
    token_n = np.r_[np.full(5000, 100), np.repeat(np.arange(101, 110), 4)]
    chosen = words.choose(token_n, letter_i, np.ones_like(out), 40, "a test")
    counts = np.bincount(token_n[chosen] - 100)
    assert len(chosen) == 40
    assert (counts[1:] == 4).all()
    assert (np.diff(chosen) > 0).all()
    some = words.choose(token_n, letter_i, np.ones_like(out), 20, "a test")
    assert set(np.bincount(token_n[some] - 100)) == {2}


def test_permuted_letters_keep_their_numbers_of_ids_in_each_set():
    letter_i = words.letters_of(decode, np.array([*TEXTS, 1]))
    sets = [np.array(list(TEXTS)[:40]), np.array(list(TEXTS)[40:80])]
    found = words.permuted(letter_i, sets, "a test")
    for ids in sets:
        assert sorted(found[ids]) == sorted(letter_i[ids])
        assert (found[ids] != letter_i[ids]).any()
    assert (found[list(TEXTS)[80:]] == letter_i[list(TEXTS)[80:]]).all()


def test_bounded_paths_give_what_direct_ones_do():
    split = Split(8, n=500)
    letter_i = words.letters_of(decode, split.token_n)
    chosen = words.choose(split.token_n, letter_i, letter_i >= 0, 30, "a test")
    direct, bounded = (words.read(split, chosen, letter_i, rows) for rows in (500, 7))
    assert np.array_equal(direct.x, split.x[chosen])
    assert all(np.array_equal(a, b) for a, b in zip(direct, bounded, strict=True))
    of = dictionary(SILENCED, taking=True)
    coder = measure.Coder(of.encode, of.W_dec, of.b_dec)
    whole = of.encode(direct.x)
    for at_once in (1, 1000, 1 << 24):
        found = measure.encoded(coder, direct.x, at_once)
        assert np.allclose(found.toarray(), whole, atol=1e-5)


def test_probes_find_planted_directions_and_their_best_penalty():
    split = Split(9)
    at = split.token_n >= 100
    x, letter = split.x[at], (split.token_n[at] - 100) // N_TOKENS
    penalty = probes.choose_penalty(x, letter, words.folds(split.token_n[at], letter))
    found = probes.fit(x, letter, len(words.LETTERS), penalty)
    cosines = (found.directions()[:, :N_LETTERS] * BASIS[:N_LETTERS].T).sum(axis=0)
    assert (cosines > 0.75).all()
    other = Split(10)
    at = other.token_n >= 100
    said = found.logits(other.x[at]).argmax(axis=1)
    assert (said == (other.token_n[at] - 100) // N_TOKENS).mean() > 0.99
    # Letters that no row has are never said, and noise wants the largest penalty.
    assert (found.bias[N_LETTERS:] == -np.inf).all()
    rng = np.random.default_rng(11)
    noise = rng.standard_normal((400, 30)).astype(np.float32)
    letter = rng.integers(0, 3, 400)
    assert probes.choose_penalty(noise, letter, np.arange(400) % 4) == probes.PENALTIES[0]


def test_letters_split_over_two_latents_are_told_from_tokens():
    """Planted: a letter is split over two latents, one for either half of its token ids; a third fires on one token."""
    rng = np.random.default_rng(12)
    token = np.repeat(np.arange(60), 20)
    true, half = token < 20, token % 2
    h = np.zeros((len(token), 5))
    h[:, 0] = true & (half == 0)
    h[:, 1] = true & (half == 1)
    h[:, 2] = token == 3
    h[:, 3:] = rng.random((len(token), 2)) < 0.1
    h *= 1 + rng.random(h.shape)
    fold = words.folds(token, np.where(true, 0, 1))
    order = probes.ranked(h, true, 4)
    assert set(order[:2]) == {0, 1}
    assert probes.n_split(h[:, order], true, fold, 0.03) == 2
    # A latent of one token does nothing for the others.
    assert probes.n_split(h[:, [0, 2]], true, fold, 0.03) == 1
    assert probes.f1(probes.fires(h[:, :2], probes.logistic(h[:, :2], true)), true) == 1
    differences = probes.mean_differences(sparse.csr_matrix(h), np.where(true, 0, 1), 3)
    assert differences[0] == pytest.approx(h[true].mean(axis=0) - h[~true].mean(axis=0))
    assert (differences[2] == 0).all()


def test_absorbing_latents_pass_all_three_limits():
    limits = measure.Thresholds(1, 0.03, 0.6, 0.4)
    direction = np.array([1.0, 0, 0])
    decoder = np.array([[1.0, 0, 0], [0.5, 0.5, 0.5], [-1, 0, 0]])
    coder = measure.Coder(lambda x: x, decoder, np.array([1.0, 0, 0]))

    def taken(h, x):
        rows = sparse.csr_matrix(np.array([h], dtype=float))
        x_nd = np.array([[x, 0.0, 0.0]])
        return measure.absorbed(rows, x_nd, coder, direction, limits).tolist()

    # Of a row of 3, 2 are above the offset.
    assert taken([0.9, 0, 0], 3) == [0]
    assert taken([0.7, 0, 0], 3) == []
    # The second carries most, but points elsewhere (cosine .58).
    assert taken([0.9, 2, 0], 3) == []
    assert taken([0, 0, 1], 3) == []
    assert taken([0.9, 0, 0], 0.5) == []
    assert taken([0, 0, 0], 3) == []


def test_a_random_dictionary_has_the_wanted_l0():
    of = dictionary(SILENCED, taking=True)
    coder = random_coder(of, 5, "a test")
    h = coder.encode(Split(13, n=200).x)
    assert (np.count_nonzero(h, axis=1) == 5).all()
    assert coder.decoder.shape == of.W_dec.shape


def test_latents_are_compared_with_those_as_frequent():
    density = np.r_[0, np.linspace(0.01, 1, 200)]
    seen = Seen(density, (density > 0.5).astype(float))
    assert seen.as_often(np.array([200])) == 1
    assert seen.as_often(np.array([1])) == 0
    assert 0.3 < seen.as_often(np.array([100])) < 0.7
    assert np.isnan(seen.as_often(np.array([0])))


def test_intervals_hold_what_they_promise():
    """Coverage: letters, and from four seeds on seeds too, have effects of their own."""
    rng = np.random.default_rng(14)
    for n_seeds, effect in ((1, 0.0), (6, 0.1)):
        held = []
        for _ in range(200):
            of = 0.3 + rng.normal(0, 0.1, (15, 1)) + rng.normal(0, 1, (1, n_seeds)) * effect
            found = over(of + rng.normal(0, 0.02, (15, n_seeds)))
            held.append(found.low <= 0.3 <= found.high)
        assert np.mean(held) > 0.9, n_seeds
    few = over(np.array([[0.1], [0.2]]))
    assert few.value == pytest.approx(0.15)
    assert np.isnan(few.low)
    assert np.isnan(over(np.full((4, 2), np.nan)).value)


def test_the_page_says_what_was_found_and_what_cannot_be(absorbing, clean, tmp_path):
    cell = dict(zip(CELL, ("lm", 0, "final", "blocks.1.hook_mlp_out", "topk-x2"), strict=True))
    rare = [row for row in clean.values() if row["quantity"].startswith("letters_")]
    rare = [{**row, "value": 0.0} for row in rare]

    def said(rows):
        write_table(tmp_path / "absorption.csv", COLUMNS, [{**cell, **row} for row in rows])
        tables = t.read(tmp_path, ["absorption"])
        assert page.of_cohort(tables, "other") == {}
        return page.of_cohort(tables, "lm")

    found = said(absorbing.values())
    assert len(found["sentences"]) == len(found["rows"]) == 1
    assert len(found["rows"][0]["cells"]) == len(found["heads"])
    assert found["rows"][0]["cells"][0] == {"value": "6 of 26", "more": "20 with too few tokens"}
    (sentence,) = found["sentences"]
    assert "another one carries 0.33 (0.04 to 0.62)" in sentence
    assert "are found in fewer other SAEs than the letters' own: +1.00" in sentence
    assert "No letter has absorbing latents" in said(clean.values())["sentences"][0]
    assert "nothing can be said of its latents" in said(rare)["sentences"][0]
    same = pd.Series({"value": 0.1, "null": 0.0, "n": 5, "low": -0.1, "high": 0.3})
    assert "cannot be told" in page._compared(same)


def test_cohorts_that_read_no_text_have_no_cells():
    root = Path(__file__).parent.parent
    run = yaml.safe_load((root / "tests/smoke_lm.yaml").read_text())
    toys = yaml.safe_load((root / "config/smoke.yaml").read_text())
    run["cohorts"]["smoke-shared"] = toys["cohorts"]["smoke-shared"]
    run["steering"]["concepts"] = toys["steering"]["concepts"]
    sites = [run["cohorts"]["smoke-shared"]["sites"][0], *run["stability"]["sites"]]
    run["stability"]["sites"] = sites
    run["drift"] = None
    found = load_run(run)
    assert {cell.cohort for cell in plan.seeded_cells(found)} == set(run["cohorts"])
    assert {cell.cohort for cell in plan.absorbing(found)} == {"smoke-neox", "smoke-hub"}
    run["stability"]["absorption"] = None
    assert plan.absorbing(load_run(run)) == []
    assert "absorption" not in plan.tables(load_run(run))
