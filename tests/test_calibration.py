"""Calibration of L0: the penalty is found where there is one, and the search says how near it came."""

from __future__ import annotations

import numpy as np
import pytest
from test_sae import SPEC, jumprelu_config, relu_config, topk_config

from crossseed.errors import UserError
from crossseed.sae import calibration
from crossseed.sae.config import SELECTION
from crossseed.store import write_table


@pytest.mark.parametrize("start", [1e-6, 1e-2, 1e3])
def test_a_planted_penalty_is_found_from_anywhere(start):
    def l0_of(penalty: float) -> float:
        return 200 / (1 + (penalty / 0.05) ** 0.7)

    tried = calibration.search(l0_of, start, 20.0, 30)
    best = tried[calibration.nearest(tried, 20.0)]
    assert best.l0 == pytest.approx(20, rel=calibration.NEAR)
    assert best == tried[-1]


def test_a_search_that_is_cut_short_takes_the_nearest():
    tried = calibration.search(lambda p: 1000 / (1 + p), 1.0, 3.0, 3)
    assert len(tried) == 3
    assert calibration.nearest(tried, 3.0) == 2
    # All latents died in the last run: as far away as can be.
    assert calibration.nearest([calibration.Tried(1, 30), calibration.Tried(2, 0)], 10) == 0


def test_a_search_that_comes_back_ends():
    """L0 that is not monotone: the same penalty is not trained twice."""
    tried = calibration.search(lambda p: 30.0 if p < 1 or 2 < p < 2.5 else 5.0, 0.5, 10.0, 50)
    penalties = [t.penalty for t in tried]
    assert len(penalties) < 20
    assert len({round(p, 9) for p in penalties}) == len(penalties)


def spec_of(config, **more):
    variant = config.model_dump(exclude=set(SELECTION))
    return {**SPEC, "variant": variant, "wanted_l0": 6.0, "steps": 120, "runs": 10, **more}


@pytest.mark.parametrize("make", [relu_config, jumprelu_config])
def test_short_runs_reach_the_wanted_l0(make, tmp_path, write_activations, sparse_rows):
    path = write_activations(tmp_path / "site.h5", sparse_rows())
    # Thresholds move by the learning rate, and not far in a short run.
    spec = spec_of(make(standardise=True, steps=240, lr=1e-2), steps=240)
    rows = calibration.calibrate(spec, path, tmp_path / "c.csv", "cpu")
    (chosen,) = (row for row in rows if row["chosen"])
    assert chosen["l0"] == pytest.approx(6, rel=0.25)
    assert {row["wanted_l0"] for row in rows} == {6.0}
    write_table(tmp_path / "c.csv", calibration.COLUMNS, rows)
    taken = calibration.calibrated(spec, tmp_path / "c.csv")
    name = "l1" if make is relu_config else "l0"
    assert taken[name] == chosen["penalty"]
    assert {k: v for k, v in taken.items() if k != name} == {
        k: v for k, v in spec["variant"].items() if k != name
    }
    with pytest.raises(UserError, match=r"of seed 0, but this job is of 3"):
        calibration.calibrated({**spec, "seed": 3}, tmp_path / "c.csv")
    assert not list(tmp_path.glob(".*resume"))
    assert np.isfinite([row["penalty"] for row in rows]).all()


def test_a_search_cannot_start_at_nothing(tmp_path):
    with pytest.raises(UserError, match=r"starts at l1 = 0"):
        calibration.calibrate(
            spec_of(relu_config(l1=0.0)), tmp_path / "a.h5", tmp_path / "c", "cpu"
        )


def test_a_k_needs_no_calibration(tmp_path):
    with pytest.raises(UserError, match="topk has no penalty to calibrate"):
        calibration.calibrate(spec_of(topk_config()), tmp_path / "a.h5", tmp_path / "c", "cpu")
