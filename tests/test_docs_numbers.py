"""What pages of studies quote of the default run is what was measured, and committed."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "benchmarks"))
import answer
import quoted

ROWS = answer.read(answer.RESULTS / "default_studies.csv")
CLAIMS = {row["claim"]: row for row in answer.read(answer.RESULTS / "default_claims.csv")}


def text(page):
    """A page's words, whatever its lines are."""
    return " ".join((ROOT / f"docs/{page}.md").read_text(encoding="utf-8").split())


def values(page):
    return {row["figure"]: float(row["value"]) for row in ROWS if row["page"] == page}


@pytest.mark.parametrize(
    ("page", "piece"), [(page, piece) for page, pieces in quoted.PAGES.items() for piece in pieces]
)
def test_a_page_says_what_was_measured(page, piece):
    assert quoted.filled(piece, values(page)).strip() in text(page)


@pytest.mark.parametrize("page", quoted.PAGES)
def test_a_page_names_the_commit_and_no_figure_is_kept_unquoted(page):
    assert {row["commit"] for row in ROWS if row["page"] == page} == {ROWS[0]["commit"]}
    assert f"commit {ROWS[0]['commit']}" in text(page).replace("Commit", "commit")
    sums = {name for name in values(page) if ".told." in name or ".tested." in name}
    assert set(values(page)) - sums == set(quoted.names(page))


def test_a_page_that_went_stale_is_told():
    piece = "| `depth_shift` | nothing shared | {i.depth_shift.mapped} |"
    found = values("steering")
    assert quoted.filled(piece, found) in text("steering")
    found["independent.depth_shift.mapped"] += 0.01
    assert quoted.filled(piece, found) not in text("steering")


def test_counts_of_rotations_told_from_haar_are_those_of_both_cohorts():
    haar = values("haar")
    told, tested = (
        {m: sum(haar[f"{c}.{of}.{m}"] for c in ("independent", "shared")) for m in ("procrustes", "shuffled")}
        for of in ("told", "tested")
    )  # fmt: skip
    said = text("haar")
    assert f"{told['procrustes']:.0f} of {tested['procrustes']:.0f} rotations are told" in said
    assert f"{told['shuffled']:.0f} of {tested['shuffled']:.0f} fitted on shuffled" in said


def test_published_ratios_of_steering_are_those_of_the_claims():
    depth, sticky = CLAIMS["toy-steering-depth"], CLAIMS["toy-steering-sticky"]
    said = text("steering")
    assert (
        f"{answer.short(depth['as_published'])} for depth ({answer.printed(depth)} printed)" in said
    )
    assert f"{answer.short(sticky['as_published'])} of the dose for sticky" in said
    for name in ("rigorous", "null"):
        assert f"{answer.short(depth[name])} and {answer.short(sticky[name])}" in said
    assert CLAIMS["toy-steering-closer"]["verdict"] == "not run here"


def test_the_rotation_has_in_words_what_its_table_has():
    shared, apart = (
        CLAIMS[f"toy{name}-rotated-ev"]["as_published"] for name in ("", "-independent")
    )
    assert (
        f"variance of {answer.short(shared)} (`dyck-shared`) and {answer.short(apart)} ("
        in text("rotation")
    )


def test_the_index_says_how_stale_a_figure_can_be():
    said = f"have {answer.short(str(values('steering')['independent.depth_shift.mapped']))} of the native effect"
    assert said in text("README")
