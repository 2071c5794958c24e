"""Fit the maps that carry model B into the frame of A for joint SAEs."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.joint import fits
from crossseed.joint.files import write_maps
from crossseed.joint.tables import CELL
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser)
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "caches", "center", "special_tokens", *CELL)
    cache = joints.read(args, spec, ["fit"])["fit"]
    found = fits.trained_with(cache.coded_tokens(spec["special_tokens"]), spec["center"])
    write_maps(args.out, found, spec, joints.inputs_of(args, spec))
