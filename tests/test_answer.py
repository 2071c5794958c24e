"""Numbers of README's answer are those that were printed and measured."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
import answer


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.74e-4", "1.7e-4"), ("-2.36e-05", "−2.4e-5"), ("0.97", ".97"), ("-0.5", "−.50"),
        ("11.25", "11.2"), ("0", "0"), ("", "–"), ("-2.5", "−2.50"), ("1.0", "1.00"),
    ],
)  # fmt: skip
def test_a_small_number_is_not_nothing(text, said):
    assert answer.short(text) == said


def test_what_was_printed_stands_digit_by_digit():
    assert answer.printed({"published_low": "0.965", "published_high": "0.965"}) == ".965"
    row = {"published_low": "0.000174", "published_high": "0.00044"}
    assert answer.printed(row) == ".000174 to .00044"
    assert answer.printed({"published_low": "-1.53", "published_high": "-0.58"}) == "−1.53 to −.58"


def test_every_figure_of_the_answer_has_its_tolerance():
    claims = answer.read(answer.RESULTS / "default_claims.csv")
    assert {row["claim"] for row in claims} <= {*answer.tolerances()}
