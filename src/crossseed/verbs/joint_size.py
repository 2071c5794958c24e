"""Measure how many sequences decide the map of a pair."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.joint import fits
from crossseed.joint.tables import CELL, HALF_COLUMNS, SIZE_COLUMNS
from crossseed.store import write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser)
    parser.add_argument("--halves", type=Path, required=True, help="CSV of halves to write")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    needed = ("caches", "center", "special_tokens", "sequences", "splits")
    spec = options.spec_of(args, *needed, *CELL)
    cell, name = joints.cell_of(spec), joints.name_of(spec)
    found = joints.read(args, spec, ["fit", "train", "eval"])
    tokens = {key: cache.coded_tokens(spec["special_tokens"]) for key, cache in found.items()}
    halves = fits.halves({"fit": tokens["fit"]}, spec["center"], spec["splits"], *name)
    sizes = fits.sizes(tokens["train"], tokens["eval"], spec["sequences"], spec["center"], *name)
    write_table(args.halves, HALF_COLUMNS, ({**cell, **row} for row in halves))
    write_table(args.out, SIZE_COLUMNS, ({**cell, **row} for row in sizes))
