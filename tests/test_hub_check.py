"""Whether members are siblings, before a weight is loaded; the hub, its refusals and its cache."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hub_folders import LAYERS, VOCABULARY, D, _save_tokenizer, copy, folder, low, source

from crossseed.cohorts.hub import check as checking
from crossseed.cohorts.hub import loading, members
from crossseed.cohorts.hub.check import compare
from crossseed.cohorts.hub.sentences import HubUnreachable
from crossseed.cohorts.hub.source import resolve
from crossseed.errors import UserError
from crossseed.store import write_table

__all__ = ["copy", "folder"]


# --- check ------------------------------------------------------------------------------


def run_check(root, *models, family="gpt_neox", width=D, layers=LAYERS, context=8):
    listed = [(i, "final", source(root, name)) for i, name in enumerate(models)]
    told = checking.Declared(family, width, layers, context)
    return compare(listed, told, source(root, models[0]))


DECLARED = {
    "neox": "gpt_neox",
    "neox-sequential": "gpt_neox_sequential",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "bert": "bert",
}


@pytest.mark.parametrize("name", DECLARED)
def test_check_refuses_every_family_but_the_models_own(folder, name):
    assert len(run_check(folder, name, family=DECLARED[name])) == 1
    for family in {*DECLARED.values()} - {DECLARED[name]}:
        with pytest.raises(
            UserError, match=f"is of family {DECLARED[name]}, but family = {family}"
        ):
            run_check(folder, name, family=family)


@pytest.mark.parametrize("name", ["neox", "gpt2", "llama", "bert"])
def test_check_refuses_a_context_longer_than_the_model_knows(folder, name):
    positions = loading.shape_of(loading.load_config(source(folder, name))).positions
    assert run_check(folder, name, family=DECLARED[name], context=positions)
    with pytest.raises(UserError, match=rf"knows {positions} positions, but tokens\.context = "):
        run_check(folder, name, family=DECLARED[name], context=positions + 1)


def test_special_tokens_of_a_chat_do_not_tell_siblings_apart(copy):
    root, path = copy()
    shutil.copytree(path, path.with_name("chat"))
    file = path.with_name("chat") / "tokenizer_config.json"
    told = json.loads(file.read_text()) | {"pad_token": "w1"}
    file.write_text(json.dumps(told))
    assert len(run_check(root, "neox", "chat")) == 2


def test_a_member_is_loaded_at_the_commit_of_its_check(folder, tmp_path, monkeypatch):
    table = tmp_path / "0.csv"
    row = dict.fromkeys(checking.COLUMNS, "")
    row |= {"seed": 1, "checkpoint": "final", "model_id": "lab/neox", "commit": COMMIT}
    write_table(table, checking.COLUMNS, [row])
    seen = []
    monkeypatch.setattr(members, "load_source", lambda source, *rest: seen.append(source))
    spec = {"seed": 1, "checkpoint": "final", "model_id": "lab/neox", "folder": None}
    members.load({**spec, "precision": "float32"}, [table], ["blocks.1.hook_resid_post"], "cpu")
    assert resolve(seen[0]) == ("lab/neox", COMMIT)
    with pytest.raises(UserError, match=r"0\.csv: has no row of 'lab/neox' \(seed 2, final\)"):
        members.load(
            {**spec, "seed": 2, "precision": "float32"},
            [table],
            ["blocks.1.hook_resid_post"],
            "cpu",
        )


def test_check_describes_siblings(folder, copy):
    root, path = copy()
    shutil.copytree(path, path.with_name("other"))
    rows = run_check(root, "neox", "other")
    assert [tuple(row) for row in rows] == [checking.COLUMNS] * 2
    digest = checking.tokenizer_of(source(root, "neox")).digest
    assert [tuple(row.values()) for row in rows] == [
        (i, "final", f"lab/{name}", None, str(root / "lab" / name), "gpt_neox", D, LAYERS, digest)
        for i, name in enumerate(("neox", "other"))
    ]
    # Truncation and padding are decided by those who tokenise.
    file = path.with_name("other") / "tokenizer.json"
    stored = json.loads(file.read_text())
    stored["truncation"] = {
        "direction": "Right",
        "max_length": 5,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    file.write_text(json.dumps(stored))
    assert len(run_check(root, "neox", "other")) == 2


def test_check_lists_all_that_is_wrong(folder, copy):
    root, path = copy()
    for name in ("rules", "words", "bare", "wide"):
        shutil.copytree(path, path.with_name(name))
    shutil.copytree(folder / "lab" / "neox-sequential", path.with_name("sequential"))
    shutil.copytree(folder / "lab" / "gpt2", path.with_name("gpt2"))
    _save_tokenizer(path.with_name("rules"), lowercase=True)
    _save_tokenizer(path.with_name("words"), tokens=VOCABULARY + 3, first="v0")
    (path.with_name("bare") / "tokenizer.json").unlink()
    (path.with_name("bare") / "model.safetensors").unlink()
    config = json.loads((path / "config.json").read_text())
    config |= {"hidden_size": 64, "num_hidden_layers": 1}
    (path.with_name("wide") / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as caught:
        run_check(root, "neox", "rules", "words", "bare", "wide", "sequential", "gpt2", "absent")
    said = str(caught.value).split("\n")
    expected = [
        ("rules", "tokenizer is not that of 'lab/neox': the vocabulary is the same, but not"),
        ("words", "is not that of 'lab/neox': 6 tokens differ, e.g. '<end>' is 63, there 60"),
        ("words", "its tokenizer gives ids up to 63, but the model has 61 embeddings"),
        ("bare", f"{path.with_name('bare')} lacks its weights"),
        ("bare", f"{path.with_name('bare')} lacks its tokenizer (one of tokenizer.json"),
        ("wide", "its hidden size is 64, but width = 32; correct width"),
        ("wide", "it has 1 layers, but layers = 3; correct layers"),
        ("wide", "is no sibling of 'lab/neox': width is 64, there 32"),
        ("wide", "is no sibling of 'lab/neox': layers is 1, there 3"),
        ("sequential", "is of family gpt_neox_sequential, but family = gpt_neox"),
        ("gpt2", "is of family gpt2, but family = gpt_neox"),
        ("sequential", "is no sibling of 'lab/neox': parallel is False, there True"),
        ("gpt2", "is no sibling of 'lab/neox': model_type is gpt2, there gpt_neox"),
        ("absent", f"expected the folder {root}/lab/absent with a config.json"),
    ]
    for name, part in expected:
        assert any(s.startswith(f"model 'lab/{name}': ") and part in s for s in said), (part, said)
    assert len(said) == len(expected) + 1  # gpt2 is no sibling in `parallel` either
    assert len(set(said)) == len(said)


# --- the hub ----------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: `lab/neox` at `step1`, and refusals."""

    root: Path

    def do_GET(self):
        self.answer(body=True)

    def do_HEAD(self):
        self.answer(body=False)

    def answer(self, body):
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        parts = parts[2:] if api else parts
        repository, rest = "/".join(parts[:2]), parts[2:]
        if repository == "lab/silent":
            return self.connection.close()
        if repository == "lab/gated":
            return self.reply(403, {"X-Error-Code": "GatedRepo"})
        if repository == "lab/busy":
            return self.reply(503, {})
        if repository == "lab/odd":
            return self.reply(418, {})
        if repository not in ("lab/neox", "lab/bare"):
            return self.reply(404, {"X-Error-Code": "RepoNotFound"})
        if len(rest) > 1 and rest[1] not in ("step1", COMMIT):
            return self.reply(404, {"X-Error-Code": "RevisionNotFound"})
        path = self.root / "lab" / "neox"
        there = {file.name for file in path.iterdir()}
        if repository == "lab/bare":
            there -= {"model.safetensors", "tokenizer.json"}
        if api and rest[:1] == ["tree"]:  # of a folder; there are none
            return self.reply(404, {"X-Error-Code": "EntryNotFound"})
        if api:
            files = [{"rfilename": name} for name in sorted(there)]
            found = {"_id": "0", "id": repository, "sha": COMMIT, "siblings": files}
            return self.reply(200, {}, json.dumps(found).encode(), body)
        if rest[2] not in there:
            return self.reply(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{repository}-{rest[2]}"'}
        return self.reply(200, headers, (path / rest[2]).read_bytes(), body)

    def reply(self, status, headers, content=b"", body=True):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *_):
        pass


