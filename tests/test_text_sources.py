"""Text from the standard library, a folder or the hub, and sentences for what cannot be read."""

import json
import sys
import types

import numpy as np
import pytest
from texts import STDLIB, config, folder, hub, prose, tokenizer

from crossseed.cohorts.text import corpus, tokens
from crossseed.errors import UserError

__all__ = ["tokenizer"]


# --- the standard library ---------------------------------------------------------------


def test_standard_library_is_large_without_tests_and_always_the_same():
    texts = corpus.standard_library()
    assert sum(len(text) for text in texts.values()) > 5_000_000
    assert {"os.py", "json/decoder.py", "asyncio/tasks.py"} <= set(texts)
    assert list(texts) == sorted(texts)
    for name in texts:
        parts = set(name.split("/"))
        assert not parts & {"test", "tests", "idle_test", "site-packages", "dist-packages"}
        assert not name.rpartition("/")[2].startswith("test_")
        assert "_sysconfigdata" not in name
        assert "encodings" not in parts
    assert corpus.standard_library() == texts
    assert list(corpus.documents(STDLIB)) == [t for t in texts.values() if len(t) >= 200]


def planted_library(tmp_path, monkeypatch, files):
    for name, data in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))


def test_standard_library_leaves_out_what_is_not_its_own(tmp_path, monkeypatch):
    files = {
        "b.py": b"b = 2",
        "a/z.py": b"z = 1",
        "a.py": b"a = 1",
        "latin.py": b"# coding: latin-1\n# \xe9",
        "test/x.py": b"x",
        "a/tests/x.py": b"x",
        "site-packages/x.py": b"x",
        "_sysconfigdata__linux_.py": b"x",
        "sitecustomize.py": b"x",
        "notes.txt": b"x",
    }
    planted_library(tmp_path, monkeypatch, files)
    assert list(corpus.standard_library().items()) == [
        ("a.py", "a = 1"),
        ("a/z.py", "z = 1"),
        ("b.py", "b = 2"),
    ]


def test_a_python_without_sources_is_refused(tmp_path, monkeypatch):
    planted_library(tmp_path, monkeypatch, {"os.pyc": b"\0"})
    with pytest.raises(UserError, match="without the sources of its standard library"):
        list(corpus.documents(STDLIB))


# --- a folder ---------------------------------------------------------------------------


def test_folder_gives_its_files_in_sorted_order(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("hidden")
    (tmp_path / ".hidden.txt").write_text("hidden")
    (tmp_path / "sub" / "c.md").write_text("third")
    (tmp_path / "b.txt").write_text("\ufeffsecond\r\n", newline="")
    (tmp_path / "a.JSONL").write_text('{"text": "zero"}\n\n{"text": "one é", "n": 1}\n')
    (tmp_path / "z.py").symlink_to(tmp_path / "sub" / "c.md")
    assert list(corpus.documents(folder(tmp_path))) == [
        "zero",
        "one é",
        "second\r\n",
        "third",
        "third",
    ]
    assert list(corpus.documents(folder(tmp_path, min_characters=6))) == ["second\r\n"]


def test_parquet_files_give_a_document_a_row(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = prose(3, 3000, words=(3, 6))
    pq.write_table(pa.table({"body": texts, "n": range(3000)}), tmp_path / "x.parquet")
    assert list(corpus.documents(folder(tmp_path, text_field="body"))) == texts
    with pytest.raises(UserError, match=r"x\.parquet: has no 'text'; .* one of body, n"):
        list(corpus.documents(folder(tmp_path)))
    with pytest.raises(UserError, match=r"x\.parquet: row 1: 'n' is int, expected text"):
        list(corpus.documents(folder(tmp_path, text_field="n")))
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet: row 2: 'text' is null"):
        list(corpus.documents(folder(tmp_path)))
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "x.parquet")
    with pytest.raises(UserError, match=r"x\.parquet: is empty"):
        list(corpus.documents(folder(tmp_path)))
    (tmp_path / "x.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"x\.parquet: truncated, or not parquet"):
        list(corpus.documents(folder(tmp_path)))


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("a.txt", b"", r"a\.txt: is empty; fill it"),
        ("a.txt", b" \n", r"a\.txt: is empty; fill it"),
        ("a.jsonl", b"\n", r"a\.jsonl: is empty; fill it"),
        ("a.parquet", b"", r"a\.parquet: is empty; fill it"),
        ("a.txt", b"good\xff", r"a\.txt: not UTF-8 at byte 4 .*convert it to UTF-8"),
        ("a.txt", b"\xef\xbb\xbfgood\xff", r"a\.txt: not UTF-8 at byte 7"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xff"}', r"a\.jsonl: not UTF-8 at byte 24"),
        ("a.jsonl", b'{"text": "x"}\n{"text"', r"a\.jsonl: line 2 is not JSON"),
        ("a.jsonl", b'["x"]', r"a\.jsonl: line 1 is a list, expected an object"),
        ("a.jsonl", b'{"b": "x", "a": 1}', r"line 1: has no 'text'; .* one of a, b"),
        ("a.jsonl", b'{"text": null}', r"line 1: 'text' is null, expected text"),
        ("a.jsonl", b'{"text": "ab\\ud800"}', r"line 1: 'text' holds half a surrogate .* 2;"),
        (".a", b"hidden", r"holds no file"),
        ("a.txt", b"short", r"none of the 1 documents .* = 9 characters, the longest has 5;"),
    ],
)
def test_bad_files_are_named(tmp_path, name, data, sentence):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=sentence):
        list(corpus.documents(folder(tmp_path, min_characters=9)))


