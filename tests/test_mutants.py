"""Mutants are of what a module does, and their counts are of the code that is here."""

from collections import Counter

import mutants as trial
import numpy as np
import pytest
from mutations import mutants

from crossseed import metrics
from crossseed.matching import criteria

SOURCE = '''
"""A module."""
from math import sqrt

LIMIT = 3

class Pair:
    """Two sides."""

    @property
    def length(self) -> float:
        """Of the third."""
        return sqrt(self.a**2 + self.b**2)

def clipped(x: int, least: int = 0) -> int:
    if x < least:
        raise ValueError(f"{x} is less than {least + 1}")
    rows[1:] = x
    return min(x, LIMIT, key=abs)
'''


def changes(where):
    return {(m.before, m.after) for m in mutants(SOURCE, "x.py") if m.where == where}


def test_mutants_of_a_small_module():
    assert changes("") == {("LIMIT = 3", "LIMIT = 4")}
    line = "return sqrt(self.a ** 2 + self.b ** 2)"
    assert changes("Pair.length") == {
        (line, "return None"),
        (line, "return sqrt(self.a ** 2 - self.b ** 2)"),
        (line, "return sqrt(self.a * 2 + self.b ** 2)"),
        (line, "return sqrt(self.a ** 2 + self.b * 2)"),
        (line, "return sqrt(self.a ** 3 + self.b ** 2)"),
        (line, "return sqrt(self.a ** 2 + self.b ** 3)"),
    }
    line, test = "return min(x, LIMIT, key=abs)", "if x < least:"
    error = "raise ValueError(f'{x} is less than {least + 1}')"
    head = "def clipped(x: int, least: int={}) -> int:"
    assert changes("clipped") == {
        (head.format(0), head.format(1)),
        *((test, f"if {new}:") for new in ("True", "False", "x <= least", "x >= least")),
        (error, "pass"),
        *(("rows[1:] = x", new) for new in ("pass", "rows[:] = x", "rows[2:] = x")),
        *((line, f"return {new}") for new in ("None", "max(x, LIMIT, key=abs)", "min(x, LIMIT)")),
    }


def test_a_mutant_holds_one_mistake_and_none_of_those_before_it():
    def of_two(code):
        names = {"rows": np.zeros(3)}
        exec(code, names)
        try:
            return names["clipped"](2)
        except ValueError:
            return "refused"

    found = {m.after: of_two(m.code) for m in mutants(SOURCE, "x.py") if m.where == "clipped"}
    assert {after: value for after, value in found.items() if value != 2} == {
        "if True:": "refused",
        "if x >= least:": "refused",
        "return None": None,
        "return max(x, LIMIT, key=abs)": 3,
    }


@pytest.mark.parametrize("row", trial.rows_of(trial.COUNTS), ids=lambda row: row["module"])
def test_counts_are_of_the_code_that_is_here(row):
    name = row["module"]
    told = f"run: make mutants MODULE={name}"
    there = Counter((m.where, m.before, m.after) for m in trial.mutants_of(name))
    assert sum(there.values()) == int(row["mutants"]), told
    left = [line for line in trial.rows_of(trial.LEFT) if line["module"] == name]
    assert len(left) == int(row["survived"])
    assert not Counter((line["where"], line["before"], line["after"]) for line in left) - there
    assert [line for line in left if not line["reason"]] == []
    now = trial.of_what(name)
    if row["python"] != now["python"]:
        pytest.skip(f"digests are of Python {row['python']}")
    assert {key: row[key] for key in now} == now, told


def test_digests_are_of_what_files_do_and_of_their_helpers(tmp_path):
    def digest(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        trial.closure._parsed.cache_clear()
        return trial.digest([tmp_path / "test_one.py"])

    first = digest(
        test_one='"""One."""\nfrom planted import x\n\ndef test():\n    assert x == 1\n',
        planted="import numpy\nx = 1\n",
        other="y = 1\n",
    )
    same = "# new\nfrom planted import x\ndef test():\n    'said'\n    assert x==1\n"
    assert digest(test_one=same) == first
    assert digest(other="y = 2\n") == first
    looser = digest(test_one=same.replace("==", "!="))
    assert looser != first
    assert digest(test_one=same, planted="x = 2\n") not in (first, looser)


def test_metrics_and_alignment_are_tested():
    rows = {row["module"]: row for row in trial.rows_of(trial.COUNTS)}
    assert set(rows) == set(trial.TESTS)
    for part in ("metrics", "alignment/"):
        scores = [float(row["score"]) for name, row in rows.items() if name.startswith(part)]
        assert min(scores) >= 0.85


def test_the_page_has_the_counts():
    assert trial.table(trial.rows_of(trial.COUNTS)) in trial.PAGE.read_text()


def test_exchanged_code_is_seen_by_all_that_imported_it():
    def isnan():
        with np.errstate(invalid="ignore"):
            return bool(np.isnan(criteria.unit_rows(np.zeros((1, 2)))).any())

    def units():
        return len(metrics.unit_starts(np.arange(1000)))

    def seen():
        found = [isnan(), units()]
        for after in ("MAX_UNITS = 257", "np.where(length >= 0, length, 1)"):
            (mutant,) = (m for m in trial.mutants_of("metrics") if m.after.endswith(after))
            trial.exchange(metrics, mutant.code)
            found += [isnan(), units()]
        return found

    # In a process of its own, as mutants are tried.
    assert trial.forked(seen) == [False, 256, False, 257, True, 256]
