"""Measure how well maps carry model B's activations into the frame of A."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.joint import fits
from crossseed.joint.tables import CELL, FIT_COLUMNS
from crossseed.store import write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "caches", "special_tokens", "resamples", *CELL)
    cell, name = joints.cell_of(spec), joints.name_of(spec)
    found = joints.read(args, spec, ["fit", "eval"])
    rows = fits.rows(found["fit"], found["eval"], spec["special_tokens"], spec["resamples"], *name)
    write_table(args.out, FIT_COLUMNS, ({**cell, **row} for row in rows))
