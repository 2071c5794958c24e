"""The published protocols stay where they belong."""

import ast
import csv
from pathlib import Path

import numpy as np
import pytest
from test_transfer import RELU, planted_dictionary, rotated

import crossseed
from crossseed.alignment import maps as m
from crossseed.published import spectrum, transfer

ROOT = Path(crossseed.__file__).parent
# The power table and the KS table show the published test beside the calibrated one, the drift table
# the published distance under that name, alignment and bars the published search; the list of tables
# knows the columns.
ALLOWED = {
    *("drift.py", "haar/power.py", "haar/study.py", "tables.py", "verbs/published.py"),
    *("gauge/study.py", "bars/judge.py"),
}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_other_module_measures_by_a_published_protocol():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "published" not in path.relative_to(ROOT).parts
        and any(name.startswith("crossseed.published") for name in imports(path))
    }
    assert users == ALLOWED


@pytest.fixture
def pair(sparse_rows):
    rows = sparse_rows(shift=5.0)
    return rows["eval"].astype(np.float32), rotated(rows)["eval"].astype(np.float32), rows


def test_a_rotated_copy_is_found_and_scored_on_its_own_tokens(pair):
    a, b, rows = pair
    found = transfer.measure(planted_dictionary(RELU, rows), a, b, np.random.default_rng(0))
    assert found["direct_rotated"] == pytest.approx(1, abs=1e-5)
    assert found["ev_rotated"] == pytest.approx(found["ev_self"], abs=1e-4)
    assert found["direct_raw"] < 0
    assert found["ev_raw"] < found["ev_self"] - 0.2


def test_the_published_variance_rewards_offsets_between_dimensions(pair):
    """A reconstruction that is the mean alone explains most of it."""
    a, _, rows = pair
    dictionary = planted_dictionary(RELU, rows)
    silent = dictionary._replace(b_enc=np.full_like(dictionary.b_enc, -1e6))
    assert transfer.explained_variance(silent, a) > 0.8
    centred = 1 - np.square(silent.b_dec - a).sum() / np.square(a - a.mean(axis=0)).sum()
    assert centred == pytest.approx(0, abs=0.05)


def test_latents_that_never_fire_are_averaged_in_as_zero(pair):
    a, _, rows = pair
    dictionary = planted_dictionary(RELU, rows)
    mean, above = transfer.firing(dictionary, a, a)
    live = (dictionary.encode(a) > 0).any(axis=0).mean()
    assert live < 1
    assert mean == pytest.approx(live, abs=1e-6)
    assert above == pytest.approx(live)


def test_the_spectrum_in_the_studys_words():
    rng = np.random.default_rng(1)
    permutation = np.eye(12)[rng.permutation(12)] * rng.choice([-1, 1], 12)
    assert spectrum.permutation_distance(permutation) == pytest.approx(0, abs=1e-6)
    q = m.haar_orthogonal(rng, 12)
    assert spectrum.mean_cosine(q) == pytest.approx(np.cos(np.angle(np.linalg.eigvals(q))).mean())


def test_published_figures_are_intervals_with_a_place():
    path = Path(__file__).parent.parent / "resources/published/rotation.csv"
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    assert len({row["claim"] for row in rows}) == len(rows) > 50
    # What is said without a number, and stands as not run.
    unnumbered = {"weight-edits", "frontier-sae-transfer"}
    assert unnumbered <= {row["claim"] for row in rows}
    for row in rows:
        if row["claim"] in unnumbered:
            assert (row["low"], row["high"]) == ("nan", "nan")
            continue
        assert float(row["low"]) <= float(row["high"]), row["claim"]
        assert float(row["tolerance"]) > 0, row["claim"]
        assert row["printed"].startswith(("arXiv 2605.24577", "post ")), row["claim"]
