"""The task generator and labeller against a plain stack machine."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crossseed.cohorts.dyck import task

LENGTHS = (2, 62)


def stack_machine(row):
    """The labels by definition, one token at a time."""
    stack, invalid, depths, flags = [], 0, [], []
    for token in row:
        if token >= 3 and not invalid:
            family, closes = divmod(int(token) - 3, 2)
            if not closes and len(stack) < 8:
                stack.append(family)
            elif closes and stack and stack[-1] == family:
                stack.pop()
            else:
                invalid = 1
        depths.append(len(stack))
        flags.append(invalid)
    return depths, flags


rows = st.lists(st.integers(0, 8), min_size=1, max_size=64)
openers_first = st.builds(lambda n, rest: [3] * n + rest, st.integers(0, 10), rows).map(
    lambda row: row[:64]
)


@settings(max_examples=300, deadline=None)
@given(st.one_of(rows, openers_first))
def test_labels_equal_a_stack_machine(row):
    found = task.label(np.array([row], dtype=np.uint8))
    depths, flags = stack_machine(row)
    assert found.depth_nt[0].tolist() == depths
    assert found.valid_nt[0].tolist() == flags


@pytest.mark.parametrize("distribution", task.DISTRIBUTIONS)
def test_sampled_rows_are_labelled_like_a_stack_machine(distribution):
    tokens = task.sample(np.random.default_rng(1), 300, distribution, LENGTHS)
    found = task.label(tokens)
    for row, depths, flags in zip(tokens, found.depth_nt, found.valid_nt, strict=True):
        assert (depths.tolist(), flags.tolist()) == stack_machine(row)


@pytest.mark.parametrize("distribution", task.DISTRIBUTIONS)
def test_rows_are_bos_content_eos_pad(distribution):
    tokens = task.sample(np.random.default_rng(2), 500, distribution, LENGTHS)
    assert tokens.shape == (500, task.CONTEXT)
    for row in tokens:
        length = int((row != task.PAD).sum())
        assert row[0] == task.BOS
        assert row[length - 1] == task.EOS
        assert (row[length:] == task.PAD).all()
        assert ((row[1 : length - 1] >= 3) & (row[1 : length - 1] <= 8)).all()


def test_training_rows_follow_the_published_mixture():
    rng = np.random.default_rng(3)
    tokens = task.sample_train(rng, 20_000, (2, 48))
    kept = tokens != task.PAD
    lengths = kept.sum(axis=1) - 2
    assert lengths.min() == 2
    assert lengths.max() == 48
    assert abs(lengths.mean() - 25) < 0.5
    # Published: about 45 % of unmasked tokens come after a violation.
    assert abs(task.label(tokens).valid_nt[kept].mean() - 0.45) < 0.02


def test_compositional_rows_are_full_and_valid_and_reach_their_nest():
    tokens = task.sample_compositional(np.random.default_rng(4), 2000)
    found = task.label(tokens)
    assert (tokens != task.PAD).all()
    assert not found.valid_nt.any()
    assert set(found.depth_nt.max(axis=1)) == set(range(3, 9))
    assert (found.depth_nt[:, -1] == 0).all()


def test_distinct_rows_are_distinct_and_extend():
    few = task.sample_distinct(np.random.default_rng(5), 500, (2, 6))
    assert len(np.unique(few, axis=0)) == 500
    with pytest.raises(ValueError, match="distinct sequences"):
        task.sample_distinct(np.random.default_rng(5), 100, (2, 2))


def test_number_of_distinct_rows():
    assert task.n_distinct((1, 2)) == 6 + 36
