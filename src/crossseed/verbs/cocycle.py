"""Test whether the rotations of three seeds compose, on disjoint parts of the fit split."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from crossseed.activations import open_split
from crossseed.haar import cocycle
from crossseed.keys import PLACE
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--activations",
        type=Path,
        nargs="+",
        required=True,
        help="of each seed, in the spec's order",
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", "seeds", *PLACE)
    cell = {name: spec[name] for name in PLACE}
    with ExitStack() as stack:
        readers = {
            seed: stack.enter_context(open_split(path, "fit", made_from))
            for seed, path, made_from in zip(
                spec["seeds"], args.activations, spec["activations"], strict=True
            )
        }
        rows = cocycle.table(readers, *cell.values())
    write_table(args.out, cocycle.COLUMNS, [{**cell, **row} for row in rows])
