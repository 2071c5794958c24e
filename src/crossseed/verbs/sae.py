"""Train the SAEs of one variant on one member and site, one per init, and measure them."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.closure import code_digest
from crossseed.devices import usable
from crossseed.sae.architectures import module_name
from crossseed.sae.calibration import calibrated
from crossseed.sae.study import train_and_measure
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument(
        "--activations", type=Path, required=True, help="activation file of the site"
    )
    parser.add_argument(
        "--out",
        type=Path,
        nargs="+",
        required=True,
        help="SAELens folders to write, each named DICTIONARY-INIT, or the weight files in them",
    )
    parser.add_argument(
        "--calibration",
        type=Path,
        nargs="*",
        default=[],
        help="CSV of `crossseed calibrate`, whose penalty is taken",
    )
    parser.add_argument("--metrics", type=Path, required=True, help="CSV of held-out metrics")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "cohort", "seed", "site", "dictionary", "variant", "activations")
    architecture = spec["variant"]["architecture"]
    code = code_digest("crossseed.verbs.sae", module_name(architecture))
    folders = [options.folder_of(path) for path in args.out]
    for path in args.calibration:
        spec["variant"] = calibrated(spec, path)
    train_and_measure(spec, args.activations, folders, args.metrics, usable(args.device), code)
