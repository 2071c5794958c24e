"""The documentation: pages made from code are as the code has them, and links lead somewhere."""

import argparse
import importlib
import importlib.util
import itertools
import json
import re
from pathlib import Path

import harness
import numpy as np
import pytest
import rerun
import workflow_runs
from slurm import stress

from crossseed import rulegraph
from crossseed.cli import VERBS
from crossseed.reference import PAGES

ROOT = Path(__file__).parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# The pages of studies, as docs/README.md lists them, and what each says in this order.
STUDIES = re.findall(r"^\| \[([a-z-]+\.md)\]", (ROOT / "docs/README.md").read_text(), re.M)
SAYS = ["Claim", "Method", "Null", "Result", "Caveat"]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


@pytest.mark.parametrize("page", PAGES)
def test_pages_made_from_code_are_as_it_has_them(page):
    assert (ROOT / f"docs/{page}.md").read_text() == PAGES[page](), "run: make docs"


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_says_what_it_is_for(verb):
    parser = argparse.ArgumentParser()
    importlib.import_module(f"crossseed.verbs.{verb}").add_arguments(parser)
    assert not [action.dest for action in parser._actions if not action.help]


def anchors(page):
    """What headings of a page are linked by."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.M)
    return {re.sub(r"[^a-z0-9 _-]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for path, anchor in LINK.findall(page.read_text()):
        if path.startswith(("http:", "https:", "mailto:")):
            continue
        target = (page.parent / path) if path else page
        assert target.exists(), path
        if anchor:
            assert anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_linked_from_another():
    linked = {
        (page.parent / path).resolve()
        for page in WRITTEN
        for path, _ in LINK.findall(page.read_text())
        if path and not path.startswith("http")
    }
    assert [page.name for page in WRITTEN[2:] if page.resolve() not in linked] == []


@pytest.mark.parametrize(
    ("page", "counts", "table"),
    [("slurm", "slurm/counts", stress.table), ("faults", "faults/counts", harness.table)],
)
def test_tables_of_the_harnesses_are_what_they_counted(page, counts, table):
    told = json.loads((ROOT / f"tests/{counts}.json").read_text())
    assert table(told) in (ROOT / f"docs/{page}.md").read_text()
    assert not [name for name, of in told.items() if of["lost"]]


@pytest.mark.parametrize("page", STUDIES)
def test_a_page_of_a_study_says_claim_method_null_result_and_caveat(page):
    parts = re.split(r"^## (.*)$", (ROOT / "docs" / page).read_text(), flags=re.M)
    assert parts[1::2] == SAYS
    assert all(len(text.split()) > 10 for text in parts[2::2])


def test_every_key_of_a_study_has_a_page_that_names_it():
    written = "".join((ROOT / "docs" / page).read_text() for page in STUDIES)
    named = set(re.findall(r"`([a-z_.]+)`", written))
    keys = {
        "transfer",
        "splice",
        "haar",
        "steering",
        "features",
        "attribution",
        "stability",
        "joint",
        "weights",
        "bars",
        "lenses",
        "drift",
    }
    assert keys <= named


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text()
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == {path for path, _ in LINK.findall(index) if "/" not in path}


def terms():
    """Terms of the glossary, in its order; several of one line apart."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "docs/glossary.md").read_text(), re.M)[1:]
    return [term for term, _ in rows]


def test_the_glossary_is_in_order_and_says_nothing_twice():
    found = [term.lower() for term in terms()]
    assert found == sorted(found)
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("term", terms())
def test_every_term_of_the_glossary_is_used_in_a_page(term):
    pages = [page.read_text().lower() for page in WRITTEN if page.name != "glossary.md"]
    for word in term.lower().split(", "):
        assert any(re.search(rf"\b{re.escape(word)}", text) for text in pages), word


def benchmark(name):
    path = ROOT / f"benchmarks/{name}.py"
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_answer_is_that_of_the_committed_tables(tmp_path):
    answer = benchmark("answer")
    for page in answer.PARTS:
        assert page.read_text(encoding="utf-8") == answer.with_part(page), "run: make docs"
    answer.draw(tmp_path / "answer.svg")
    assert (tmp_path / "answer.svg").read_bytes() == answer.FIGURE.with_suffix(
        ".svg"
    ).read_bytes(), "run: make docs"


def test_the_readme_shows_rows_of_the_rerun_table():
    text = (ROOT / "README.md").read_text()
    assert f"rerun.py -->\n{rerun.short_table()}<!-- end" in text, "run: make docs"


MERMAID = """flowchart TB
	id0[all]
	id1[collect]
	id2[sae_topk_shared]
	id3[extract_one]
	id4[extract_two]
	id1 --> id0
	id2 --> id1
	id3 --> id2
	id4 --> id2
	id3 --> id1
"""


def test_the_graph_of_rules_keeps_what_no_longer_path_implies():
    graph = rulegraph.parsed(MERMAID)
    assert graph == {
        "all": {"collect"},
        "collect": {"sae", "extract"},
        "sae": {"extract"},
        "extract": set(),
    }
    assert rulegraph.reduced(graph) == {
        "all": {"collect"},
        "collect": {"sae"},
        "sae": {"extract"},
        "extract": set(),
    }
    assert rulegraph.columns(rulegraph.reduced(graph)) == [
        ["extract"],
        ["sae"],
        ["collect"],
        ["all"],
    ]


def test_an_edge_passes_columns_in_a_place_of_its_own():
    graph = {"a": set(), "b": {"a"}, "c": {"b"}, "d": {"c", "a"}, "e": {"c"}, "f": set()}
    steps, depth = rulegraph.stepwise(graph)
    assert steps["d"] == {"c", "a@2"}
    assert all(depth[name] == depth[need] + 1 for name in steps for need in steps[name])
    placed = rulegraph.columns(graph)
    at = rulegraph.heights(placed, steps)
    tall = {name: rulegraph.PASSAGE if "@" in name else rulegraph.HEIGHT for name in at}
    for column in placed:
        for above, below in itertools.pairwise(column):
            between = (tall[above] + tall[below]) / 2
            # Heights are whole pixels.
            assert at[below] - at[above] >= between + rulegraph.GAP - 1


def test_reduction_keeps_who_is_behind_whom():
    rng = np.random.default_rng(0)
    names = [f"r{n:02d}" for n in range(12)]
    graph = {
        name: {names[m] for m in range(n) if rng.random() < 0.4} for n, name in enumerate(names)
    }

    def behind(of, name):
        return set().union(*({need} | behind(of, need) for need in of[name]))

    kept = rulegraph.reduced(graph)
    assert sum(map(len, kept.values())) < sum(map(len, graph.values()))
    assert all(behind(kept, name) == behind(graph, name) for name in names)


@pytest.mark.slow
def test_the_drawn_rules_are_those_of_the_default_run(tmp_path):
    found = workflow_runs.snakemake(
        tmp_path, "--rulegraph", "mermaid-js", config=ROOT / "config/config.yaml", cold=True
    )
    drawn = rulegraph.svg(rulegraph.parsed(found.stdout))
    assert (ROOT / "docs/figures/rules.svg").read_text() == drawn, "run: make docs"
