"""Claims: each verdict where it belongs, and never an empty pass."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from claimed import SITES, cells, claim

from crossseed.claims import cells as of
from crossseed.claims import verdicts as claims
from crossseed.errors import UserError

FOLDER = Path(__file__).parent.parent / "resources/published"


PUBLISHED = [FOLDER / f"{name}.csv" for name in ("rotation", "stability", "joint")]


def distance(published, rotated, shuffled):
    own = {"dictionary": "v", "init": "shared", "quantity": "rotation_distance"}
    fit = {"metric": "rotation_distance"}
    return cells(
        published=[{**own, "value": published}],
        fits=[
            {**fit, "arm": "procrustes", "value": rotated},
            {**fit, "arm": "shuffled", "value": shuffled},
        ],
    )


def test_a_figure_that_its_null_meets_is_explained():
    found = claims.judge(claim("rotation-distance", 9.4, 10.7), distance(10.0, 9.8, 10.1))
    assert found["verdict"] == claims.EXPLAINED
    assert (found["as_published"], found["rigorous"], found["null"]) == (10.0, 9.8, 10.1)
    found = claims.judge(claim("rotation-distance", 9.4, 10.7), distance(10.0, 9.8, 2.0))
    assert found["verdict"] == claims.REPRODUCED


def test_a_figure_outside_its_range_is_not_reproduced():
    found = claims.judge(claim("rotation-distance", 9.4, 10.7), distance(7.0, 7.0, 10.0))
    assert found["verdict"] == claims.FAILED


@pytest.mark.parametrize(
    ("independent", "floor", "verdict"),
    [(0.37, 0.37, claims.EXPLAINED), (0.8, 0.37, claims.REPRODUCED)],
)
def test_cosines_are_explained_where_independent_starts_fall_to_the_floor(
    independent, floor, verdict
):
    row = {"dictionary": "v", "random_floor": floor, "share_above_0.5": 0.0}
    found = claims.judge(
        claim("cosine-mean", 0.89, 0.89),
        cells(
            decoder_cosine=[
                {**row, "init": "shared", "map": "raw", "mean_max_cosine": 0.9},
                {**row, "init": "independent", "map": "rotated", "mean_max_cosine": independent},
            ]
        ),
    )
    assert found["verdict"] == verdict


def test_a_claim_without_its_cohort_study_or_cells_says_what_it_needs():
    known = claim("rotation-distance", 9.4, 10.7)
    absent = claims.judge(known, None, "a cohort like toy-shared")
    assert (absent["verdict"], absent["why"]) == (claims.NOT_RUN, "needs a cohort like toy-shared")
    empty = claims.judge(known, cells())
    assert empty["verdict"] == claims.NOT_RUN
    assert "needs cells" in empty["why"]
    unknown = claims.judge(claim("weight-edits", 0.5, 0.7), cells())
    assert unknown["verdict"] == claims.NOT_RUN
    assert unknown["why"] == "needs a study of weight edits, which this version does not have"
    assert set(absent) == set(empty) == set(claims.COLUMNS)


def test_members_with_themselves_do_not_count():
    found = distance(10.0, 9.8, 10.1)
    own = found.tables["published"].assign(target_seed=0, value=99.0)
    both = {**found.tables, "published": pd.concat([found.tables["published"], own])}
    judged = claims.judge(claim("rotation-distance", 9.4, 10.7), found._replace(tables=both))
    assert judged["as_published_high"] == 10.0


def of_seeds(*rigorous, null=0.3):
    """Firing correlations of seeds 1, 2, …, each the same at all sites."""
    own = {"dictionary": "v", "metric": "firing_r", "init": "independent"}
    rows = {"transfer": [], "evidence": [], "published": []}
    for seed, value in enumerate(rigorous, start=1):
        one = {**own, "arm": "procrustes", "target_seed": seed}
        rows["transfer"].append({**one, "value": value})
        rows["evidence"].append({**one, "null": null})
        rows["published"].append(
            {**one, "init": "shared", "quantity": "firing_rotated", "value": 0.5}
        )
    return claims.judge(claim("firing-rotated", 0.27, 0.74), cells(**rows))


def test_a_margin_that_one_seed_carries_is_explained():
    alike = of_seeds(0.8, 0.82, 0.81, 0.79)
    assert alike["verdict"] == claims.REPRODUCED
    assert alike["low"] <= alike["rigorous"] <= alike["high"]
    assert alike["margin"] == pytest.approx(0.5, abs=0.02)
    assert alike["margin_low"] > 0.4
    one = of_seeds(0.8, 0.2, 0.25, 0.8, 0.2)
    assert one["margin_low"] < 0 < one["margin_high"]
    assert one["verdict"] == claims.EXPLAINED


def test_the_drift_of_a_site_without_full_rank_is_explained():
    def judged(rank, distance):
        row = {"comparison": "checkpoint", "checkpoint": "final", "seed": 0, "dictionary": ""}
        values = [
            ("procrustes", "rotation_distance_published", distance),
            ("haar", "rotation_distance", np.sqrt(128)),
            ("procrustes", "numerical_rank", rank),
            ("procrustes", "rotation_distance_identified", 0.1),
        ]
        rows = [{**row, "arm": arm, "metric": name, "value": v} for arm, name, v in values]
        earlier = [{**row, "checkpoint": "step0", "value": 99.0}]
        found = cells("input", drift=earlier + rows)
        known = of.Claim(
            "toy-drift-distance-input",
            "words",
            "toy-shared-drift",
            "input",
            "",
            10.4,
            10.4,
            0.5,
            "post",
        )
        return claims.judge(known, found)

    assert judged(12, 10.3)["verdict"] == claims.EXPLAINED
    assert judged(12, 10.3)["null"] == pytest.approx(np.sqrt(2 * 52))
    assert judged(64, 10.3)["verdict"] == claims.REPRODUCED
    assert judged(64, 3.0)["verdict"] == claims.FAILED


def of_ks(own, shuffled):
    one = {"matrices": 1, "decided": 1}
    return claims.judge(
        claim("ks", 0.0068, 0.0104, tolerance=0.001),
        cells(
            published=[{"dictionary": "", "init": "", "quantity": "ks", "value": 0.008}],
            ks=[
                {**one, "map": "procrustes", "p": own, "ks_published": 0.008},
                {**one, "map": "shuffled", "p": shuffled, "ks_published": 0.008},
            ],
        ),
    )


def test_a_haar_figure_needs_the_calibrated_test_and_a_control_that_fails_it():
    assert of_ks(own=0.4, shuffled=0.6)["verdict"] == claims.EXPLAINED
    assert of_ks(own=0.4, shuffled=1e-4)["verdict"] == claims.REPRODUCED
    for shuffled in (0.4, 1e-4):
        rejected = of_ks(own=1e-4, shuffled=shuffled)
        assert rejected["verdict"] == claims.FAILED
        assert "calibrated test rejects" in rejected["why"]
    undecided = of_ks(own=float("nan"), shuffled=float("nan"))
    assert undecided["verdict"] == claims.NOT_RUN


def test_raw_transfer_that_a_shift_of_the_mean_repairs_is_explained():
    def judged(raw, mean):
        own = {"dictionary": "v", "init": "independent", "metric": "ev"}
        return claims.judge(
            claim("raw-ev", -6.56, 0.0, tolerance=0.1),
            cells(
                published=[
                    {"dictionary": "v", "init": "shared", "quantity": "ev_raw", "value": raw}
                ],
                transfer=[
                    {**own, "arm": "raw", "value": raw},
                    {**own, "arm": "mean", "value": mean},
                ],
            ),
        )["verdict"]

    assert judged(-0.58, 0.48) == claims.EXPLAINED
    assert judged(-2.0, -1.0) == claims.REPRODUCED
    assert judged(0.5, 0.6) == claims.FAILED


def test_claims_are_about_one_checkpoint():
    found = distance(10.0, 9.8, 10.1)
    early = {
        name: rows.assign(checkpoint="step20", value=99.0) for name, rows in found.tables.items()
    }
    both = {name: pd.concat([early[name], rows]) for name, rows in found.tables.items()}
    judged = claims.judge(claim("rotation-distance", 9.4, 10.7), found._replace(tables=both))
    assert (judged["as_published"], judged["rigorous"], judged["cells"]) == (10.0, 9.8, 2)


def test_a_claim_about_wider_dictionaries_asks_for_them():
    wide = claim("raw-ev-worst", -6.56, -6.56)._replace(expansion="32")
    assert of.dictionary_of(wide, "relu-l1-x8") == "relu-l1-x32"
    assert of.dictionary_of(claim("raw-ev", 0, 0), "relu-l1-x8") == "relu-l1-x8"
    found = claims.judge(wide, distance(10.0, 9.8, 10.1))
    assert found["verdict"] == claims.NOT_RUN
    assert "of that expansion" in found["why"]


def test_a_figure_whose_control_was_not_measured_is_no_pass():
    found = distance(10.0, 9.8, 10.1)
    without = {**found.tables, "fits": found.tables["fits"][found.tables["fits"].arm != "shuffled"]}
    judged = claims.judge(claim("rotation-distance", 9.4, 10.7), found._replace(tables=without))
    assert judged["verdict"] == claims.NOT_RUN
    assert "needs its control" in judged["why"]
    assert judged["as_published"] == 10.0


def sae_seeds(as_published, rigorous, shuffled):
    """Pairs of three SAE seeds, and rows over all, which are not of pairs."""
    cell = {"seed": 0, "null": 0.0}
    rows = [
        {**cell, "dictionary": dictionary, "first": first, "second": second, "shuffled": shuffled}
        | {"quantity": quantity, "part": part, "value": value}
        for dictionary in ("relu-x8", "relu-k64-x8")
        for first, second in (
            ("seed1", "seed2"),
            ("seed1", "seed3"),
            ("seed2", "seed3"),
            (None, None),
        )
        for quantity, part, value in (
            ("dual", "all", as_published if first else 9.0),
            ("strict_on_data", "live", rigorous if first else 9.0),
            ("alone_published", 2.0, 0.6),
            ("alone", 2.0, 0.7),
        )
    ]
    return cells("s1", stability=rows)._replace(dictionary="relu-x8")


def of_sae_seeds(name, value, tables):
    known = of.Claim(f"toy-{name}", "words", "toy-independent", "s1", "", value, value, 0.02, "p")
    return claims.judge(known, tables)


@pytest.mark.parametrize("name", ["sae-seeds-dual", "sae-seeds-dual-k64", "sae-seeds-dual@x1-3"])
def test_shared_latents_are_held_against_those_of_shuffled_features(name):
    assert of_sae_seeds(name, 0.42, sae_seeds(0.42, 0.4, 0.01))["verdict"] == claims.REPRODUCED
    assert of_sae_seeds(name, 0.42, sae_seeds(0.42, 0.4, 0.39))["verdict"] == claims.EXPLAINED
    assert of_sae_seeds(name, 0.42, sae_seeds(0.3, 0.4, 0.01))["verdict"] == claims.FAILED
    assert of_sae_seeds(name, 0.42, cells("s1"))["verdict"] == claims.NOT_RUN


def test_what_all_sae_seeds_share_is_one_figure_a_member():
    found = of_sae_seeds("sae-seeds-alone-2", 0.6, sae_seeds(0.4, 0.4, 0.0))
    assert (found["as_published"], found["rigorous"], found["cells"]) == (0.6, 0.7, 1)


def test_words_for_sites():
    assert of.chosen("internal", SITES) == ["s1", "s2"]
    assert of.chosen("intermediate", SITES) == ["s1"]
    assert of.chosen("s2", SITES) == ["s2"]
    assert of.chosen("model", SITES) == []


def test_every_published_figure_is_read_and_wired_or_says_so():
    found = [claim for path in PUBLISHED for claim in of.read(path)]
    assert len({claim.claim for claim in found}) == len(found)
    wired = {c.claim for c in found if claims.name_of(c) in claims.WIRED}
    assert {"toy-rotated-ev", "pythia-ks", "pythia-cosine-above-last"} <= wired
    names = {claims.name_of(c) for c in found} | {c.claim for c in found}
    assert names >= set(claims.WIRED)
    unwired = {
        claims.name_of(c) for c in found if not {c.claim, claims.name_of(c)} & {*claims.WIRED}
    }
    unwired -= {"sae-transfer"}  # of a pair at a scale that no config here has
    assert all(name.split("-")[0] in claims.ABSENT for name in unwired), unwired


def test_what_no_run_here_can_decide_stands_as_not_run():
    for found in (one for path in PUBLISHED for one in of.read(path)):
        if found.claim in ("weight-edits", "frontier-sae-transfer"):
            row = claims.judge(found, None, f"a cohort like {found.cohort}")
            assert row["verdict"] == claims.NOT_RUN
            assert "weight edits" in row["why"] or "frontier-pair" in row["why"]
    assert {"weight-edits", "frontier-sae-transfer"} <= {c.claim for c in of.read(PUBLISHED[0])}


def test_damaged_figures_are_refused_with_their_line(tmp_path):
    text = PUBLISHED[0].read_text().splitlines()
    (tmp_path / "a.csv").write_text("\n".join([text[0], text[1].replace("-6.56", "low", 1)]))
    with pytest.raises(UserError, match=r"a\.csv: line 2: low, high"):
        of.read(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("claim\nx\n")
    with pytest.raises(UserError, match="the header is"):
        of.read(tmp_path / "b.csv")
    with pytest.raises(UserError, match="cannot be read"):
        of.read(tmp_path / "none.csv")
