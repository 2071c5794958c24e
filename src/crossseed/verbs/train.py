"""Train one member of a cohort; resumes bit-exactly after a kill."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.closure import code_digest
from crossseed.cohorts.base import module_name, module_of
from crossseed.devices import usable
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_data(parser)
    options.add_device(parser)
    parser.add_argument(
        "--anchor",
        type=Path,
        nargs="*",
        default=[],
        help="files of the anchor's weights, where tensors are shared",
    )
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument(
        "--out", type=Path, nargs="+", required=True, help="files of the member's weights"
    )
    parser.add_argument("--curve", type=Path, required=True, help="CSV of the training curve")
    parser.add_argument("--quality", type=Path, required=True, help="CSV of held-out measures")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(args, "kind", "cohort")
    module_of(spec["kind"], "training").train(
        spec,
        device=usable(args.device),
        code=code_digest(module_name(spec["kind"], "training")),
        anchor=args.anchor,
        inputs=args.tokenizer,
        **options.data_of(args),
        out=args.out,
        curve=args.curve,
        quality=args.quality,
    )
