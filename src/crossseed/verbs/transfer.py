"""Try a source member's dictionaries on a target member, arm by arm, on the eval split."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import open_split
from crossseed.sae.dictionary import load
from crossseed.store import write_table
from crossseed.transfer import COLUMNS, check_cell, read_maps, transfer
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--source", type=Path, required=True, help="activations of the source")
    parser.add_argument("--target", type=Path, required=True, help="activations of the target")
    parser.add_argument(
        "--dictionaries", type=Path, nargs="+", required=True, help="the source's SAE folders"
    )
    parser.add_argument(
        "--maps", type=Path, nargs="?", help="maps of the pair; none for a member itself"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", "resamples", *options.CELL)
    made_from = spec["activations"]
    dictionaries = options.dictionaries_of(args.dictionaries, load)
    for path, dictionary in zip(args.dictionaries, dictionaries.values(), strict=True):
        check_cell(path, options.provenance(dictionary), {"activations": made_from["source"]})
    fit = read_maps(args.maps) if args.maps else None
    if fit is not None:
        check_cell(args.maps, fit.spec, {"activations": made_from})
    with (
        open_split(args.source, "eval", made_from["source"]) as source,
        open_split(args.target, "eval", made_from["target"]) as target,
    ):
        rows = transfer(
            source,
            target,
            dictionaries,
            fit,
            spec["resamples"],
            *options.cell_of(spec),
        )
    cell = {name: spec[name] for name in options.CELL}
    write_table(args.out, COLUMNS, [{**cell, **row} for row in rows])
