"""Whether the members of a cohort are siblings, before any weight is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from crossseed.cohorts.hub import files, loading
from crossseed.cohorts.hub.loading import Shape
from crossseed.cohorts.hub.sentences import HubUnreachable
from crossseed.cohorts.hub.source import Source, named, offline, resolve
from crossseed.errors import UserError
from crossseed.store import canonical_json, write_table

COLUMNS = (
    "seed",
    "checkpoint",
    "model_id",
    "commit",
    "folder",
    "model_type",
    "width",
    "layers",
    "tokenizer",
)

T = TypeVar("T")
# Parts of a tokenizer's own file that decide the tokens of a text, beside the vocabulary.
RULES = ("normalizer", "pre_tokenizer", "model", "post_processor")


class Declared(NamedTuple):
    """What the configuration says of all members.

    Attributes:
        family: as in `crossseed.cohorts.hub.config.HubModel`. width: size of an activation vector.
        layers: number of blocks. context: positions of the sequences that they will read.
    """

    family: str
    width: int
    layers: int
    context: int


class Tokenizer(NamedTuple):
    """What is compared of a tokenizer.

    Attributes:
        vocabulary: id by token.
        digest: of all that decides the tokens of a text.
    """

    vocabulary: dict[str, int]
    digest: str


class _Config(NamedTuple):
    shape: Shape
    vocabulary: int


class _Location(NamedTuple):
    commit: str | None
    folder: str | None


def check(spec: Mapping[str, Any], members: Sequence[str], out: Path) -> None:
    """Checks members as a job's spec names them, and writes what was found as a CSV.

    Args:
        spec: ``family``, ``width``, ``layers`` of all members and the ``context`` they are read
            at; ``tokenizer``, the id of the model whose tokenizer is used; ``folder`` that holds
            them, or None.
        members: members as ``seed1/step1000=org/name@revision``.
        out: CSV to write, with `COLUMNS`.

    Raises:
        UserError: see `compare`.
    """
    folder = spec["folder"]
    named = []
    for member in members:
        name, model_id = member.split("=", 1)
        seed, checkpoint = name.removeprefix("seed").split("/")
        named.append((int(seed), checkpoint, Source(model_id, folder)))
    told = Declared(spec["family"], spec["width"], spec["layers"], spec["context"])
    write_table(out, COLUMNS, compare(named, told, Source(spec["tokenizer"], folder)))


def compare(
    members: list[tuple[int, str, Source]],
    told: Declared,
    tokenizer_from: Source,
) -> list[dict[str, Any]]:
    """Compares the members of a cohort with its declaration and with each other.

    Reads configurations and tokenizers; of the weights only whether they are there.

    Args:
        members: (seed, checkpoint, source) of each.
        told: what the members should be.
        tokenizer_from: the model whose tokenizer makes the tokens of all.

    Returns:
        A row a member with `COLUMNS`: ``commit`` on the hub or ``folder`` read, the other
        None; ``tokenizer`` is a digest of all that decides the tokens of a text.

    Raises:
        UserError: lists all that is wrong with any member, a line each.
        HubUnreachable: the hub does not answer; the first time ends the check.
    """
    problems: list[str] = []

    def attempt(read: Callable[[Source], T], source: Source) -> T | None:
        try:
            return read(source)
        except HubUnreachable:
            raise
        except UserError as error:
            problems.append(str(error))
            return None

    expected = attempt(tokenizer_of, tokenizer_from)
    first: tuple[str, Shape] | None = None
    rows: list[dict[str, Any]] = []
    for seed, checkpoint, source in members:
        config = attempt(_config, source)
        location = attempt(_location, source)
        same = source == tokenizer_from
        tokenizer = expected if same else attempt(tokenizer_of, source)
        said: list[str] = []
        if config is not None:
            first = first or (source.model_id, config.shape)
            said += _misfits(config.shape, first, told)
        if tokenizer is not None and expected is not None:
            said += _differences(tokenizer, expected, tokenizer_from.model_id)
        if config is not None and tokenizer is not None:
            said += _beyond(tokenizer, config.vocabulary)
        problems += [f"{named(source)}: {sentence}" for sentence in said]
        if config is not None and location is not None and tokenizer is not None:
            shape = config.shape
            member = (seed, checkpoint, source.model_id, *location)
            found = (shape.model_type, shape.width, shape.layers, tokenizer.digest)
            rows.append(dict(zip(COLUMNS, (*member, *found), strict=True)))
    if problems:
        # A tokenizer's source is a member as a rule, and would be named twice.
        raise UserError("\n".join(dict.fromkeys(problems)))
    return rows


def tokenizer_of(source: Source) -> Tokenizer:
    """The tokenizer of a model, as far as it is compared.

    Truncation and padding are left out, since those who tokenise set them; so are special tokens
    that no text gets, as of a chat: base models and their tuned twins differ in these.

    Raises:
        UserError: see `crossseed.cohorts.hub.loading.load_tokenizer`.
    """
    found = loading.load_tokenizer(source)
    vocabulary: dict[str, int] = found.get_vocab()
    backend = getattr(found, "backend_tokenizer", None)
    if backend is None:
        rules: dict[str, Any] = {"class": type(found).__name__}
    else:
        parts = json.loads(backend.to_str())
        rules = {part: parts.get(part) for part in RULES}
    text = canonical_json([rules, vocabulary, found.eos_token])
    return Tokenizer(vocabulary, hashlib.blake2b(text.encode(), digest_size=16).hexdigest())


def _config(source: Source) -> _Config:
    found = loading.load_config(source)
    return _Config(loading.shape_of(found), found.vocab_size)


def _location(source: Source) -> _Location:
    """Where a model was found; raises `UserError` unless its weights are there."""
    if source.folder is not None or offline():
        lacking = files.why_no_weights(source)
        if lacking is not None:
            raise UserError(f"{named(source)}: {lacking}")
        if source.folder is not None:
            return _Location(None, resolve(source)[0])
        return _Location(files.cached_commit(source), None)
    commit, there = files.hub_files(source)
    if there.isdisjoint(files.WEIGHT_FILES):
        raise UserError(
            f"{named(source)}: the hub lacks its weights (one of "
            f"{', '.join(files.WEIGHT_FILES)}); choose another model or revision"
        )
    return _Location(commit, None)


def _misfits(shape: Shape, first: tuple[str, Shape], told: Declared) -> list[str]:
    said = []
    if shape.declared_family != told.family:
        said.append(f"is of family {shape.declared_family}, but family = {told.family}")
    if shape.width != told.width:
        said.append(f"its hidden size is {shape.width}, but width = {told.width}; correct width")
    if shape.layers != told.layers:
        said.append(f"it has {shape.layers} layers, but layers = {told.layers}; correct layers")
    if told.context > shape.positions:
        said.append(
            f"it knows {shape.positions} positions, but tokens.context = {told.context}; lower context"
        )
    other_id, other = first
    for what in ("model_type", "width", "layers", "parallel"):
        mine, theirs = getattr(shape, what), getattr(other, what)
        if mine != theirs:
            said.append(
                f"is no sibling of {other_id!r}: {what} is {mine}, there {theirs}; take one of "
                "them out of the cohort"
            )
    return said


def _differences(tokenizer: Tokenizer, expected: Tokenizer, model_id: str) -> list[str]:
    """At most one sentence."""
    if tokenizer.digest == expected.digest:
        return []
    mine, theirs = tokenizer.vocabulary, expected.vocabulary
    differing = sorted(
        token for token in mine.keys() | theirs.keys() if mine.get(token) != theirs.get(token)
    )
    if differing:
        token = differing[0]
        example = f"{token!r} is {mine.get(token, 'absent')}, there {theirs.get(token, 'absent')}"
        how = f"{len(differing)} tokens differ, e.g. {example}"
    else:
        how = "the vocabulary is the same, but not the rules or the end-of-text token"
    return [
        f"its tokenizer is not that of {model_id!r}: {how}; the same text would give other "
        "tokens: take one of them out of the cohort"
    ]


def _beyond(tokenizer: Tokenizer, vocabulary: int) -> list[str]:
    """At most one sentence."""
    largest = max(tokenizer.vocabulary.values(), default=-1)
    if largest < vocabulary:
        return []
    return [
        f"its tokenizer gives ids up to {largest}, but the model has {vocabulary} embeddings; "
        "choose a model whose tokenizer is its own"
    ]
