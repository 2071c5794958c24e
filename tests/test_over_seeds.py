"""Intervals over seeds: what is drawn, and how wide they are."""

import numpy as np
import pandas as pd
import pytest

from crossseed.over_seeds import COLUMNS, SUMMARIES, drawn_seeds, resampled, table


def frame(pairs):
    return pd.DataFrame(
        [{"source_seed": a, "target_seed": b, "value": float(v)} for (a, b), v in pairs.items()]
    )


def test_the_anchor_is_not_drawn():
    assert drawn_seeds([frame({(0, 1): 1, (0, 2): 2})]) == [1, 2]
    assert drawn_seeds([frame({(0, 1): 1, (1, 0): 2})]) == []
    assert drawn_seeds([frame({(0, 1): 1, (1, 2): 2, (2, 0): 0})]) == [0, 1, 2]
    assert drawn_seeds([frame({(1, 1): 1, (2, 2): 2})]) == [1, 2]


def test_pairs_that_share_no_seed_are_drawn_as_pairs():
    """A seed of a pair that is drawn twice, its other once: the pair has no count but its own."""
    assert drawn_seeds([frame({(42, 137): 1, (99, 7): 2}), frame({(7, 99): 2})]) == [7, 42]
    values = {(42, 137): 1, (99, 7): 2, (11, 110): 3, (25, 225): 4, (35, 446): 5}
    line = resampled(np.random.default_rng(0), [frame(values)], "mean", 4000)[0]
    assert not np.isnan(line).any()
    # Of the mean of five drawn values.
    assert line[1:].std() == pytest.approx(np.std([1, 2, 3, 4, 5]) / 5**0.5, rel=0.05)


def test_the_sample_comes_first_and_equal_values_have_no_interval():
    rng = np.random.default_rng(0)
    found = resampled(rng, [frame({(0, s): 3 for s in range(1, 6)})], "median", 50)
    assert found.shape == (1, 51)
    assert (found == 3).all()


def test_one_seed_beside_the_anchor_gives_no_interval():
    found = resampled(np.random.default_rng(0), [frame({(0, 1): 3})], "median", 50)
    assert found[0, 0] == 3
    assert np.isnan(found[0, 1:]).all()


def test_frames_are_resampled_together():
    rng = np.random.default_rng(1)
    a = {(0, s): s for s in range(1, 7)}
    first, second = resampled(
        rng, [frame(a), frame({k: v + 2 for k, v in a.items()})], "median", 200
    )
    assert second - first == pytest.approx(np.full(201, 2.0))
    assert first.std() > 0.3


def test_the_interval_holds_the_truth_where_all_pairs_share_seeds():
    """Pairs of seeds with an effect of each seed: drawing pairs would be far too sure."""
    rng = np.random.default_rng(2)
    inside, widths = 0, []
    for _ in range(60):
        effect = rng.standard_normal(9)
        pairs = {(i, j): effect[i] + effect[j] for i in range(9) for j in range(9) if i != j}
        line = resampled(rng, [frame(pairs)], "median", 200)[0]
        low, high = np.nanquantile(line[1:], (0.025, 0.975))
        inside += low <= 0 <= high
        widths.append(high - low)
    assert inside >= 48
    # The centre of all pairs is twice that of the seeds, whose standard deviation is about 1/3.
    assert np.mean(widths) > 1.6


@pytest.mark.parametrize("how", ["median", "mean"])
def test_summaries_count_each_value_as_often_as_it_is_drawn(how):
    rng = np.random.default_rng(3)
    values = rng.standard_normal(7)
    often = rng.integers(0, 4, (30, 7))
    often[0] = 0
    found = SUMMARIES[how](values, often)
    assert np.isnan(found[0])
    for value, times in zip(found[1:], often[1:], strict=True):
        assert value == pytest.approx(getattr(np, how)(np.repeat(values, times)))


def test_the_table_takes_each_metric_over_the_pairs_of_different_seeds():
    cell = {"cohort": "c", "checkpoint": "final", "site": "s", "arm": "raw", "source_seed": 0}
    rows = [
        {**cell, "metric": metric, "target_seed": target, "value": target + shift}
        for metric, shift in (("ev", 0.0), ("nre", 1.0))
        for target in range(6)
    ]
    found = list(table("fits", pd.DataFrame(rows)))
    assert [row["metric"] for row in found] == ["ev", "nre"]
    for row in found:
        assert set(row) == set(COLUMNS)
        assert (row["n_pairs"], row["n_seeds"]) == (5, 5)
        assert row["low"] < row["median"] < row["high"]
    assert [row["median"] for row in found] == [3.0, 4.0]
    assert found[1]["low"] - found[0]["low"] == pytest.approx(1)
