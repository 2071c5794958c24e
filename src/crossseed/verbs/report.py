"""Draw the figures of a run and write its page."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.report import page
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--results", type=Path, required=True, help="root of all results")
    parser.add_argument(
        "--page", type=Path, required=True, help="page to write; tables lie in tables/ beside it"
    )


def run(args: argparse.Namespace) -> None:
    page.write(options.spec_of(args, "run", "cohorts", "edited"), args.results, args.page)
