"""Moments of a pair of members on paired tokens of the fit split: all maps are fitted from them."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_pair(parser)
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file of moments to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", *pairs.CELL)
    files = options.pair_files(args)
    with pairs.open_readers("fit", *files, spec["activations"]) as readers:
        pair = pairs.fit(readers, spec, *pairs.cell_of(spec))
        inputs = {
            role: reader.digest for role, reader in readers._asdict().items() if reader is not None
        }
    pairs.write(args.out, pair, inputs)
