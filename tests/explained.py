"""Planted latents and text that tests of interpretability share."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import numpy as np
import pytest

from crossseed.interpret import (
    NGRAM,
    chat,
    explain,
    study,
)
from crossseed.interpret.latents import Latent, Settings
from crossseed.sae.dictionary import Dictionary

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
