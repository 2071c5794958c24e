"""The documentation: pages made from code are as the code has them, and links lead somewhere."""

import argparse
import importlib
import json
import re
from pathlib import Path

import harness
import pytest
from slurm import stress

from crossseed.cli import VERBS
from crossseed.reference import PAGES

ROOT = Path(__file__).parent.parent
WRITTEN = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
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
