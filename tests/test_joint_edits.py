"""Effects of edited sentences on latents: planted ones are found, and items of one group are no independent evidence."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from crossseed.counterfactuals import Item
from crossseed.joint import effects, tables


def test_areas_are_the_chance_to_exceed():
    rng = np.random.default_rng(4)
    values = rng.integers(0, 4, (30, 3)).astype(float)
    values[:, 2] = 1
    own = rng.random(30) < 0.4
    wanted = [
        np.mean([(x > y) + (x == y) / 2 for x in column[own] for y in column[~own]])
        for column in values.T
    ]
    assert effects.areas(values, own) == pytest.approx(wanted)
    assert effects.areas(values, own)[2] == 0.5


def test_signs_are_tested_two_sided():
    for lower, higher in ((0, 0), (5, 0), (0, 5), (7, 3), (20, 20), (30, 10)):
        wanted = 1.0 if lower + higher == 0 else binomtest(lower, lower + higher).pvalue
        assert effects.sign_test(lower, higher) == pytest.approx(wanted)


def edited(n, change, noise, groups=8, after="neutral", edit="swap"):
    """Items of a latent whose peak an edit changes by a factor in A, and not in B."""
    found = []
    for number in range(n):
        group = f"0: {number % groups}"
        item = Item(edit, number, "x", "y", "z", "polite", after, 1, 1, group)
        peaks = {
            "original": 1 + noise(), "edited": change * (1 + noise()), "control": 1 + noise(),
        }  # fmt: skip
        both = {
            kind: (np.array([0.0, value]), np.array([0.0, 1 + noise()]))
            for kind, value in peaks.items()
        }
        found.append(effects.Edited(item, both))
    return found


def test_an_edit_that_lowers_a_latent_is_found_and_one_that_does_not_is_not():
    rng = np.random.default_rng(5)
    items = edited(40, 0.3, lambda: 0.05 * rng.standard_normal())
    latents = [
        effects.Latent("polite", 1, 0.9, True, (0.9, 0.8)),
        effects.Latent("polite", 0, 0.1, False, (0.6, 0.6)),
        effects.Latent("neutral", 1, 0.9, True, (0.9, 0.8)),
    ]
    rows = list(effects.tried(latents, items))
    # Of the class that the edit starts from.
    assert {row["class"] for row in rows} == {"polite"}
    found = {(r["latent"], r["model"]): r for r in effects.summaries(latents, rows)}
    one = found[1, "A"]
    about = {*tables.CELL, *tables.ROW}
    assert about | one.keys() == set(tables.COUNTERFACTUAL_COLUMNS)
    assert about | rows[0].keys() - {"after"} == set(tables.ITEM_COLUMNS)
    assert one["effect"] == pytest.approx(-0.7, abs=0.03)
    assert one["effect_low"] < one["effect"] < one["effect_high"] < one["control_low"]
    assert abs(one["control"]) < 0.05
    assert (one["lower"], one["higher"], one["silent"]) == (40, 0, 0)
    assert one["difference"] == pytest.approx(one["effect"] - one["control"])
    assert one["difference_high"] < -0.6
    # By groups, not by items.
    assert (one["groups"], one["groups_lower"], one["groups_higher"]) == (8, 8, 0)
    assert one["p"] == 2 / 2**8
    assert found[1, "B"]["difference_low"] < 0 < found[1, "B"]["difference_high"]
    assert found[1, "B"]["p_holm"] > 0.05
    # A latent that never fires has no effect, and is not tested.
    assert (found[0, "A"]["silent"], found[0, "A"]["effect"], found[0, "A"]["p"]) == (40, None, 1)


def test_items_of_one_group_are_no_independent_evidence():
    """A null: words move a latent more than edits do. Items are many, words are few."""
    rng = np.random.default_rng(7)
    latent = [effects.Latent("polite", 1, 0.9, True, (0.9, 0.8))]
    rejected, by_items, covered = [], [], []
    for _ in range(200):
        moved = 0.2 * rng.standard_normal(6)
        items = edited(60, 1.0, lambda: 0.0, groups=6)
        for one in items:
            value = 1 + moved[one.item.number % 6] + 0.02 * rng.standard_normal()
            one.peaks["edited"][0][1] = value
        one, _ = effects.summaries(latent, list(effects.tried(latent, items)))
        rejected.append(one["p"] < 0.05)
        by_items.append(effects.sign_test(one["lower"], one["higher"]) < 0.05)
        covered.append(one["difference_low"] < 0 < one["difference_high"])
    assert np.mean(rejected) < 0.08
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)
    # As it would be, were items counted.
    assert np.mean(by_items) > 0.3


def test_edits_that_leave_the_class_are_corrected_by_themselves():
    latent = [effects.Latent("polite", 1, 0.9, True, (0.9, 0.8))]
    rng = np.random.default_rng(8)
    items = [
        one
        for edit, after in (("swap", "neutral"), ("drop", "polite"), ("hedge", "polite"))
        for one in edited(40, 0.3, lambda: 0.05 * rng.standard_normal(), 10, after, edit)
    ]
    found = {
        (row["edit"], row["model"]): row
        for row in effects.summaries(latent, list(effects.tried(latent, items)))
    }
    # Of A and of B: two that change the class, four that do not.
    assert found["swap", "A"]["p_holm"] == 2 * found["swap", "A"]["p"]
    assert found["drop", "A"]["p_holm"] == 4 * found["drop", "A"]["p"]