def test_bad_folders_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: does not exist; set the corpus's path"):
        list(corpus.documents(folder(tmp_path / "nowhere")))
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file: is a file, expected a folder"):
        list(corpus.documents(folder(tmp_path / "file")))
    (tmp_path / "file").unlink()
    with pytest.raises(UserError, match="holds no file"):
        list(corpus.documents(folder(tmp_path)))
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"broken: cannot be read \(No such file"):
        list(corpus.documents(folder(tmp_path)))


def test_an_unreadable_subfolder_is_named(tmp_path, monkeypatch):
    def walk(root, onerror):
        onerror(PermissionError(13, "Permission denied", f"{root}/sub"))

    monkeypatch.setattr(corpus.os, "walk", walk)
    with pytest.raises(UserError, match=r"sub: cannot be read \(Permission denied\)"):
        list(corpus.documents(folder(tmp_path)))


def test_parquet_without_pyarrow_names_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        UserError, match=r"x\.parquet.*pip install -c constraints\.txt -e '\.\[corpora\]'"
    ):
        list(corpus.documents(folder(tmp_path)))


# --- the hub ----------------------------------------------------------------------------


@pytest.fixture
def fake_datasets(monkeypatch):
    """Puts a stand-in for `datasets` in place, which gives rows or raises."""

    def put(rows=(), error=None):
        calls = []

        def load_dataset(dataset, **options):
            calls.append((dataset, options))
            if error is not None:
                raise error
            return iter(rows)

        module = types.ModuleType("datasets")
        module.load_dataset = load_dataset
        monkeypatch.setitem(sys.modules, "datasets", module)
        return calls

    return put


def test_hub_is_streamed_in_order_with_all_that_was_asked(fake_datasets):
    calls = fake_datasets([{"body": "first"}, {"body": "x"}, {"body": "second"}])
    found = corpus.documents(
        hub(name="en", split="dev", revision="abc", text_field="body", min_characters=2)
    )
    assert list(found) == ["first", "second"]
    options = {"name": "en", "split": "dev", "revision": "abc", "streaming": True}
    assert calls == [("some/pile", options)]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ConnectionError("Couldn't reach"), r"hub cannot be reached .* HF_HUB_OFFLINE=1 .*folder"),
        (TimeoutError("read"), r"hub cannot be reached \(TimeoutError: read\)"),
        (FileNotFoundError("doesn't exist"), r"not found at revision main.* check dataset"),
        (ValueError("Bad split: train. Available splits: ['dev']"), r"split = train .*\['dev'\]"),
        (ValueError("Compression type zstd not supported"), r"zstandard.*\[corpora\]"),
        (ImportError("Please pip install zstandard"), r"zstandard.*\[corpora\]"),
        (RuntimeError("scripts are no longer"), r"cannot be read \(RuntimeError: scripts"),
    ],
)
def test_what_the_hub_raises_becomes_a_sentence(fake_datasets, error, sentence):
    fake_datasets(error=error)
    with pytest.raises(UserError, match=f"dataset 'some/pile': .*{sentence}"):
        list(corpus.documents(hub()))


