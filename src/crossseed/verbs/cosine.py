"""Compare the decoders of two members' dictionaries: init × map, beside the random floor."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed import pairs
from crossseed.decoder_cosine import COLUMNS, compare
from crossseed.sae.dictionary import load
from crossseed.store import check_cell, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument(
        "--source", type=Path, nargs="*", required=True, help="the source's SAE folders"
    )
    parser.add_argument(
        "--target", type=Path, nargs="*", required=True, help="the target's SAE folders"
    )
    parser.add_argument("--maps", type=Path, required=True, help="moments of the pair")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, *pairs.CELL)
    sources = options.dictionaries_of(args.source, load)
    targets = options.dictionaries_of(args.target, load)
    pair = pairs.read(args.maps)
    check_cell(args.maps, pair.spec, {name: spec[name] for name in pairs.CELL})
    for role, paths, found in (("source", args.source, sources), ("target", args.target, targets)):
        for path, dictionary in zip(paths, found.values(), strict=True):
            wanted = {"activations": pair.spec["activations"][role]}
            check_cell(path, options.provenance(dictionary), wanted)
    rotation = pair.rotation
    cell = {name: spec[name] for name in pairs.CELL}
    rows = [
        {**cell, "dictionary": name, "init": init, **row}
        for (name, init), dictionary in sources.items()
        for row in compare(dictionary.unit_decoder(), targets[name, init].unit_decoder(), rotation)
    ]
    write_table(args.out, COLUMNS, rows)
