"""Text: the same documents always, each in one split."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from texts import (
    BASE,
    CLS,
    END,
    SEP,
    STDLIB,
    config,
    folder,
    hub,
    ids_of,
    make_tokenizer,
    prose,
    rows_of,
    split_of,
    tokenizer,
)

from crossseed.cohorts.base import SPLITS
from crossseed.cohorts.text import corpus, tokens
from crossseed.cohorts.text.config import (
    Corpus,
    FolderCorpus,
    HubCorpus,
    StdlibCorpus,
    TextTokens,
)
from crossseed.errors import UserError

__all__ = ["tokenizer"]


# --- config -----------------------------------------------------------------------------


def test_corpora_are_told_apart_by_source():
    adapter = TypeAdapter(Corpus)
    for found in (STDLIB, folder("x"), hub(name="en", revision="abc")):
        assert adapter.validate_python(found.model_dump()) == found
    with pytest.raises(ValidationError, match="'stdlib', 'folder', 'hub'"):
        adapter.validate_python({"source": "web", "min_characters": 0})


@pytest.mark.parametrize(
    "change", [{"context": 1}, {"fit": 0}, {"packing": "both"}, {"seed": -1}, {"extra": 1}]
)
def test_bad_token_settings_are_refused(change):
    with pytest.raises(ValidationError):
        config(**change)


def test_every_leaf_says_what_it_decides():
    for model in (StdlibCorpus, FolderCorpus, HubCorpus, TextTokens):
        for name, field in model.model_fields.items():
            assert field.description, (model, name)
            assert field.is_required(), (model, name)


# --- the same document ------------------------------------------------------------------

WORDS = st.lists(st.text("abcXYZéßİ0", min_size=1, max_size=5), max_size=8)
SPACE = st.text(" \t\n\u00a0", min_size=1, max_size=3)


@given(WORDS, st.lists(SPACE, min_size=9, max_size=9), st.integers(0, 2**40))
def test_white_space_and_case_do_not_move_a_document(words, spaces, seed):
    plain = " ".join(words)
    other = spaces[0] + "".join(
        word.casefold() + space for word, space in zip(words, spaces[1:], strict=False)
    )
    assert 0 <= corpus.part_of(plain, seed) < 1
    assert corpus.part_of(plain, seed) == corpus.part_of(other, seed)
    assert list(corpus.distinct([plain, other, plain + " more", other])) == [plain, plain + " more"]


def test_places_are_uniform_and_depend_on_the_seed():
    texts = [f"document {i}" for i in range(4000)]
    for seed in (0, 1):
        places = np.array([corpus.part_of(text, seed) for text in texts])
        share = np.histogram(places, bins=10, range=(0, 1))[0] / len(texts)
        assert np.abs(share - 0.1).max() < 0.025
    assert abs(np.corrcoef(places, [corpus.part_of(text, 0) for text in texts])[0, 1]) < 0.06


def test_the_largest_hash_stays_below_one(monkeypatch):
    monkeypatch.setattr(corpus, "entropy", lambda *name: 2**64 - 1)
    assert corpus.part_of("x", 0) < 1


# --- token sets -------------------------------------------------------------------------

MANY = prose(1, 900)
cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 1000),
        "context": st.integers(2, 24),
        "packing": st.sampled_from(["documents", "packed"]),
        "keep_first_position": st.booleans(),
        "fit": st.integers(1, 40),
        "train": st.integers(1, 40),
        "eval": st.integers(1, 40),
    }
)
several = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def naive(texts, tokenizer, spec, reserved):
    """Token sets in the plainest way, for documents without repetitions."""
    found, streams, seen = {s: [] for s in SPLITS}, {s: [] for s in SPLITS}, set()
    for text in texts:
        split = split_of(text, spec, reserved)
        if split is None or len(found[split]) == getattr(spec, split):
            continue
        ids = ids_of(tokenizer, text)
        if spec.packing == "packed":
            streams[split] += [*ids, tokenizer.eos_token_id]
        else:
            streams[split] = ids[: spec.context]
        while len(streams[split]) >= spec.context:
            row = tuple(streams[split][: spec.context])
            streams[split] = streams[split][spec.context :]
            if row not in seen and len(found[split]) < getattr(spec, split):
                found[split].append(row)
                seen.add(row)
    return found


@several
@given(cases, st.sampled_from([0.0, 0.3]))
def test_token_sets_are_those_of_the_plain_way(tokenizer, case, reserved):
    spec = config(**case)
    sets, used = tokens.token_sets(MANY, tokenizer, spec, reserved)
    assert rows_of(sets) == naive(MANY, tokenizer, spec, reserved)
    seen = {row for rows in rows_of(sets).values() for row in rows}
    for split, found in sets.items():
        asked = getattr(spec, split)
        assert found.tokens_nt.shape == (asked, spec.context)
        assert found.tokens_nt.dtype == np.uint16
        assert found.labels == {}
        assert found.keep_nt[:, 1:].all()
        assert (found.keep_nt[:, 0] == spec.keep_first_position).all()
    assert len(seen) == spec.fit + spec.train + spec.eval
    counted = ("reserved", "repeated", "too_short", "spare")
    assert used["documents_read"] == (
        sum(used[f"documents_{name}"] for name in counted)
        + sum(used["documents"].values())
        + (used["sequences_repeated"] if spec.packing == "documents" else 0)
    )
    assert json.loads(json.dumps(used)) == used


@several
@given(cases, st.integers(0, 1000), st.sampled_from([0.0, 0.4]))
def test_no_order_of_documents_moves_one_to_another_split(tokenizer, case, order, reserved):
    spec = config(**case | {"context": 12, "packing": "documents"})
    split_by_head = {
        tuple(ids[:12]): split_of(text, spec, reserved)
        for text in MANY
        if len(ids := ids_of(tokenizer, text)) >= 12
    }
    # Each twice, the second time spelt otherwise.
    texts = MANY + [text.upper().replace(" ", "\n") for text in MANY]
    texts = [texts[i] for i in np.random.default_rng(order).permutation(len(texts))]
    sets, _ = tokens.token_sets(MANY, tokenizer, spec, reserved)
    for split, rows in rows_of(sets).items():
        assert {split_by_head[row] for row in rows} == {split}
    shuffled, used = tokens.token_sets(texts, tokenizer, spec, reserved)
    place = {ids: split for split, rows in rows_of(shuffled).items() for ids in rows}
    for split, rows in rows_of(sets).items():
        assert {place.get(row, split) for row in rows} == {split}
    assert used["documents_read"] <= len(texts)


@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_repeated_documents_count_once(tokenizer, packing):
    spec = config(packing=packing, context=16)
    once, used_once = tokens.token_sets(MANY, tokenizer, spec)
    doubled = [text for text in MANY for _ in range(2)]
    twice, used_twice = tokens.token_sets(doubled, tokenizer, spec)
    for split in SPLITS:
        assert np.array_equal(once[split].tokens_nt, twice[split].tokens_nt)
    assert used_once["digest"] == used_twice["digest"]
    assert used_once["documents_repeated"] == 0 < used_twice["documents_repeated"]


def test_equal_beginnings_give_one_sequence(tokenizer):
    # Different documents that open with the same licence.
    licence = "sa ba da fa ga ka la ma na pa ra ta va za " * 3
    texts = [licence + text for text in MANY[:200]] + MANY[200:]
    sets, used = tokens.token_sets(texts, tokenizer, config())
    rows = [row for rows in rows_of(sets).values() for row in rows]
    assert len(set(rows)) == len(rows) == 45
    assert rows.count(tuple(ids_of(tokenizer, licence)[:8])) == 1
    assert used["sequences_repeated"] > 50


def test_used_documents_are_counted_and_digested(tokenizer):
    spec = config(context=16)
    sets, used = tokens.token_sets(MANY, tokenizer, spec)
    heads = {row for rows in rows_of(sets).values() for row in rows}
    mine = [t for t in MANY if tuple(ids_of(tokenizer, t)[:16]) in heads]
    assert used["documents"] == {split: getattr(spec, split) for split in SPLITS}
    for split in SPLITS:
        assert used["characters"][split] == sum(len(t) for t in mine if split_of(t, spec) == split)
    # A document that was not used changes nothing; one that was changes the digest.
    unused = MANY.index(next(t for t in MANY if t not in mine))
    others = [t for i, t in enumerate(MANY) if i != unused]
    assert tokens.token_sets(others, tokenizer, spec)[1]["digest"] == used["digest"]
    edited = [t + "!" if t == mine[0] else t for t in MANY]
    assert tokens.token_sets(edited, tokenizer, spec)[1]["digest"] != used["digest"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_batches_change_no_result(tokenizer, monkeypatch, size):
    spec = config(packing="packed")
    expected, used = tokens.token_sets(MANY, tokenizer, spec, 0.2)
    monkeypatch.setattr(tokens, "BATCH_DOCUMENTS", size)
    monkeypatch.setattr(tokens, "BATCH_CHARACTERS", 50 * size)
    found, also = tokens.token_sets(MANY, tokenizer, spec, 0.2)
    assert rows_of(found) == rows_of(expected)
    assert also["digest"] == used["digest"]


def test_a_stream_is_read_no_further_than_needed(tokenizer):
    def endless():
        i = 0
        while True:
            yield from prose(i, 100)
            i += 1

    _, used = tokens.token_sets(endless(), tokenizer, config())
    assert used["documents_read"] <= 2 * tokens.BATCH_DOCUMENTS


@several
@given(cases, st.floats(0.05, 0.6))
def test_reserved_documents_are_never_used(tokenizer, case, reserved):
    spec = config(**case)
    kept = list(tokens.reserved_documents(MANY, spec.seed, reserved))
    assert 0 < len(kept) < len(MANY)
    rest = [text for text in MANY if text not in set(kept)]
    sets, used = tokens.token_sets(MANY, tokenizer, spec, reserved)
    without, used_without = tokens.token_sets(rest, tokenizer, spec, reserved)
    assert rows_of(sets) == rows_of(without)
    assert used["digest"] == used_without["digest"]
    assert used_without["documents_reserved"] == 0 < used["documents_reserved"]


def test_nothing_is_reserved_unless_asked():
    assert list(tokens.reserved_documents(MANY, 0, 0.0)) == []
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="reserved"):
            tokens.token_sets(MANY, None, config(), share)


def test_special_tokens_stand_at_both_ends_of_a_document(tokenizer):
    sets, _ = tokens.token_sets(MANY, tokenizer, config(special_tokens=True))
    plain, _ = tokens.token_sets(MANY, tokenizer, config(context=6))
    cls, sep = tokenizer.convert_tokens_to_ids([CLS, SEP])
    for split in SPLITS:
        rows = sets[split].tokens_nt
        assert (rows[:, 0] == cls).all()
        assert (rows[:, -1] == sep).all()
        assert np.array_equal(rows[:, 1:-1], plain[split].tokens_nt)


def test_special_tokens_stand_around_each_packed_document(tokenizer):
    spec = config(special_tokens=True, packing="packed", fit=100, train=100, eval=100)
    sets, used = tokens.token_sets(MANY, tokenizer, spec)
    assert used["sequences_repeated"] == 0
    cls, sep, end = tokenizer.convert_tokens_to_ids([CLS, SEP, END])
    for split in SPLITS:
        row = sets[split].tokens_nt.ravel()
        at = np.flatnonzero(row[:-2] == sep)
        assert len(at) > 2
        assert (row[at + 1] == end).all()
        assert (row[at + 2] == cls).all()


def test_tokenizer_is_left_without_truncation(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    tokens.token_sets(MANY, tokenizer, config())
    assert tokenizer.backend_tokenizer.to_str() == before


def test_left_truncation_is_not_used_and_comes_back(tokenizer):
    expected, _ = tokens.token_sets(MANY, tokenizer, config())
    tokenizer.truncation_side = "left"
    try:
        found, _ = tokens.token_sets(MANY, tokenizer, config())
        assert tokenizer.truncation_side == "left"
    finally:
        tokenizer.truncation_side = "right"
    assert rows_of(found) == rows_of(expected)


def test_large_vocabularies_are_stored_as_int32():
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([f"<{i}>" for i in range(1 << 16)])
    sets, _ = tokens.token_sets(MANY, tokenizer, config())
    assert sets["fit"].tokens_nt.dtype == np.int32


def test_packing_needs_an_end_of_text_token():
    with pytest.raises(UserError, match=r"end-of-text token.*set packing: documents"):
        tokens.token_sets(MANY, make_tokenizer(end=None), config(packing="packed"))


def test_special_tokens_leave_room_for_text(tokenizer):
    with pytest.raises(UserError, match=r"context = 2 leaves no room .* the 2 special tokens"):
        tokens.token_sets(MANY, tokenizer, config(special_tokens=True, context=2))


def test_too_small_a_corpus_says_how_much_it_gave(tokenizer):
    specs = (config(seed=seed, fit=1, train=100, eval=5) for seed in range(100))
    spec = next(c for c in specs if "fit" in {split_of(text, c) for text in MANY[:60]})
    with pytest.raises(UserError) as error:
        tokens.token_sets(MANY[:60], tokenizer, spec)
    text = str(error.value)
    assert "ended after 60 documents" in text
    assert "of the 100 sequences of train" in text
    assert "sequences of fit" not in text
    assert "lower tokens.context or the sequences asked for" in text
    with pytest.raises(UserError, match=r"of train, .* of eval"):
        tokens.token_sets(MANY[:60], tokenizer, config(packing="packed", train=999, eval=999))
    with pytest.raises(UserError, match="gave no document"):
        tokens.token_sets([], tokenizer, config())


def test_documents_all_shorter_than_the_context_are_named_so(tokenizer):
    longest = max(len(ids_of(tokenizer, text)) for text in MANY)
    with pytest.raises(
        UserError, match=rf"none of the 900 .* 5000 tokens, the longest .* {longest};"
    ):
        tokens.token_sets(MANY, tokenizer, config(context=5000))


SAME_EVERYWHERE = """
import json, sys
from crossseed.cohorts.text import corpus, tokens
from crossseed.cohorts.text.config import TextTokens

class Bytes:
    name_or_path, eos_token_id, truncation_side = "bytes", 256, "right"
    def get_vocab(self): return {str(i): i for i in range(257)}
    def num_special_tokens_to_add(self): return 0
    @property
    def backend_tokenizer(self): return self
    def no_truncation(self): pass
    def __call__(self, texts, **options): return {"input_ids": [list(t.encode()) for t in texts]}

texts = list(corpus.documents(corpus.StdlibCorpus(source="stdlib", min_characters=200)))[:120]
spec = TextTokens.model_validate(json.loads(sys.argv[1]))
sets, used = tokens.token_sets(texts, Bytes(), spec, 0.1)
assert not {"transformers", "torch", "datasets", "pyarrow"} & set(sys.modules)
print(json.dumps([{s: f.tokens_nt.tolist() for s, f in sets.items()}, used]))
"""


def test_nothing_depends_on_the_hash_seed_and_nothing_slow_is_imported():
    spec = json.dumps(BASE | {"packing": "packed"})
    said = {
        subprocess.run(
            [sys.executable, "-c", SAME_EVERYWHERE, spec],
            env=os.environ
            | {
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(Path(corpus.__file__).parents[3]),
            },
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    }
    assert len(said) == 1
    assert len(said.pop()) > 1000