def test_bad_rows_of_the_hub_are_named(fake_datasets):
    fake_datasets([{"text": "fine"}, {"meta": 1, "body": "x"}])
    with pytest.raises(UserError, match=r"'some/pile': row 1: has no 'text'; .* body, meta"):
        list(corpus.documents(hub()))
    fake_datasets([{"text": None}])
    with pytest.raises(UserError, match="row 0: 'text' is null"):
        list(corpus.documents(hub()))
    fake_datasets([])
    with pytest.raises(UserError, match="'some/pile': holds no document"):
        list(corpus.documents(hub()))


def test_a_failure_of_the_reader_is_not_blamed_on_the_hub(fake_datasets):
    fake_datasets([{"text": "fine"}])
    with pytest.raises(ConnectionError, match="mine"):
        for _ in corpus.documents(hub()):
            raise ConnectionError("mine")


def test_hub_without_datasets_names_the_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        UserError, match=r"some/pile.*pip install -c constraints\.txt -e '\.\[corpora\]'"
    ):
        list(corpus.documents(hub()))


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_real_datasets_streams_local_files(tmp_path, monkeypatch, kind):
    pytest.importorskip("datasets")
    texts = prose(4, 50)
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": texts}), tmp_path / "train.parquet")
    else:
        (tmp_path / "train.jsonl").write_text(
            "".join(f"{json.dumps({'text': t})}\n" for t in texts)
        )
    assert list(corpus.documents(hub(dataset=str(tmp_path)))) == texts
    with pytest.raises(UserError, match=r"split = dev .*Available splits: \['train'\]"):
        list(corpus.documents(hub(dataset=str(tmp_path), split="dev")))
    with pytest.raises(UserError, match=r"name = en .*Available: \['default'\]"):
        list(corpus.documents(hub(dataset=str(tmp_path), name="en")))
    with pytest.raises(UserError, match="not found at revision main"):
        list(corpus.documents(hub(dataset=str(tmp_path / "nowhere"))))


def test_a_long_document_gives_no_more_than_its_share(tokenizer):
    texts = [" ".join(f"word{i}x{j}" for j in range(400)) for i in range(60)]
    spec = config(packing="packed", most_a_document=2, context=16, fit=10, train=10, eval=10)
    _, used = tokens.token_sets(texts, tokenizer, spec)
    for split, n in used["documents"].items():
        assert n >= 10 // 3, split  # two sequences a document, and its end-of-text token
    _, all_of_it = tokens.token_sets(
        texts, tokenizer, config(packing="packed", context=16, fit=10, train=10, eval=10)
    )
    assert all_of_it["documents"]["fit"] == 1


def test_packed_sequences_know_the_document_in_which_they_start(tokenizer):
    """Three documents of 20, 3 and 30 tokens, each with its end, cut into sequences of 8."""
    spec = config(packing="packed", most_a_document=None, context=8, fit=6, train=6, eval=6)
    sets = tokens._Sets(spec, 0.0, np.dtype(np.int32), 7)
    texts = []
    for n in (20, 3, 30):
        ids = [100 * n + i for i in range(n)]
        texts += [n] * (n + 1)
        sets.add(f"text {n}", "fit", ids)
    found = sets.result()["fit"]
    starts = [texts[8 * i] for i in range(6)]
    assert starts == [20, 20, 20, 3, 30, 30]
    assert found.document_n.tolist() == [0, 0, 0, 1, 2, 2]
