"""Train the tokenizer of a cohort whose models are trained here."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.cohorts.base import module_of
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_data(parser)
    parser.add_argument(
        "--out", type=Path, nargs="+", required=True, help="files of the tokenizer's folder"
    )


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kind")
    module_of(spec["kind"], "tokenizer").make(spec, args.out, **options.data_of(args))
