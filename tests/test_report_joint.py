"""The page on joint SAEs: its sentences follow the numbers, and every table it needs is drawn."""

import numpy as np
import pandas as pd
import pytest
from planted_joint import (
    COHORTS,
    NAMES,
    PAIRS,
    SHARES,
    planted,
    verdicts_of,
    written,
)

from crossseed.report import captions, figures, page
from crossseed.report import tables as t
from crossseed.report.joint import edits, glance, section, sizes, vocabulary
from crossseed.report.joint import figures as joint_figures
from crossseed.tables import COLUMNS


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return written(tmp_path_factory.mktemp("joint") / "tables", planted())


def sentences(found, place=0):
    return " ".join(found["cohorts"][place]["parts"][0]["sentences"])


def test_what_each_step_adds_is_told_apart(tables):
    text = sentences(section.of_run(tables, COHORTS))
    assert (
        "16.0 % for SAEs trained apart and matched with starts of their own, 45.0 % for one SAE without a map"
        in text
    )
    assert "training one SAE for both models adds +29.0 (+29.0 to +29.0), W adds +5.0" in text
    assert "SAEs that share a start, as the study’s do, training one SAE adds +29.0" in text
    assert "of 42.0 points in all, training one SAE for both models is 69 %" in text
    assert "with one model’s tokens shifted 1.0 % at most" in text
    assert "in sample, on the very tokens that are scored, condition 2 would have 21.0 %" in text
    assert "matched and scored on shifted tokens, 1.0 %." in text
    assert (
        "To correlate it is given one model’s at a time, at twice their weight, with zeros" in text
    )


def test_the_page_opens_with_conditions_and_what_lies_between_them(tables):
    found = glance.of_run(tables)
    assert [row["label"].split(", ")[-1] for row in found["rows"]] == ["finetune", "pretrain"]
    # Matched on other sentences than those scored, from starts of their own.
    values = dict(zip(found["heads"], found["rows"][0]["cells"], strict=True))
    assert values["SAEs apart, matched"]["value"] == "16.0"
    assert values["one SAE, W, cross loss"]["more"] == "57.8 to 58.2; 870 of 1500"
    assert found["null"] == "1.0"
    # A kind of pair by itself.
    added = ("+29.0", "+5.0", "+8.0", "+30.0", "+38.0")
    for sentence, points in zip(found["sentences"], added, strict=True):
        assert sentence.endswith(f": finetune {points}; pretrain {points} points")


def test_a_step_that_adds_nothing_is_not_called_the_largest(tmp_path):
    flat = dict.fromkeys(SHARES, 0.2)
    found = section.of_run(written(tmp_path / "tables", planted(shares=flat)), COHORTS)
    assert " in all," not in sentences(found)


def test_one_pair_has_intervals_over_texts_and_no_deviation(tmp_path):
    found = section.of_run(written(tmp_path / "tables", planted(PAIRS[:1])), COHORTS)
    part = found["cohorts"][0]["parts"][0]
    assert part["pairs"] == 1
    (_, rows), *_ = part["tables"]
    (row,) = [row for row in rows if row["label"] == vocabulary.WORDS["5"]]
    share = row["cells"][part["heads"].index("of active ones, %")]
    assert "±" not in share["value"]
    assert share["more"].startswith("49.")
    assert share["more"].endswith("null 1.0")


def test_the_table_has_every_condition_start_and_matching(tables):
    part = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]
    (words, rows), (other, texts) = part["tables"]
    assert (words, other) == ("per token", "means over a text’s tokens")
    labels = [row["label"] for row in rows]
    assert len(labels) == len(set(labels)) == len(texts)
    assert "2: SAEs apart, matched, own starts, matched in sample" in labels
    assert {vocabulary.WORDS[name] for name in ("4", "5", "6", "ridge", "crosscoder")} <= set(
        labels
    )
    assert all(cell["value"] != "–" for row in rows for cell in row["cells"])
    assert part["heads"][:2] == ["Top-10 r", "Top-100 r"]
    # Where fewer are active, it is said of how many a Top-N is.
    notes = {row["label"]: [cell["more"] for cell in row["cells"][:2]] for row in rows}
    assert "latents" not in notes["1: SAEs apart, equal index, one start"][0]
    assert notes["1: SAEs apart, equal index, one start"][1].endswith("of 37 latents")
    assert "latents" not in notes[vocabulary.WORDS["4"]][1]


def test_random_rotations_are_said_to_say_little_where_no_map_beats_them_too(tables):
    part = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]
    text = " ".join(part["nulls"]["sentences"])
    assert "no map at all has p = 0.0323, so that this says nothing of W" in text
    assert (
        "from 5 equal starts and in equal orders: W gives +99.0 universal latents (mean over pairs; +99.0 to +99.0); the "
        "interval over starts lies above 0 in 3 of 3 pairs. Two retrainings with one map differ by 7.0"
        in text
    )
    assert [tuple(row.values()) for row in part["nulls"]["replicated"]] == [
        ("universal latents", "+99.0", "+99.0 to +99.0", "7.0", "0.0312"),
        ("of active ones, %", "+6.0", "+6.0 to +6.0", "0.4", "0.0312"),
    ]
    labels = [row["label"] for row in part["nulls"]["retrained"]]
    assert "W, 50 % of tokens shuffled" in labels
    assert "W on 8 directions, the rest random" in labels
    assert labels.count("random rotations") == 1


