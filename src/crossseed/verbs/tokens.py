"""Make a cohort's token sets, split by sequence into fit, train and eval."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.activations import write_tokens
from crossseed.cohorts.base import module_of
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_data(parser)
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument("--out", type=Path, required=True, help="HDF5 file to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kind")
    own = {key: value for key, value in spec.items() if key != "kind"}
    sets, used = module_of(spec["kind"], "tokens").make_tokens(
        own, args.tokenizer, **options.data_of(args)
    )
    write_tokens(args.out, spec, sets, used)