ASK = """
import json, sys, time
time.sleep = lambda seconds: None  # the client waits long before it tries again
from crossseed.cohorts.hub import files, loading, members
from crossseed.cohorts.hub.check import Declared, compare
from crossseed.cohorts.hub.source import Source
from crossseed.errors import UserError
from crossseed.store import write_table

SITE = "blocks.1.hook_resid_post"
found = {}
for model_id in sys.argv[1:]:
    source = Source(model_id)
    for name, call in {
        "load": lambda: members.load_source(source, [SITE], "float32", "cpu").digest,
        "tokenizer": lambda: len(loading.load_tokenizer(source)),
        "files": lambda: files.hub_files(source)[0],
        "check": lambda: compare([(1, "step1", source)], Declared("gpt_neox", 32, 3, 8), source),
    }.items():
        try:
            found[f"{model_id} {name}"] = call()
        except UserError as error:
            found[f"{model_id} {name}"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def ask(home, endpoint, *model_ids, **environment):
    """What loading and checking say in a process of its own, since its client is set up once."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith("HF_") and "PROXY" not in k.upper()
    }
    kept |= {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1"}
    found = subprocess.run(
        [sys.executable, "-c", ASK, *model_ids],
        env=kept | environment,
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def test_the_hub_its_refusals_and_its_cache(folder, tmp_path):
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), type("OfFolder", (Hub,), {"root": folder})
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    good, wrong, bare = "lab/neox@step1", "lab/neox@step7", "lab/bare@step1"
    refused = "lab/busy", "lab/odd", "lab/silent"
    try:
        said = ask(tmp_path, endpoint, good, wrong, "lab/gated", "lab/none", bare, *refused)
    finally:
        server.shutdown()
        server.server_close()
    local = low(folder)
    assert said[f"{good} load"] == local.digest
    assert said[f"{good} tokenizer"] == VOCABULARY
    (row,) = said[f"{good} check"]
    assert (row["commit"], row["folder"], row["layers"]) == (COMMIT, None, LAYERS)
    assert row["tokenizer"] == checking.tokenizer_of(source(folder, "neox")).digest
    for model_id, part in (
        (wrong, "has no revision 'step7'; choose one of the branches or tags"),
        ("lab/gated", "is gated; accept its terms on the model's page, lab/gated, and log in"),
        ("lab/none", "the hub has no model 'lab/none', or it is private; correct the name"),
        ("lab/odd", "the hub answers with HTTP status 418; check the model's page"),
    ):
        for call in ("load", "tokenizer", "check"):
            text = said[f"{model_id} {call}"]
            assert text.startswith(f"UserError: model {model_id!r}: "), text
            assert part in text, text
    text = said["lab/busy load"]
    assert text == (
        "HubUnreachable: model 'lab/busy': the hub answers with HTTP status 503; try again later"
    )
    for call in ("load", "tokenizer", "files", "check"):
        text = said[f"lab/silent {call}"]
        assert text.startswith("HubUnreachable: model 'lab/silent': the hub cannot be reached (")
        assert "set HF_HUB_OFFLINE=1 to use only the hub's cache, or set `folder`" in text
    assert "no weights were found" in said[f"{bare} load"]
    assert "the hub lacks its tokenizer" in said[f"{bare} tokenizer"]
    assert "the hub lacks its tokenizer" in said[f"{bare} check"]
    assert "the hub lacks its weights" in said[f"{bare} check"]

    # The same cache, without the hub.
    offline = ask(tmp_path, endpoint, good, "lab/other@step1", bare, HF_HUB_OFFLINE="1")
    for call in ("load", "tokenizer", "check"):
        assert offline[f"{good} {call}"] == said[f"{good} {call}"]
    for call in ("load", "check"):
        text = offline[f"lab/other@step1 {call}"]
        assert "HF_HUB_OFFLINE is set and the hub's cache does not hold it" in text
        assert "`hf download lab/other --revision step1`" in text
    text = offline["lab/other@step1 tokenizer"]
    assert "the hub's cache lacks its tokenizer" in text
    assert "fetch it with `hf download lab/other --revision step1`" in text
    # Only its configuration was downloaded.
    text = offline[f"{bare} load"]
    assert "the hub's cache lacks its weights" in text
    assert "`hf download lab/bare --revision step1`" in text


def test_a_hub_that_does_not_answer_ends_the_check_at_once(folder, monkeypatch):
    """Its silence says nothing of the members, and each would wait for it anew."""
    asked = []

    def silent(source):
        asked.append(source)
        raise HubUnreachable("no answer")

    monkeypatch.setattr(loading, "load_tokenizer", silent)
    with pytest.raises(HubUnreachable):
        run_check(folder, "neox", "other")
    assert len(asked) == 1
