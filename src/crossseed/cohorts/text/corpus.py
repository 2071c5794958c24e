"""Documents of a corpus in a fixed order, and what decides where each of them goes.

Two documents count as the same if they differ in white space or letter case alone.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sysconfig
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, assert_never

from crossseed.cohorts.text.config import Corpus, FolderCorpus, HubCorpus, StdlibCorpus
from crossseed.errors import UserError
from crossseed.seeding import entropy

INSTALL = "pip install -c constraints.txt -e '.[corpora]'"
PARQUET_ROWS = 1024
TESTS_AND_PACKAGES = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
# A hundred tables of characters made by one script: near copies of each other, on both sides of
# every split.
NEAR_COPIES = {"encodings"}
# Written when Python was installed; they hold paths of the machine.
OF_THE_MACHINE = ("_sysconfigdata", "sitecustomize", "usercustomize")


def documents(corpus: Corpus) -> Iterator[str]:
    """Documents of a corpus, in an order that depends on nothing but the corpus.

    Raises:
        UserError: the corpus cannot be read, or all of its documents are too short.
    """
    n_short = longest = n_long = 0
    for text in _texts(corpus):
        if len(text) >= corpus.min_characters:
            n_long += 1
            yield text
        else:
            n_short += 1
            longest = max(longest, len(text))
    if not n_long and not n_short:
        raise UserError(f"{_place(corpus)}: holds no document; choose another corpus or split")
    if not n_long:
        raise UserError(
            f"{_place(corpus)}: none of the {n_short} documents has min_characters = "
            f"{corpus.min_characters} characters, the longest has {longest}; lower it, or choose "
            "another corpus"
        )


def _texts(corpus: Corpus) -> Iterator[str]:
    match corpus:
        case StdlibCorpus():
            yield from standard_library().values()
        case FolderCorpus():
            yield from _folder(Path(corpus.path).expanduser(), corpus.text_field)
        case HubCorpus():
            yield from _hub(corpus)
        case _:
            assert_never(corpus)


def _place(corpus: Corpus) -> str:
    match corpus:
        case StdlibCorpus():
            return "standard library"
        case FolderCorpus():
            return corpus.path
        case HubCorpus():
            return f"dataset {corpus.dataset!r}"
        case _:
            assert_never(corpus)


# --- the same document ------------------------------------------------------------------


def key_of(text: str) -> bytes:
    """16 bytes that equal documents share: white space collapsed, case folded."""
    normalised = " ".join(text.split()).casefold()
    return hashlib.blake2b(normalised.encode(), digest_size=16).digest()


def place_of(key: bytes, seed: int) -> float:
    """A document's place in [0, 1), from its `key_of` and a seed."""
    # 53 bits: a float holds no more, and 64 would round up to 1.
    return (entropy("document", seed, key.hex()) >> 11) / 2**53


def part_of(text: str, seed: int) -> float:
    """A document's place in [0, 1), uniform; equal documents have equal places."""
    return place_of(key_of(text), seed)


def distinct(documents: Iterable[str]) -> Iterator[str]:
    """Documents without repetitions, the first of each; keeps 16 bytes of each in memory."""
    seen: set[bytes] = set()
    for text in documents:
        key = key_of(text)
        if key not in seen:
            seen.add(key)
            yield text


# --- the standard library ---------------------------------------------------------------


def standard_library() -> dict[str, str]:
    """The standard library of the Python that runs, without tests, packages and near copies.

    Sources by path below its folder, in sorted order, read as UTF-8 whatever encoding they
    declare; those that are not are skipped.

    Raises:
        UserError: this Python comes without its sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    texts = {}
    for name in _files(root, TESTS_AND_PACKAGES | NEAR_COPIES):
        if not name.endswith(".py") or Path(name).name.startswith(OF_THE_MACHINE):
            continue
        data = (root / name).read_bytes()
        try:
            texts[name] = data.decode()
        except UnicodeDecodeError:
            continue
    if not texts:
        raise UserError(
            f"{root}: this Python comes without the sources of its standard library; choose a "
            "corpus with source: folder, or use a Python that has them"
        )
    return texts


# --- a folder ---------------------------------------------------------------------------


def _files(root: Path, left_out: Collection[str] = ()) -> list[str]:
    """Paths of files below a folder, relative to it, sorted; no name starts with a dot."""
    found = []
    for folder, names, files in os.walk(root, onerror=_unreadable):
        names[:] = [name for name in names if not name.startswith(".") and name not in left_out]
        for name in files:
            path = Path(folder, name)
            # A broken link is no file, but leaving it out silently would change the corpus.
            if not name.startswith(".") and (path.is_file() or path.is_symlink()):
                found.append(path.relative_to(root).as_posix())
    return sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    raise UserError(
        f"{error.filename}: cannot be read ({error.strerror}); mend its permissions, or move it "
        "out of the folder"
    ) from error


def _folder(root: Path, text_field: str) -> Iterator[str]:
    if not root.is_dir():
        what = "is a file, expected a folder" if root.exists() else "does not exist"
        raise UserError(f"{root}: {what}; set the corpus's path to a folder of text files")
    names = _files(root)
    if not names:
        raise UserError(
            f"{root}: holds no file (names that start with a dot do not count); put text, "
            ".parquet or .jsonl files there, or set another path"
        )
    for name in names:
        path = root / name
        n = 0
        try:
            for text in _file(path, text_field):
                n += 1
                yield text
        except OSError as error:
            raise UserError(
                f"{path}: cannot be read ({error.strerror or error}); mend it, or move it out of "
                "the folder"
            ) from error
        if not n:
            raise UserError(f"{path}: is empty; fill it, or move it out of the folder")


def _file(path: Path, text_field: str) -> Iterator[str]:
    """Documents of one file; none if it is empty."""
    if path.stat().st_size == 0:
        return
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path, text_field)
    elif path.suffix.lower() == ".jsonl":
        yield from _jsonl(path, text_field)
    else:
        text = _decoded(path, path.read_bytes())
        if text.strip():
            yield text


def _decoded(path: Path, data: bytes, start: int = 0) -> str:
    """Text of bytes that begin at byte `start` of a file, without a byte order mark."""
    if b"\0" in data:
        raise UserError(
            f"{path}: holds a NUL byte at byte {start + data.index(0)}, as no text does; convert it to UTF-8 text, or "
            "move it out of the folder"
        )
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {start + error.start} ({error.reason}); convert it to "
            "UTF-8, or move it out of the folder"
        ) from error


def _jsonl(path: Path, text_field: str) -> Iterator[str]:
    for where, row in jsonl_rows(path, text_field):
        yield value_of(row, text_field, where)


def jsonl_rows(path: Path, text_field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of a .jsonl file; `text_field` is for the example in a message.

    Raises:
        UserError: a line is not UTF-8, or holds no JSON object.
    """
    start = 0
    with open(path, "rb") as handle:
        for number, line in enumerate(handle, start=1):
            text = _decoded(path, line, start)
            start += len(line)
            if not text.strip():
                continue
            where = f"{path}: line {number}"
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{where} is not JSON ({error}); a .jsonl file has one JSON object a line"
                ) from error
            if not isinstance(row, dict):
                raise UserError(
                    f"{where} is a {type(row).__name__}, expected an object such as "
                    f'{{"{text_field}": "..."}}'
                )
            yield where, row


