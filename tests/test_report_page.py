"""The page of a run: its order, what is embedded in it, where it says the run comes from, and that it is the same again."""

import base64
import importlib
import json
import re
import shutil
import zlib
from pathlib import Path

import planted_report
import pytest

from crossseed import closure, joblogs
from crossseed.report import embedded, provenance, times
from crossseed.report.listing import Cell, Table, anchor


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return planted_report.write(tmp_path_factory.mktemp("page"))


def test_it_is_read_from_verdicts_to_versions(page):
    heads = re.findall(r"<h2 id=\"(\w+)\"", page.read_text())
    assert heads == ["verdicts", "figures", "tables", "provenance", "times", "versions"]


def test_the_same_inputs_give_the_same_bytes(page, tmp_path):
    assert planted_report.write(tmp_path).read_bytes() == page.read_bytes()


def test_code_is_told_by_a_digest_that_comments_and_commits_leave_and_edits_change(page, tmp_path):
    copy = tmp_path / "crossseed"
    shutil.copytree(closure.ROOT, copy)
    digest = closure.package_digest()
    assert f">{digest}<" in page.read_text()
    (copy / ".git").mkdir()
    (copy / ".git/HEAD").write_text("another commit")
    (copy / "bars/__pycache__").mkdir(exist_ok=True)
    (copy / "bars/__pycache__/x.pyc").write_bytes(b"x")
    edited = copy / "report/alts.py"
    with open(edited, "a") as file:
        file.write("# why\n")
    assert told(copy) == digest
    with open(edited, "a") as file:
        file.write("X = 1\n")
    changed = told(copy)
    assert changed != digest
    (copy / "report/templates/page.css").write_text("")
    assert told(copy) not in (digest, changed)


def told(copy):
    closure._parsed.cache_clear()
    return closure.package_digest(copy)


def test_words_of_others_are_no_html(page):
    text = page.read_text()
    assert planted_report.HOSTILE not in text
    assert (
        "&lt;script&gt;console.error(&#39;run&#39;)&lt;/script&gt; &amp; &#34;quoted&#34;" in text
    )


def test_models_settings_and_times_are_those_of_logs_and_benchmarks(page):
    text = page.read_text()
    assert f"{137:032x}" in text
    assert "training.batch_rows" in text
    # A cell's name is no setting.
    assert '<td class="words">seed</td>' not in text
    assert '<td class="number">180</td><td class="number">138</td>' in text


def test_settings_that_differ_are_shown_together_and_cells_left_out():
    jobs = [joblogs.Job("fits", {"n": n, "site": str(n), "same": [1]}, {}) for n in (1, 2)]
    rows = [[cell.text for cell in row] for row in provenance.settings(jobs).rows]
    assert rows == [["fits", "2", "n", "1 | 2"], ["fits", "2", "same", "[1]"]]


def test_a_packed_table_reads_back_up_to_a_stated_number_of_rows(tmp_path):
    path = tmp_path / "many.csv"
    lines = [f'"a, b",{n + 1 / 3!r},{n}' for n in range(embedded.MOST_ROWS + 1)]
    path.write_text("\n".join(["text,value_nats,n", *lines]) + "\n")
    found = embedded.read(path)
    assert (found.n_rows, found.kept) == (embedded.MOST_ROWS + 1, embedded.MOST_ROWS)
    told = json.loads(zlib.decompress(base64.b64decode(found.packed)))
    assert told["heads"] == ["text", "value_nats", "n"]
    assert told["rows"][1234] == ["a, b", "1234.3", "1234"]
    assert found.first == told["rows"][: embedded.FIRST_ROWS]


@pytest.mark.parametrize(
    ("text", "rounded"),
    [
        ("0.123456789", "0.12346"),
        ("-1.5e-17", "-1.5e-17"),
        ("1234567", "1234567"),
        ("0.5", "0.5"),
        ("490028b51d14", "490028b51d14"),
        ("", ""),
    ],
)
def test_numbers_alone_are_rounded(text, rounded):
    assert embedded.rounded(text) == rounded


def test_stages_are_summed_in_the_order_of_the_workflow(tmp_path):
    for place, seconds in (("c/benchmarks/fits/a", 3), ("c/benchmarks/train/s", 5), ("c/benchmarks/new/s", 1), ("reports/r/benchmarks/collect_x", 2), ("reports/r/benchmarks/report", 9)):  # fmt: skip
        path = tmp_path / f"{place}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\tmax_rss\n{seconds}\t-\n{seconds + 1}\t7.5\n")
    found = times.of_run(tmp_path, "r", ["c"])
    assert [(s.name, s.jobs, s.seconds, s.longest, s.memory) for s in found] == [
        ("train models", 2, 11, 6, 7.5),
        ("measure maps", 2, 7, 4, 7.5),
        ("join tables", 2, 5, 3, 7.5),
        ("new", 2, 3, 2, 7.5),
    ]


def test_cells_know_numbers_from_words():
    kinds = [Cell(text).kind for text in ("−0.5 (−1 to 0)", "+.3", "–", "0 of 2", "block 0", "-")]
    assert kinds == ["number", "number", "number", "number", "words", "words"]
    assert anchor("t", "Smoke shared", 3, "ev > .5") == "t-smoke-shared-3-ev-5"


def test_what_stands_small_makes_a_column_wide_and_breaks_between_its_parts():
    cell = Cell("0.5", "0.1 to 0.9; null 0.4")
    assert cell.parts == ["0.1 to 0.9;", "null 0.4"]
    assert Table("t", "c", ["a"], [[Cell("no", "w" * 41)]]).kinds == ["words long"]


def test_columns_are_as_wide_as_their_words_need():
    rows = [[Cell("a" * 41), Cell("1.5"), Cell("–")], [Cell("b"), Cell("none"), Cell("2")]]
    table = Table("t", "caption", ["long", "mixed", "numbers"], rows)
    assert table.kinds == ["words long", "words", "number"]


def test_benchmarks_of_the_project_read_these_files_as_the_page_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "benchmarks"))
    whole = importlib.import_module("whole")
    monkeypatch.setattr(whole, "seconds_of", lambda command: 1.0)
    path = tmp_path / "results/c/benchmarks/train/seed0.tsv"
    path.parent.mkdir(parents=True)
    # Columns in another order than Snakemake's of today, a repeat, and a memory that was not measured.
    path.write_text("max_rss\th:m:s\ts\n-\t0:00:03\t3.5\n7.5\t0:00:04\t4.5\n")
    (row,) = whole.stages(tmp_path)
    assert (row["stage"], row["jobs"], row["job_seconds"]) == ("train", 2, 8.0)
    assert (row["work_seconds"], row["largest_memory_mb"]) == (6.0, 8)
    (stage,) = times.of_run(tmp_path / "results", "r", ["c"])
    assert (stage.jobs, stage.seconds, stage.memory) == (2, 8.0, 7.5)
