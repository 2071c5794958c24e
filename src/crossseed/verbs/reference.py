"""Print a reference page as Markdown: all config keys, the command line, every artefact, or every published figure; or draw the graph of rules."""

from __future__ import annotations

import argparse
import sys

from crossseed import rulegraph
from crossseed.reference import PAGES

RULES = "rules"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "page",
        choices=(*PAGES, RULES),
        help=f"which; {RULES}: an SVG of what `snakemake --rulegraph mermaid-js` says on standard input",
    )


def run(args: argparse.Namespace) -> None:
    if args.page == RULES:
        print(rulegraph.svg(rulegraph.parsed(sys.stdin.read())), end="")
    else:
        print(PAGES[args.page](), end="")