def _parquet(path: Path, text_field: str) -> Iterator[str]:
    pyarrow = _package("pyarrow", f"{path}: reading .parquet files")
    parquet = _package("pyarrow.parquet", f"{path}: reading .parquet files")
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if text_field not in columns:
                raise UserError(_no_field(str(path), text_field, columns))
            number = 0
            for batch in file.iter_batches(PARQUET_ROWS, columns=[text_field]):
                for row in batch.to_pylist():
                    number += 1
                    yield value_of(row, text_field, f"{path}: row {number}")
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: truncated, or not parquet ({error}); mend it, or move it out of the folder"
        ) from error


def value_of(row: dict[str, Any], text_field: str, where: str) -> str:
    """The text of a row.

    Raises:
        UserError: it has none, or something that is no text; `where` opens the sentence.
    """
    if text_field not in row:
        raise UserError(_no_field(where, text_field, row))
    text = row[text_field]
    if not isinstance(text, str):
        raise UserError(
            f"{where}: {text_field!r} is {'null' if text is None else type(text).__name__}, "
            "expected text; set text_field to the text, or drop such rows"
        )
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # JSON can spell half of a surrogate pair, which is no character.
        raise UserError(
            f"{where}: {text_field!r} holds half a surrogate pair at character {error.start}; "
            "drop it or write the whole character"
        ) from error
    return text


def _no_field(where: str, text_field: str, fields: Iterable[str]) -> str:
    return f"{where}: has no {text_field!r}; set text_field to one of {', '.join(sorted(fields))}"


def _package(name: str, purpose: str) -> Any:
    """An optional package, imported when it is needed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{purpose} needs a package ({error}); {INSTALL}") from error


# --- the hub ----------------------------------------------------------------------------


def _hub(corpus: HubCorpus) -> Iterator[str]:
    for where, row in hub_rows(corpus):
        yield value_of(row, corpus.text_field, where)


def hub_rows(corpus: HubCorpus) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of a dataset on the hub, in its stored order.

    Raises:
        UserError: the dataset cannot be read.
    """
    where = _place(corpus)
    datasets = _package("datasets", f"{where}: streaming from the hub")
    try:
        rows = datasets.load_dataset(
            corpus.dataset,
            name=corpus.name,
            split=corpus.split,
            revision=corpus.revision,
            streaming=True,
        )
        for number, row in enumerate(rows):
            yield f"{where}: row {number}", row
    except UserError:
        raise
    # Whatever `datasets` and the libraries below it raise is about the dataset or the network.
    except Exception as error:
        raise UserError(f"{where}: {_hub_sentence(corpus, error)}") from error


def _hub_sentence(corpus: HubCorpus, error: Exception) -> str:
    """What went wrong, and what to do."""
    said = f"{type(error).__name__}: {error}"
    if "zst" in str(error) and isinstance(error, (ImportError, ValueError)):
        return f"is compressed with zstandard, which is not installed ({said}); {INSTALL}"
    if isinstance(error, FileNotFoundError):
        return (
            f"not found at revision {corpus.revision or 'main'}, or not open to you ({said}); check "
            "dataset and revision, or log in with `hf auth login`"
        )
    if isinstance(error, ValueError):
        return (
            f"cannot be opened with name = {corpus.name} and split = {corpus.split} ({said}); "
            "check dataset, name and split"
        )
    if isinstance(error, OSError):
        return (
            f"the hub cannot be reached ({said}); connect to the network, set HF_HUB_OFFLINE=1 to "
            "use only what `datasets` has prepared in its cache, or choose a corpus with source: "
            "folder, which needs no network"
        )
    return f"cannot be read ({said}); mend that, or choose a corpus with source: folder"
