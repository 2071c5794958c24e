"""Pass a member over its token sets once, and keep all that trainings of joint SAEs read of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import read_tokens
from crossseed.cohorts.base import module_of
from crossseed.devices import usable
from crossseed.joint import cache
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument(
        "--model", type=Path, nargs="*", default=[], help="files that the member is loaded from"
    )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args, "kind", "cohort", "site", "member", "dtype", "source", "development", "predictions"
    )
    load = module_of(spec["kind"], "upper").load
    upper = load(spec["member"], args.model, spec["site"], usable(args.device))
    sets, digest = read_tokens(args.tokens)
    sets = cache.with_development(sets, spec["development"])
    cache.write(
        args.out,
        upper,
        sets,
        spec["predictions"],
        spec,
        {"tokens": digest},
        spec["dtype"],
        spec["cohort"],
    )
