"""How well each map of a pair carries the activations themselves, on the eval split."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.fits import COLUMNS, DIRECTION_COLUMNS, fits
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_pair(parser)
    parser.add_argument("--maps", type=Path, required=True, help="moments of the pair")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write, arm by arm")
    parser.add_argument(
        "--directions", type=Path, required=True, help="CSV to write, direction by direction"
    )


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", "directions", "resamples", *pairs.CELL)
    made_from = spec["activations"]
    pair = pairs.read(args.maps)
    check_cell(args.maps, pair.spec, {"activations": made_from})
    maps = pair.arms(spec["directions"])
    with pairs.open_readers("eval", *options.pair_files(args), made_from) as readers:
        found = fits(readers, pair, maps, spec["resamples"], *pairs.cell_of(spec))
    cell = {name: spec[name] for name in pairs.CELL}
    for path, columns, rows in zip(
        (args.out, args.directions), (COLUMNS, DIRECTION_COLUMNS), found, strict=True
    ):
        write_table(path, columns, [{**cell, **row} for row in rows])
