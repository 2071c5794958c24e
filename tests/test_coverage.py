"""Every published figure is wired to a measurement or says what it needs, and what the wiring reads exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from crossseed import plan
from crossseed.claims import cells, coverage, trace
from crossseed.claims.cells import Claim
from crossseed.errors import UserError
from crossseed.tables import COLUMNS
from crossseed.verify.places import _TABLES

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def found():
    return coverage.coverage(coverage.published(), coverage.shipped())


def test_every_published_figure_is_wired_or_says_what_it_needs(found):
    assert len(found) == sum(
        len(path.read_text().splitlines()) - 1
        for path in (ROOT / "resources/published").glob("*.csv")
    )
    silent = [c.claim.claim for c in found if not c.needs and not (c.measures and c.sources)]
    assert silent == []
    # What it needs is told of no figure that is measured, and of none that is not there.
    assert {c.claim.claim for c in found if c.needs} == set(coverage.NEEDS)


def test_a_figure_that_nothing_measures_would_be_caught():
    unknown = Claim("toy-new-thing", "words", "toy-shared", "all", "", 0, 1, 0, "somewhere")
    [one] = coverage.coverage([unknown], {})
    assert (one.kind, one.measures, one.needs) == ("", None, "")
    nowhere = unknown._replace(claim="nobody-raw-ev", cohort="nobody")
    [one] = coverage.coverage([nowhere], coverage.shipped())
    assert one.measures is not None
    assert (one.sources, one.needs) == ((), "")


def test_a_measurement_reads_tables_and_columns_that_exist(found):
    """Reading a column that a table lacks is an error (the next test); here what is read is what a run joins."""
    joined = set(plan.CLAIMED_TABLES)
    for c in found:
        if c.measures is not None:
            assert c.measures.tables, c.claim.claim
            assert set(c.measures.tables) <= joined, c.claim.claim
            for part in c.measures:
                for read in part:
                    assert read.columns, (c.claim.claim, read.table)
                    assert set(read.columns) <= set(COLUMNS[read.table])
    assert set(coverage.RULES) == joined


def test_a_table_or_a_column_that_does_not_exist_is_an_error():
    def of(table, **wanted):
        return trace.reads(lambda c: c.of(table, **wanted), COLUMNS, "relu-l1-x8")

    [read] = of("transfer", arm="raw", metric="ev")
    assert read.table == "transfer"
    assert {"arm", "metric", "value"} <= set(read.columns)
    assert {("arm", "raw"), ("metric", "ev")} <= set(read.words)
    assert of("haar", statistic="trace_1", value="p")[0].columns[-1] == "p"
    for wrong in ({"table": "transfers"}, {"table": "transfer", "arms": "raw"}):
        with pytest.raises((KeyError, AttributeError)):
            of(**wrong)
    with pytest.raises(KeyError):
        of("transfer", value="p")


def test_each_table_is_measured_by_the_rule_that_is_named():
    """In workflow/rules the rule's output is the table's, and its command the verb."""
    rules = "\n".join(p.read_text() for p in sorted((ROOT / "workflow/rules").glob("*.smk")))
    blocks = re.split(r"(?m)^ *rule\b", rules)
    templates = {}
    for template, name in _TABLES:
        templates.setdefault(name, set()).add(template)
    from crossseed import layout

    constants = {
        key: value
        for key, value in vars(layout).items()
        if isinstance(value, str) and key.isupper()
    }
    for table, verb in coverage.RULES.items():
        own = [block for block in blocks if re.search(rf"crossseed {verb}\b", block)]
        assert own, verb
        named = {key for block in own for key in re.findall(r"layout\.([A-Z_]+)", block)}
        written = {constants[key] for key in named if key in constants}
        assert written & templates[table], (table, verb, sorted(named))


def test_what_a_figure_needs_of_a_run_is_looked_at():
    runs = coverage.shipped()
    toy = {"config/config.yaml": runs["config/config.yaml"]}
    known = {c.claim: c for c in coverage.published()}
    [one] = coverage.coverage([known["toy-rotated-ev"]], toy)
    assert [s.config for s in one.sources] == ["config/config.yaml"]
    # A cohort, a size of dictionaries, and a site that it does not have.
    for claim in (
        known["pythia-rotated-ev"],
        known["toy-raw-ev-worst"],
        known["toy-rotated-ev"]._replace(site="blocks.9.hook_resid_post"),
    ):
        assert coverage.coverage([claim], toy)[0].sources == (), claim.claim


def test_the_command_lists_figures_with_what_measures_them():
    def run(*words):
        command = [sys.executable, "-m", "crossseed", "claims", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "tests")

    said = run("--coverage", "toy-rotated-ev")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("toy-rotated-ev  [")
    assert "published: " in said.stdout
    assert "metric = evx_3" in said.stdout
    assert "1 published figures: 1 wired" in said.stdout
    assert "which this version does not have" in run("--coverage", "weight-edits").stdout
    assert run("--coverage", "nothing-like-it").returncode == 2
    alone = run("--spec", "{}")
    assert alone.returncode == 2
    assert "--tables, --published and --out" in alone.stderr


def test_a_folder_without_figures_is_refused(tmp_path):
    with pytest.raises(UserError, match="no published figures"):
        coverage.published(tmp_path)


def test_figures_are_written_as_printed():
    one = cells.read(ROOT / "resources/published/rotation.csv")
    words = {c.claim: coverage.figure(c) for c in one}
    assert words["toy-raw-ev-worst"] == "-6.56"
    assert words["toy-gaussian-ev"] == "0.94 to 0.98"
    assert words["weight-edits"] == "no number"