def test_without_further_starts_the_noise_of_retrainings_is_said_to_be_unknown(tmp_path):
    frames = planted(PAIRS[:1])
    frames["joint_tests"] = frames["joint_tests"].query("how != 'replicated'")
    frames["joint_nulls"] = frames["joint_nulls"].query("draw == 0 or null == 'random'")
    found = section.of_run(written(tmp_path / "tables", frames), COHORTS)
    part = found["cohorts"][0]["parts"][0]
    text = " ".join(part["nulls"]["sentences"])
    assert "more universal latents in 1 of 1 pair, of one retraining with each; by how much" in text
    assert part["nulls"]["replicated"] == []


def test_draws_of_each_kind_are_a_line_of_their_own(tables):
    rows = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]["nulls"]["tests"]
    assert len(rows) == 2 * 4 * 2
    (one, other) = [row for row in rows if row["label"] == "normalised error, linear map"]
    assert (one["against"], one["draws"]) == ("random rotations", "999")
    assert (other["against"], other["draws"]) == ("W of shuffled tokens", "99")


def test_what_cannot_be_tested_without_training_is_said(tmp_path):
    frames = planted(PAIRS[:1])
    frames["joint_tests"] = verdicts_of(PAIRS[:1], latents=0)
    found = section.of_run(written(tmp_path / "a", frames), COHORTS)
    part = found["cohorts"][0]["parts"][0]["nulls"]
    assert "In 1 of 1 pair no latent of A’s own SAE fires" in " ".join(part["sentences"])
    (row, _) = [row for row in part["tests"] if row["label"].endswith("read, W")]
    assert (row["value"], row["null"], row["p"]) == ("–", "– ± –", "–")
    frames["joint_tests"] = frames["joint_tests"].query("how != 'post_hoc'")
    found = section.of_run(written(tmp_path / "b", frames), COHORTS)
    text = " ".join(found["cohorts"][0]["parts"][0]["nulls"]["sentences"])
    assert "Nothing is tested without training: that needs an SAE of A alone." in text


def test_the_published_retrainings_come_first_in_the_regression(tables):
    first, whole, without, *_ = section.of_run(tables, COHORTS)["regression"]
    pairs = len(PAIRS) * len(COHORTS)
    assert first.startswith(f"Over {33 * pairs} retrainings of 6 pairs with the published maps")
    assert whole.startswith(f"Over {(33 + 8 + 2) * pairs} retrainings of 6 pairs with all maps")
    assert without.startswith(
        f"Over {(3 + 8 + 2) * pairs} retrainings of 6 pairs with all but random"
    )


def test_distances_stand_beside_those_of_wrongly_paired_tokens(tables):
    """Within few directions any two rotations are near each other."""
    part = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]["sizes"]
    text = " ".join(part["sentences"])
    assert (
        "W of 400 sequences to W of all: in whole 3.00 (W’s of wrongly paired tokens 4.50;" in text
    )
    assert "singular values 0.05 (W’s of wrongly paired tokens 0.06; 80 % of random" in text
    assert "held-out error is 0.203, that of W of as many wrongly paired tokens 1.200." in text
    assert (
        "halves of the fitted sequences: in whole 7.50 (W’s of wrongly paired tokens 9.80; 50 %"
        in text
    )
    assert "From 100 sequences on every doubling that was measured lowers" in text
    (row, *_) = part["halves"]
    assert len(row["cells"]) == len(part["heads"])


def test_edits_are_counted_beside_neutral_ones(tables):
    part = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]
    text = " ".join(part["edits"]["sentences"])
    assert "the peak falls more in 24 of 24, less in 0; its p cannot be below 0.00049" in text
    assert "neutral edits of the same sentences by -5 %, a difference of -40 points" in text
    assert "lies below 0 in 24, above 0 in 0, of 24 that have one" in text
    assert "placebo" not in text
    assert len(part["edits"]["rows"]) == 24


def test_a_p_that_no_map_does_not_have_is_left_to_stand(tmp_path):
    frames = planted(PAIRS[:1])
    tests = frames["joint_tests"]
    frames["joint_tests"] = tests.assign(p=tests.p.where(tests["map"] == "true", 0.5))
    part = section.of_run(written(tmp_path / "tables", frames), COHORTS)["cohorts"][0]["parts"][0]
    text = " ".join(part["nulls"]["sentences"])
    assert "no map at all has p = 0.5: it does not beat them." in text


@pytest.mark.parametrize(
    ("flat", "start"), [([0, 1, 1], 50), ([1, 0, 1], 100), ([1, 1, 0], None), ([1, 1, 1], 25)]
)
def test_a_curve_is_flat_from_where_it_stays_so(flat, start):
    pair = pd.DataFrame({"sequences": [25, 50, 100, 200], "flat": [*flat, np.nan]})
    assert sizes.flat_from(pair) == start


