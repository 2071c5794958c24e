"""The sentences of the report follow the numbers, whichever way they point."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb

from crossseed.report import figures, rotation_figures, style, transfer
from crossseed.report import tables as t
from crossseed.report.spreads import Spread


def at(value):
    return Spread(value, value - 0.01, value + 0.01)


EV = {
    "self": at(0.97),
    "raw": at(-0.8),
    "mean": at(0.1),
    "random": at(-0.5),
    "shuffled": at(0.7),
    "gaussian": at(0.9),
    "procrustes": at(0.92),
}


def test_a_gain_that_noise_also_has_is_called_no_evidence():
    text = " ".join(transfer.reconstruction(EV))
    assert "no evidence of shared features" in text
    assert "Gaussian noise with the target's mean and covariance" in text


def test_a_gain_beyond_every_control_is_called_that():
    text = " ".join(transfer.reconstruction({**EV, "gaussian": at(0.3)}))
    assert "no evidence" not in text
    assert "0.22 less than the Procrustes arm" in text


def test_no_gain_is_called_none():
    text = " ".join(transfer.reconstruction({**EV, "raw": at(0.91)}))
    assert "gains nothing noticeable" in text


@pytest.mark.parametrize(
    ("rotated", "said"),
    [(0.6, "does carry features"), (0.12, "carries no feature beyond"), (0.3, "40 % of the live")],
)
def test_features_are_judged_against_the_best_control(rotated, said):
    firing = {"raw": at(0.05), "shuffled": at(0.1), "random": at(0.02), "procrustes": at(rotated)}
    alignment = {"procrustes": at(0.7), "shuffled": at(-0.2)}
    assert said in " ".join(transfer.features(firing, {"procrustes": at(0.4)}, alignment))


def cosine_tables(independent):
    cell = {"cohort": "c", "source_seed": 0, "target_seed": 1, "checkpoint": "final", "site": "s"}
    rows = [
        {
            **cell, "dictionary": "v", "init": init, "map": basis, "mean_max_cosine": value,
            "share_above_0.5": value, "same_index_share": 0.5, "random_floor": 0.37,
        }
        for init, basis, value in (
            ("shared", "raw", 0.9), ("shared", "rotated", 0.4),
            ("independent", "raw", independent), ("independent", "rotated", 0.4),
        )
    ]  # fmt: skip
    drift = pd.DataFrame(
        [
            {
                "cohort": "c",
                "dictionary": "v",
                "init": "shared",
                "metric": "cosine_to_init",
                "site": "s",
                "value": 0.95,
            }
        ]
    )
    fits = pd.DataFrame(
        [
            {
                **cell,
                "arm": "raw",
                "metric": "alignment_ev",
                "value": -1.0,
            }
        ]
    )
    tables = dict.fromkeys(t.Tables._fields)
    made = {"dictionaries": drift, "fits": fits, "decoder_cosine": pd.DataFrame(rows)}
    return t.Tables(**(tables | made))


def test_the_published_cosine_is_explained_only_where_independent_starts_fall_to_the_floor():
    floor = " ".join(transfer.decoder_cosines(cosine_tables(0.38), "c", "v"))
    assert "did not leave a common start" in floor
    assert "0.95" in floor
    above = " ".join(transfer.decoder_cosines(cosine_tables(0.8), "c", "v"))
    assert "not explained by the initialisation alone" in above


def test_identical_sites_are_found_and_left_out():
    tables = cosine_tables(0.38)
    same = tables.fits.assign(value=0.9999)
    assert t.same_sites(same, "c") == {"s"}
    assert t.same_sites(tables.fits, "c") == set()


def test_labels_never_overlap():
    placed = figures.spread_labels([0.9, 0.91, 0.905, 0.2, 0.95], 0.05)
    assert np.diff(sorted(placed)).min() >= 0.05 - 1e-6


@pytest.mark.parametrize("colour", [style.AMBER, style.PINK, style.GREY, "0.7", "tab:red"])
def test_words_are_darkened_in_their_hue_until_they_can_be_read(colour):
    before, after = np.array(to_rgb(colour)), np.array(style.ink(colour))
    assert 1.05 / (style.luminance(after) + 0.05) >= style.LEAST_CONTRAST
    assert np.allclose(after / after.max(), before / before.max())
    assert style.ink("#000000") == (0, 0, 0)


def test_saved_figures_have_readable_words_and_keep_those_on_dark(tmp_path):
    figure, (axis,) = style.panels(1)
    pale = axis.annotate("pale", (0.5, 0.5), color=style.AMBER)
    on_dark = axis.annotate("on dark", (0.5, 0.5), color="white")
    style.save(figure, tmp_path / "figure")
    assert to_rgb(pale.get_color()) == pytest.approx(style.ink(style.AMBER))
    assert on_dark.get_color() == "white"


def test_colours_of_dictionaries_are_seen_on_white():
    colours = style.dictionary_colours([str(n) for n in range(12)])
    # The lightest of viridis has 1.3.
    assert all(1.05 / (style.luminance(c) + 0.05) > 2 for c in colours.values())
    assert len(set(colours.values())) == 12


def test_intervals_of_shares_are_wilsons():
    low, high = rotation_figures.wilson(pd.Series([0.0, 0.5]), pd.Series([20, 20]))
    assert list(low) == pytest.approx([0, 0.2993], abs=1e-4)
    assert list(high) == pytest.approx([0.1611, 0.7007], abs=1e-4)
