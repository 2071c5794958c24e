"""Read every file of a results folder again, say what is wrong with each, and how to mend just that.

Exits with 2 if anything is wrong. Nothing is changed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.config.load import load_files
from crossseed.verify import study


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", type=Path, help="the folder, such as results")
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="config files of the run, later ones over earlier ones: what artefacts were made with is held against "
        "them, and the commands name them; needed unless the run is the default one",
    )


def run(args: argparse.Namespace) -> None:
    config = load_files(*args.configfile) if args.configfile else None
    found = study.check(args.results, config)
    study.report(args.results, found, lambda line: print(line, flush=True), args.configfile)
