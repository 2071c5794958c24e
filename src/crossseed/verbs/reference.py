"""Print a reference page as Markdown: all config keys, the command line, every artefact, or every published figure."""

from __future__ import annotations

import argparse

from crossseed.reference import PAGES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("page", choices=PAGES, help="which")


def run(args: argparse.Namespace) -> None:
    print(PAGES[args.page](), end="")
