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
        "--folder", type=Path, required=True, help="the run's report, with its tables"
    )


def run(args: argparse.Namespace) -> None:
    page.write(options.spec_of(args, "run", "cohorts"), args.results, args.folder)
