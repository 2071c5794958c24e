"""Draw what every statistic of the Haar battery does under Haar measure, for one size."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.haar import null
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file of draws to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "d", "draws")
    null.write(args.out, null.draw(spec["d"], spec["draws"]), spec)
