"""What figures say to who does not see them: panels, axes, and the number that was planted, beside its null."""

import html
import re

import numpy as np
import pandas as pd
import planted_report
import pytest
from matplotlib.figure import Figure

from crossseed.report import alts, captions, page, style
from crossseed.report import tables as t
from crossseed.tables import COLUMNS

WORDS = 25


def tables(**made):
    empty = {name: pd.DataFrame(columns=list(columns)) for name, columns in COLUMNS.items()}
    return t.Tables(**{**empty, **made})


def frame(name, rows):
    return pd.DataFrame(rows, columns=list(COLUMNS[name]))


def test_every_figure_of_a_page_says_what_is_drawn_and_its_number_beside_its_null(tmp_path):
    text = planted_report.write(tmp_path).read_text()
    found = [html.unescape(alt) for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text)]
    assert len(found) == 5
    for alt in found:
        assert len(alt.split()) >= WORDS, alt
        assert re.search(r"(Across|Upwards): \w", alt), alt
    numbered = [alt for alt in found if re.search(r"Median of .* [\d.]+, .* [−\d.e]+", alt)]
    assert len(numbered) >= 4


def test_every_kind_of_figure_has_a_main_number_of_columns_that_are():
    assert set(alts.MEASURED) == set(captions.CAPTIONS)
    for kind, what in alts.MEASURED.items():
        nulls = {what.null} if isinstance(what.null, str) else set(what.null or ())
        assert {what.column, *what.of} <= set(COLUMNS[what.table]), kind
        assert {what.column, *nulls} <= set(COLUMNS[what.null_table or what.table]), kind
        # A number without its null is of a figure that has none.
        assert what.null is not None or kind in ("edges", "training")


def transfers(cohort, arm, values, target=1):
    return [
        {
            "cohort": cohort, "source_seed": 0, "target_seed": target, "dictionary": "relu-x2",
            "arm": arm, "metric": "ev", "value": value,
        }
        for value in values
    ]  # fmt: skip


def test_the_number_is_the_planted_median_of_pairs_with_its_null_by_cohort():
    rows = transfers("one", "procrustes", [0.2, 0.9, 0.95]) + transfers("one", "shuffled", [-0.5])
    rows += transfers("one", "procrustes", [1.0] * 9, target=0)  # a member with itself
    rows += [{**row, "dictionary": "other"} for row in transfers("one", "procrustes", [0.0] * 9)]
    alone = alts.measured("ev-relu-x2", tables(transfer=frame("transfer", rows)))
    assert alone == (
        "Median of explained variance after the rotation: 0.9, through one fitted on shuffled tokens −0.5."
    )
    rows += transfers("two", "procrustes", [0.1])
    both = alts.measured("ev-relu-x2", tables(transfer=frame("transfer", rows)))
    assert "one: 0.9, through one fitted on shuffled tokens −0.5; two: 0.1." in both
    many = [row for n in range(5) for row in transfers(str(n), "procrustes", [n / 10])]
    assert alts.measured("ev-relu-x2", tables(transfer=frame("transfer", many))).endswith(": 0.2.")
    assert alts.measured("ev-none", tables(transfer=frame("transfer", rows))) == ""


def test_a_null_may_be_a_column_of_the_same_rows():
    about = {"cohort": "c", "init": "independent", "mean_max_cosine": 0.8}
    rows = [
        {**about, "map": "rotated", "random_floor": 0.37},
        {**about, "map": "raw", "random_floor": 9},
    ]
    said = alts.measured("decoder-cosine", tables(decoder_cosine=frame("decoder_cosine", rows)))
    assert "0.8, of random directions 0.37." in said


def test_a_null_may_lie_in_another_table():
    rows = [{"cohort": "c", "quantity": "rotation_distance", "value": 9.5}]
    nulls = [
        {
            "cohort": cohort,
            "source_seed": 0,
            "target_seed": 1,
            "arm": "random",
            "metric": "rotation_distance",
            "value": value,
        }
        for cohort, value in (("c", 11.25), ("other", 3.0))
    ]
    made = tables(published=frame("published", rows), fits=frame("fits", nulls))
    assert alts.measured("published-rotation", made) == (
        "Median of distance of R from the identity as published: 9.5, of a random rotation 11.2."
    )


@pytest.fixture
def figure():
    made = Figure()
    left, right, off = made.subplots(1, 3)
    left.set_title("cohort a", loc="left")
    left.set_ylabel("loss\n(nats)")
    left.set_xticks([0, 1], ["block 0\nresid pre", "block 1"])
    right.set_title("cohort b")
    right.set_xlabel("dose")
    right.set_yscale("log")
    right.set_ylim(1e-4, 1e4)
    off.set_title("nothing")
    off.set_axis_off()
    return made


def test_of_many_words_along_an_axis_the_ends_are_told():
    made = Figure()
    made.subplots().set_yticks(range(20), [f"edge {n}" for n in range(20)])
    assert style.axes_in_words(made) == "Upwards: 20 from edge 0 to edge 19."


@pytest.mark.parametrize(("low", "high", "said"), [(0.01, 10, "0.1"), (3.1, 4.3, "3.8")])
def test_a_logarithmic_axis_has_plain_numbers(low, high, said):
    made = Figure()
    axis = made.subplots()
    style.logarithmic(axis)
    axis.set_ylim(low, high)
    words = [tick.get_text() for tick in axis.get_yticklabels(which="both")]
    assert said in words
    assert not [word for word in words if "$" in word or "10^" in word]


def test_axes_are_told_in_the_words_and_units_of_their_labels(figure, tmp_path):
    said = "Panels: cohort a; cohort b. Across: block 0 resid pre, block 1; dose. Upwards: loss (nats)."
    assert style.axes_in_words(figure) == said
    style.save(figure, tmp_path / "training")
    assert alts.axes_of((tmp_path / "training.svg").read_bytes()) == said
    rows = frame("training", [{"cohort": "c", "loss_nats": value} for value in (1.0, 0.5, np.nan)])
    alt = page.drawn(tmp_path, "training", tables(training=rows)).alt
    assert alt == (
        f"Training loss of the models, mean over 50 steps. {said} Median of training loss in nats over all steps: 0.75."
    )
