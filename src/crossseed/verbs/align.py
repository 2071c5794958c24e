"""Fit every map from a target member to a source member on paired tokens of the fit split."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import open_split
from crossseed.transfer import fit_maps, write_maps
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    parser.add_argument("--source", type=Path, required=True, help="activations of the source")
    parser.add_argument("--target", type=Path, required=True, help="activations of the target")
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file of maps to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "activations", *options.CELL)
    made_from = spec["activations"]
    with (
        open_split(args.source, "fit", made_from["source"]) as source,
        open_split(args.target, "fit", made_from["target"]) as target,
    ):
        moments, fitted = fit_maps(source, target, *options.cell_of(spec))
        inputs = {"source": source.digest, "target": target.digest}
    write_maps(args.out, moments, fitted, spec, inputs)