def test_edits_that_leave_the_class_are_a_placebo(tmp_path):
    frames = planted(PAIRS[:1])
    rows = frames["joint_counterfactuals"]
    frames["joint_counterfactuals"] = rows.assign(
        after=rows.after.where(rows.edit == "modal", "negative")
    )
    found = section.of_run(written(tmp_path / "tables", frames), COHORTS)
    part = found["cohorts"][0]["parts"][0]
    text = " ".join(part["edits"]["sentences"])
    assert "Edits that change the class change the peak by -30 %" in text
    assert "A placebo, edits that leave the class, change the peak by -60 %" in text
    # Counted and correlated are those that change the class alone.
    assert "the peak falls more in 4 of 4" in text
    edits = [row["edit"] for row in part["edits"]["rows"]]
    assert edits == ["modal (to positive)"] * 4 + ["mood swap (placebo)"] * 4


def test_a_cohort_without_a_latent_to_try_says_so(tmp_path):
    frames = planted(PAIRS[:1])
    rows = frames["joint_counterfactuals"]
    second = list(COHORTS)[1]
    frames["joint_counterfactuals"] = rows[rows.cohort == second]
    tables = written(tmp_path / "tables", frames)
    edits = section.of_run(tables, COHORTS)["cohorts"][0]["parts"][0]["edits"]
    assert edits["rows"] == []
    assert "tells a class from which an edit starts, so that none is tried" in edits["sentences"][0]
    assert section.of_run(tables, [second])["cohorts"][0]["parts"][0]["edits"] == {}


def test_a_run_without_the_study_says_nothing_of_it():
    empty = t.Tables(**{name: pd.DataFrame(columns=of) for name, of in COLUMNS.items()})
    assert section.of_run(empty, []) == glance.of_run(empty) == {}


def test_conditions_without_a_letter_are_read_as_words(tmp_path):
    found = section.of_run(
        written(tmp_path / "tables", planted(shares={"4": 0.3, "5": 0.4})), COHORTS
    )
    assert "40." in sentences(found)


def test_every_figure_is_drawn(tables, tmp_path):
    names = figures.draw_all(tables, {}, {}, None, tmp_path, NAMES)
    wanted = ["joint", "joint-geometry", "joint-nulls", "joint-sizes", "joint-counterfactuals"]
    assert names == wanted
    assert all((tmp_path / f"{name}.svg").stat().st_size > 5000 for name in wanted)
    assert all(captions.caption(name) for name in wanted)


def test_active_latents_of_the_first_pair_are_placed(tables):
    figure = joint_figures.geometry(tables)
    axes = [axis for axis in figure.axes if axis.collections]
    assert len(axes) == len(COHORTS) * 3
    for axis in axes:
        assert [len(points.get_offsets()) for points in axis.collections] == [13, 7]
        assert "random 0.100" in axis.get_xlabel()


def test_figures_of_studies_without_a_latent_are_drawn_too(tmp_path):
    frames = planted(PAIRS[:1])
    for name in ("joint_counterfactuals", "joint_contexts"):
        frames[name] = frames[name].iloc[:0]
    frames["joint_latents"] = frames["joint_latents"].assign(active=0)
    found = written(tmp_path / "tables", frames)
    assert len(figures.draw_all(found, {}, {}, None, tmp_path / "figures", NAMES)) == 5
    assert edits.features(found) == []


def test_a_page_a_latent_with_its_contexts_and_edits(tmp_path):
    written(tmp_path / "tables", planted(PAIRS[:1]))
    (tmp_path / "features").mkdir()
    (tmp_path / "features/old.html").write_text("of another run")
    spec = {"run": "r", "cohorts": {}, "dictionaries": {}, "drift": None, "tables": NAMES}
    spec["edited"] = list(COHORTS)
    page.write(spec, tmp_path / "results", tmp_path / "index.html")
    index = (tmp_path / "index.html").read_text()
    pages = sorted(path.name for path in (tmp_path / "features").iterdir())
    assert len(pages) == 4
    assert all(f'href="features/{name}"' in index for name in pages)
    text = (tmp_path / "features" / pages[0]).read_text()
    # Sentences are others' words.
    assert "&lt;b&gt;<mark>dull</mark>&lt;/b&gt;" in text
    assert "Model A" in text
    assert "Model B" in text
    assert "<td>24 in 12 (1 silent)</td>" in text
    assert '<td class="number">24 in 12 (1 silent)</td>' in index
    assert "equal starts and orders" in index
    assert "mood swap" in text


@pytest.mark.parametrize(
    ("context", "token", "found"),
    [
        ("the film was dull", "dull", ("the film was ", "dull", "")),
        ("a play", "##ay", ("a pl", "ay", "")),
        ("so so", "so", ("so so (at ", "so", ")")),
        ("a film", "[CLS]", ("a film (at ", "[CLS]", ")")),
    ],
)
def test_the_token_of_a_peak_is_marked_where_it_can_be_told(context, token, found):
    assert edits.marked(context, token) == found
