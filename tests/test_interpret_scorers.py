"""Language models as scorers of explanations, which fail in the ways they can."""

from __future__ import annotations

import json
import re

import language_models
import numpy as np
import pytest
from explained import BIGRAM, FEW, LATENTS, NOISE, UNIGRAM, by_latent, server, studied

from crossseed.errors import UserError
from crossseed.interpret import (
    DETECTION,
    FUZZING,
    NGRAM,
    chat,
    embeddings,
    explain,
)
from crossseed.interpret.latents import Latent
from crossseed.interpret.scores import NO_EXPLANATION, NOT_REACHED

__all__ = ["server"]


# --- language models --------------------------------------------------------------------


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
