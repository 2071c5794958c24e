"""Joint SAEs through the verbs: a planted pair shares its latents by the planted rotation alone, and a killed job ends as
if it had not been killed."""

from __future__ import annotations

import numpy as np
import pytest
from joint_jobs import (
    EVALUATION,
    SETTINGS,
    TURN,
    WIDTH,
    evaluated,
    files,
    maps,
    null,
    pair,
    pair_spec,
    rows_of,
    run,
    tokens,
    trained,
    training_spec,
    value,
    whole,
)

from crossseed.joint import training
from crossseed.joint.arms import Arm, plain
from crossseed.joint.conditions import of_condition
from crossseed.joint.files import read_map
from crossseed.resume import Resume

__all__ = ["files", "maps", "pair", "tokens", "whole"]


def test_a_planted_pair_shares_its_latents_by_the_planted_rotation_alone(
    files, maps, tmp_path, capsys
):
    found = read_map(maps, "true", WIDTH, pair_spec())
    assert np.abs(found.matrix_dd - TURN).max() < 1e-5
    run(
        "joint_fits", pair_spec(special_tokens=True, resamples=100), *files, "--out", tmp_path / "f"
    )
    nre = {(row["map"], row["centered"]): float(row["nre"]) for row in rows_of(tmp_path / "f")}
    assert nre["true", "0"] < 1e-5
    assert nre["true", "1"] < 1e-4
    assert min(nre["identity", "0"], nre["random", "0"], nre["mismatched", "1"]) > 0.3
    measured = {}
    for condition in ("4", "5", "6"):
        sae = trained(training_spec(condition), files, maps, tmp_path)
        measured[condition] = evaluated(condition, [sae], files, maps, tmp_path)
    for condition in ("5", "6"):
        rows = measured[condition]
        assert value(rows, "universal_share") > 0.99
        assert value(rows, "universal_share", rows="texts") > 0.99
        assert value(rows, "active") > 10
        assert value(rows, "fvu") < 0.5
        assert value(rows, "accuracy_clean") == 100
    # At the floor: no more than with one model's tokens shifted.
    assert value(measured["4"], "universal_share") == 0 == null(measured["4"], "universal_share")
    latents = rows_of(tmp_path / "latents.csv")
    assert len(latents) == 4 * WIDTH
    assert {row["latent"] for row in latents if row["universal"] == "1"} == {
        row["latent"] for row in latents if float(row["r"]) >= 0.7 and row["active"] == "1"
    }


def test_independent_saes_share_by_the_map_and_not_by_index(files, maps, tmp_path):
    alone = [
        trained(training_spec("1", f"1-shared-{name}", (number,)), files, maps, tmp_path)
        for number, name in enumerate("ab")
    ]
    shares = {
        condition: evaluated(condition, alone, files, maps, tmp_path, alone)
        for condition in ("1", "2", "3", "3'")
    }
    assert value(shares["3'"], "universal_share") > 0.99
    assert value(shares["1"], "universal_share") < 0.2
    assert {row["matched_on"] for row in shares["2"]} == {"", "fit", "eval"}
    # Matched on the tokens they are scored on they never do worse.
    by_fit, in_sample = (
        value(shares["2"], "mean_r", matched_on=split) for split in ("fit", "eval")
    )
    assert in_sample >= by_fit - 0.02
    assert value(shares["1"], "accuracy_change_from_independent") == 0
    same = {measure: value(shares["1"], measure) for measure in ("l0", "fvu", "accuracy_hijacked")}
    assert same == {measure: value(shares["2"], measure) for measure in same}
    spec = pair_spec(
        trainings=["1-shared-a"], evaluation={"threshold": 0.7, "active_tokens": 10}, post_hoc=99,
        shuffled=99, center=False,
    )  # fmt: skip
    options = ["--maps", maps, "--saes", alone[0], "--out", tmp_path / "tests.csv"]
    run("joint_tests", spec, *files, *options)
    tests = {
        (row["map"], row["against"], row["statistic"]): row
        for row in rows_of(tmp_path / "tests.csv")
    }
    assert {key[0] for key in tests} == {"true", "ridge", "identity", "permutation"}
    for statistic in ("nre", "encoder_r", "encoder_share"):
        for against in ("random", "mismatched"):
            assert float(tests["true", against, statistic]["p"]) == 0.01
        # What knows nothing of the planted rotation is one draw among others.
        assert float(tests["identity", "random", statistic]["p"]) > 0.01
    assert int(tests["true", "random", "encoder_r"]["latents"]) > 0


