"""Say what a configuration will run and, with --estimate, the disk and GPU-hours it takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import estimate
from crossseed.config.load import load_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", type=Path, nargs="+", help="config files, later ones over earlier ones"
    )
    parser.add_argument("--estimate", action="store_true", help="disk, arithmetic and GPU-hours")


def run(args: argparse.Namespace) -> None:
    print(estimate.text(load_files(*args.config), args.estimate), end="")
