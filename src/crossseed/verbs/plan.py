"""Say what a configuration will run and, with --estimate, the disk and GPU-hours it takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import costs, estimate
from crossseed.config.load import load_files
from crossseed.store import write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="+", help="config files, later ones over earlier ones"
    )
    parser.add_argument("--estimate", action="store_true", help="disk, arithmetic and GPU-hours")
    parser.add_argument(
        "--costs",
        type=Path,
        metavar="PAGE",
        help="write what each of the configs takes, each a run of its own, between the marks of a page",
    )


def run(args: argparse.Namespace) -> None:
    if args.costs:
        runs = [load_files(path) for path in args.config]
        write_text(args.costs, costs.put(args.costs, runs))
        return
    print(estimate.text(load_files(*args.config), args.estimate), end="")
