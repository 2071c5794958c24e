"""Interpretability of latents: planted patterns are found, planted noise is not, and scorers fail in the ways they can."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import language_models
import numpy as np
import pandas as pd
import pytest

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
    embeddings,
    explain,
    ngrams,
    steps,
    study,
)
from crossseed.interpret import contexts as c
from crossseed.interpret.latents import Latent, Settings
from crossseed.interpret.scores import NO_EXPLANATION, NOT_REACHED
from crossseed.report import interpret as report
from crossseed.report import tables as t
from crossseed.sae.dictionary import Dictionary
from crossseed.stability import CELL

LETTERS = "abcdefghijkl"
LENGTH, CONTEXT = 33, 8
BIGRAM, UNIGRAM, NOISE, PARITY = range(4)


def words(ids):
    return [LETTERS[token] for token in ids]


class Planted:
    """A split of random letters, and as activations what planted latents do.

    Latent 0 fires at d after c, 1 at e, 2 at random as often as 1, 3 at f where the number of g before it is odd.
    """

    path = "planted"

    def __init__(self, seed, sequences=500, latents=4):
        rng = np.random.default_rng(seed)
        tokens = rng.integers(len(LETTERS), size=(sequences, LENGTH))
        before = np.c_[np.full(sequences, -1), tokens[:, :-1]]
        odd = np.cumsum(tokens == 6, axis=1) % 2 == 1
        patterns = [
            (before == 2) & (tokens == 3),
            tokens == 4,
            rng.random(tokens.shape) < 1 / len(LETTERS),
            (tokens == 5) & odd,
        ]
        patterns += [tokens == k % len(LETTERS) for k in range(4, latents)]
        strength = 1 + rng.random((sequences, LENGTH))
        self.x = np.stack([(of * strength).ravel() for of in patterns], axis=1).astype(np.float32)
        self.n_tokens, self.width = self.x.shape
        self.sequence_n, self.position_n = np.divmod(np.arange(self.n_tokens), LENGTH)
        # Two sequences a document.
        self.document_n, self.token_n = self.sequence_n // 2, tokens.ravel()

    def rows(self, part):
        return self.x[part]


def dictionary(n):
    cfg = {"metadata": {"crossseed": {"architecture": "relu_l1"}}}
    eye, zero = np.eye(n, dtype=np.float32), np.zeros(n, np.float32)
    return Dictionary(eye, zero, eye, zero, cfg, "", MappingProxyType({}))


SETTINGS = Settings(
    latents=20, tokens=10**6, context=CONTEXT, train_examples=20, test_examples=50,
    least_windows=20, order=3, sides="left",
)  # fmt: skip
LATENTS = [
    Latent(BIGRAM, 3, 0.01, 0, True),
    Latent(UNIGRAM, 2, 0.08, 1, True),
    Latent(NOISE, 1, 0.08, 2, False),
    Latent(PARITY, 1, 0.04, 3, False),
]


def studied(scorer=None, embed=None, settings=SETTINGS, latents=LATENTS, splits=None):
    n = max(latent.number for latent in latents) + 1
    splits = splits or (Planted(0, latents=n), Planted(1, latents=n))
    both = [dictionary(n)] * 2
    return study.study(settings, both, latents, splits, words, scorer, embed, "a test")


def by_latent(rows, scorer=NGRAM):
    return {(r["latent"], r["quantity"]): r for r in rows if r["scorer"] == scorer}


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


# --- language models --------------------------------------------------------------------


def oracle(prompt, wrong=False):
    """Answers as a perfect scorer of `cd` and single letters would, or always the opposite."""
    lines = re.findall(r"(?m)^\d+: (.*)$", prompt)
    if explain.FORM in prompt:
        two = {text for line in lines for text in re.findall(r"(.)<<(.)>>", line)}
        pattern = "cd" if two == {("c", "d")} else re.search(r"<<(.)", lines[0]).group(1)
        return f"They follow a rule.\n{explain.FORM} the text {pattern}"
    pattern = re.search(r"of this kind: the text (\w+)", prompt).group(1)
    said = []
    for line in lines:
        if "<<" in prompt.split("\n\n")[1]:
            text = re.sub("<<|>>", "", line)
            at = [m.start() for m in re.finditer(r"[a-z]", line)]
            inside, open_ = [], False
            for sign in re.findall(r"<<|>>|[a-z]", line):
                if sign in ("<<", ">>"):
                    open_ = sign == "<<"
                else:
                    inside.append(open_)
            assert len(at) == len(inside)
            ends = [m.start() + len(pattern) - 1 for m in re.finditer(pattern, text)]
            yes = all(k in ends for k, here in enumerate(inside) if here)
        else:
            yes = pattern in line
        said.append(int(yes != wrong))
    return json.dumps(said)


class Server:
    """An endpoint; `mode` says what it does, `asked` what it was asked."""

    def __init__(self):
        self.mode, self.asked, self.failures, self.keys = "right", 0, 0, set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.asked += 1
                server.keys.add(self.headers.get("Authorization"))
                assert self.path == "/v1/chat/completions"
                assert body["temperature"] == 0
                if server.mode == "moved":
                    self.send_response(302)
                    self.send_header("Location", f"http://127.0.0.1:{server.port}/elsewhere")
                    self.end_headers()
                    return
                if server.failures:
                    server.failures -= 1
                    self.send_error(500)
                    return
                if server.mode == "forbidden":
                    self.send_error(401, "Incorrect key: secret")
                    return
                prompt = body["messages"][0]["content"]
                answer = {"garbage": "I would say so."}.get(server.mode)
                answer = answer or oracle(prompt, wrong=server.mode == "wrong")
                found = {"choices": [{"message": {"role": "assistant", "content": answer}}]}
                data = b"{}" if server.mode == "no protocol" else json.dumps(found).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch):
    found = Server()
    monkeypatch.setenv(chat.URL, f"http://127.0.0.1:{found.port}/v1/")
    monkeypatch.setenv(chat.KEY, "secret")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(chat, "FIRST_WAIT_SECONDS", 0.0)
    yield found
    found.http.shutdown()
    found.http.server_close()


FEW = SETTINGS._replace(test_examples=10, train_examples=8)


def test_an_endpoint_that_is_right_scores_what_can_be_told(server):
    found = studied(("model", chat.endpoint("m")), settings=FEW)
    by = by_latent(found.rows, "model")
    for latent in (BIGRAM, UNIGRAM):
        for quantity in (DETECTION, FUZZING):
            assert by[latent, quantity]["value"] == 1
            assert by[latent, quantity]["n"] == 20
    assert by[NOISE, DETECTION]["value"] < 0.85
    # Explained by what other latents fire at.
    assert np.mean([row["null"] for row in by.values()]) < 0.75
    assert server.keys == {"Bearer secret"}
    told = {(of["scorer"], of["latent"]): of["explanation"] for of in found.explanations}
    assert told["model", BIGRAM] == "the text cd"
    assert {of["scorer"] for of in found.explanations} == {NGRAM, "model"}


def test_an_endpoint_that_is_wrong_scores_nothing_and_one_that_babbles_is_not_scored(server):
    server.mode = "wrong"
    by = by_latent(studied(("model", chat.endpoint("m")), settings=FEW).rows, "model")
    assert by[BIGRAM, DETECTION]["value"] == 0
    server.mode = "garbage"
    by = by_latent(studied(("model", chat.endpoint("m")), settings=FEW).rows, "model")
    assert np.isnan(by[BIGRAM, DETECTION]["value"])
    assert by[BIGRAM, DETECTION]["note"] == NO_EXPLANATION


def test_an_endpoint_that_fails_twice_is_asked_again(server):
    server.failures = 2
    waited = []
    model = chat.Endpoint(f"http://127.0.0.1:{server.port}/v1", "", "m", waited.append)
    assert explain.read_explanation(model.ask(explain.explaining(["ab<<e>>"]))) == "the text e"
    assert server.asked == 3
    assert len(waited) == 2
    assert server.keys == {None}


@pytest.mark.parametrize("mode", ["down", "forbidden", "no protocol", "moved"])
def test_without_its_scorer_a_run_goes_on_and_says_so(server, mode, capsys):
    server.mode = mode
    if mode == "down":
        server.http.shutdown()
        server.http.server_close()
    found = studied(("model", chat.endpoint("m")), settings=FEW)
    by = by_latent(found.rows, "model")
    assert all(np.isnan(row["value"]) and np.isnan(row["null"]) for row in by.values())
    assert all(row["note"].startswith(NOT_REACHED) for row in by.values())
    assert by_latent(found.rows)[BIGRAM, DETECTION]["value"] >= 0.9
    steps = {(r["scorer"], r["quantity"], r["part"]): r for r in found.steps}
    assert np.isnan(steps["model", DETECTION, "step"]["value"])
    assert steps["model", DETECTION, "step"]["note"].startswith(NOT_REACHED)
    # A wrong key is not tried again; neither it nor the address is told.
    said = capsys.readouterr().out + json.dumps(found.rows)
    assert "the scores by n-grams stand" in said
    assert "secret" not in said
    assert str(server.port) not in said
    # Eight at a time; in the worst case all of a batch were under way.
    assert server.asked <= len(LATENTS) * (1 if mode in ("forbidden", "moved") else chat.TRIES)


def test_a_scorer_that_is_lost_midway_keeps_what_it_said(server):
    class Breaking(chat.Endpoint):
        batches = 0

        def ask_all(self, prompts):
            self.batches += 1
            if self.batches > 5:
                raise chat.NotReached("HTTP status 500")
            return super().ask_all(prompts)

    model = Breaking(f"http://127.0.0.1:{server.port}/v1", "", "m")
    rows = [r for r in studied(("model", model), settings=FEW).rows if r["scorer"] == "model"]
    told = [row for row in rows if np.isfinite(row["value"])]
    assert len(told) == 2
    assert all(row["note"].startswith(NOT_REACHED) for row in rows if row not in told)


def test_a_killed_job_asks_nothing_twice(server, tmp_path):
    def model(identity="m"):
        return chat.Remembered(chat.endpoint("m"), tmp_path / ".out.csv.resume", identity)

    first = studied(("model", model()), settings=FEW)
    asked = server.asked
    assert asked > 20
    # The last line was being written.
    lines = model().path.read_text().splitlines()
    model().path.write_text("\n".join([*lines[:-1], lines[-1][:9]]))
    second = studied(("model", model()), settings=FEW)
    assert server.asked == asked + 1
    assert repr(second.rows) == repr(first.rows)
    assert model("another").ask(explain.explaining(["ab<<e>>"])) is not None
    assert "secret" not in model().path.read_text()
    model().forget()
    assert not list(tmp_path.iterdir())


def test_an_endpoint_needs_an_address(monkeypatch):
    monkeypatch.delenv(chat.URL, raising=False)
    with pytest.raises(UserError, match=f"no {chat.URL}.*{chat.KEY}"):
        chat.endpoint("m")
    for address in ("file:///etc/passwd", "localhost:9"):
        monkeypatch.setenv(chat.URL, address)
        with pytest.raises(UserError, match="no address of http") as told:
            chat.endpoint("m")
        assert address not in str(told.value)


@pytest.mark.parametrize(
    "answer",
    ["", "yes", "[1, 0", "[1, 0]", "[1, 0, 1, 1]", "[1, 0, 2]", "[true, false, true]", "Sure: [1, 0, 1]", '["1", 0, 1]', "{}"],
)  # fmt: skip
def test_malformed_answers_count_as_none(answer):
    assert explain.read_answers(answer, 3) is None


def test_well_formed_answers_are_read():
    assert explain.read_answers(" [1, 0,1]\n", 3) == [True, False, True]
    assert explain.read_explanation(f"a\n{explain.FORM} dogs \n") == "dogs"
    for answer in ("dogs", explain.FORM, f"{explain.FORM} dogs\nAnd cats."):
        assert explain.read_explanation(answer) is None


def test_marks_stand_around_runs_and_excerpts_stand_on_one_line():
    marks = np.array([1, 1, 0, 1], dtype=bool)
    assert explain.marked(["a", "b", "\n", "d"], marks) == "<<ab>>\n<<d>>"
    prompt = explain.explaining([explain.marked(["a", "b", "\n", "d"], marks)])
    assert "1: <<ab>> ⏎ <<d>>" in prompt


# --- models of transformers -------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A tiny causal model that says nothing, with a context long enough for questions."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = language_models.train_tokenizer(
        ["a text of few words, again and again"] * 3, vocabulary=280
    )
    language_models.write_models(folder, ["org/short", "org/long"], tokenizer)
    config = json.loads((folder / "org/long/config.json").read_text())
    config["max_position_embeddings"] = 8192
    (folder / "org/long/config.json").write_text(json.dumps(config))
    return folder / "org"


def test_a_local_model_is_asked_greedily(tiny, monkeypatch):
    monkeypatch.setattr(chat, "ANSWER_TOKENS", 4)
    model = chat.Local(str(tiny / "long"), "cpu")
    assert model.ask("Say something.") == model.ask_all(["Say something."])[0]
    found = studied(("local tiny", model), settings=FEW)
    by = by_latent(found.rows, "local tiny")
    # Random weights follow no form; the table says so.
    assert {row["note"] for row in by.values()} == {NO_EXPLANATION}
    with pytest.raises(UserError, match=r"do not fit into the 256 of its context"):
        chat.Local(str(tiny / "short"), "cpu").ask("word " * 400)
    with pytest.raises(UserError, match=r"stability\.interpret\.model.*no causal language model"):
        chat.Local(str(tiny / "none"), "cpu")


def test_sentences_are_embedded_one_by_one_or_together(tiny):
    texts = ["a text", "few words, again and again and again", "a text"]
    together = embeddings.embed(str(tiny / "long"), texts, "cpu")
    alone = np.concatenate([embeddings.embed(str(tiny / "long"), [x], "cpu") for x in texts])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.allclose(np.linalg.norm(together, axis=1), 1)
    assert together[0] @ together[2] == pytest.approx(1)
    assert together[0] @ together[1] < 0.999
    with pytest.raises(UserError, match=r"stability\.interpret\.embeddings"):
        embeddings.embed(str(tiny / "none"), texts, "cpu")


def bag(texts):
    """Embeds by which quoted n-grams and letters a text names."""
    names = sorted({name for text in texts for name in re.findall(r"\w+", text)})
    found = np.array(
        [[name in re.findall(r"\w+", text) for name in names] for text in texts], float
    )
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_partners_are_alike_where_they_are_shared():
    # The second SAE is the first one; latents 6 and 7 have each other as partner.
    latents = [
        *LATENTS[:2],
        Latent(6, 1, 0.08, 7, False),
        Latent(7, 1, 0.08, 6, False),
    ]
    rows = {
        row["part"]: row
        for row in studied(embed=bag, latents=latents).steps
        if row["quantity"] == "explanation_cosine"
    }
    assert rows["shared"]["value"] == pytest.approx(1)
    assert rows["shared"]["null"] < 0.6
    assert rows["unshared"]["value"] < 0.8
    # Explanations find the true partners that the matching did not have.
    assert rows["by_explanation"]["value"] > rows["by_explanation"]["null"]
    assert rows["by_explanation"]["value"] == pytest.approx(1)


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
