"""Measure what the Haar battery rejects: its size, and its power against stated alternatives."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.haar import null, power
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--null", type=Path, required=True, help="draws of the same size")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "draws")
    write_table(args.out, power.COLUMNS, power.table(null.read(args.null), spec["draws"]))