def test_retrainings_say_which_map_they_had(files, maps, tmp_path):
    settings, _ = of_condition(SETTINGS, "5", {"batches": 30, "early_stopping_patience": None})
    arms = [Arm("identity"), Arm("true"), Arm("mismatched"), Arm("partial", 0, 0.5)]
    arms += [Arm("top", 0, None, WIDTH, "haar"), Arm("true", 1), Arm("random", 3)]
    spec = pair_spec(
        null="fitted", arms=plain(arms), settings=settings.model_dump(), center=False,
        evaluation=EVALUATION.model_dump(),
    )  # fmt: skip
    run("joint_null", spec, *files, "--out", tmp_path / "null.csv")
    rows = rows_of(tmp_path / "null.csv")
    share = {
        row["null"]: float(row["value"]) for row in rows if row["measure"] == "universal_share"
    }
    # Another start ends elsewhere, with the same map.
    starts = [
        [row["value"] for row in rows if (row["null"], row["draw"]) == ("true", draw)]
        for draw in "01"
    ]
    assert starts[0] != starts[1]
    nre = {row["null"]: float(row["nre"]) for row in rows}
    assert share["true"] == share["top"] == 1
    assert max(share["identity"], share["mismatched"], share["random"]) < 0.5
    assert nre["true"] < 1e-5 < nre["partial"] < nre["random"]
    again = {**spec, "arms": spec["arms"][-1:]}
    run("joint_null", again, *files, "--out", tmp_path / "again.csv")
    assert rows_of(tmp_path / "again.csv") == rows[-len(rows_of(tmp_path / "again.csv")) :]
    options = ["--retrained", tmp_path / "null.csv", "--out", tmp_path / "tests.csv"]
    told = pair_spec(trainings=[], evaluation={}, post_hoc=99, shuffled=99, center=False)
    run("joint_tests", told, *files, "--maps", maps, *options)
    of_true = [
        row
        for row in rows_of(tmp_path / "tests.csv")
        if (row["map"], row["statistic"]) == ("true", "universal_share")
    ]
    assert {row["against"] for row in of_true} == {
        "identity", "mismatched", "partial", "top", "random",
    }  # fmt: skip
    assert {float(row["p_least"]) for row in of_true} == {0.5}


class Killed(Exception):
    pass


@pytest.mark.parametrize("verb", ["joint_train", "joint_null"])
def test_a_killed_job_ends_as_if_it_had_not_been(verb, files, maps, tmp_path, monkeypatch):
    """In the middle of an epoch, and of the second of two retrainings."""
    if verb == "joint_train":
        spec, stop = training_spec("6"), 23
    else:
        settings, _ = of_condition(SETTINGS, "5", {"batches": 20, "early_stopping_patience": None})
        spec = pair_spec(
            null="random0", arms=plain([Arm("random", 0), Arm("random", 1)]), center=False,
            settings=settings.model_dump(), evaluation=EVALUATION.model_dump(),
        )  # fmt: skip
        stop = 33

    def job(folder):
        folder.mkdir(exist_ok=True)
        out = folder / "out"
        if verb == "joint_null":
            run(verb, spec, *files, "--out", out)
            return [out.read_bytes()]
        history = folder / "history"
        run(verb, spec, *files, "--maps", maps, "--history", history, "--out", out)
        return [out.read_bytes(), history.read_bytes()]

    wanted = job(tmp_path / "whole")
    step, taken = training.Trainer.step, []
    monkeypatch.setattr(Resume, "due", lambda self: True)

    def counted(self, batch, number):
        if len(taken) == stop:
            raise Killed
        taken.append(number)
        return step(self, batch, number)

    monkeypatch.setattr(training.Trainer, "step", counted)
    with pytest.raises(Killed):
        job(tmp_path / "killed")
    assert list((tmp_path / "killed").glob(".*.resume"))
    assert not (tmp_path / "killed" / "out").exists()
    taken.clear()
    stop = 10**9
    assert job(tmp_path / "killed") == wanted
    assert taken[0] > 0
    assert not list((tmp_path / "killed").glob(".*"))
