"""Find the penalty with which an SAE has a wanted number of active latents a token."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.devices import usable
from crossseed.sae.calibration import COLUMNS, calibrate
from crossseed.store import write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the site"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV of the runs to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args, "variant", "expansion", "activations", "wanted_l0", "steps", "runs", *COLUMNS[:5]
    )
    rows = calibrate(spec, args.activations, args.out, usable(args.device))
    write_table(args.out, COLUMNS, rows)
