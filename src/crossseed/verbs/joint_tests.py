"""Hold the map of a pair against others: retrainings, and draws of maps that need none."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossseed.joint import fits, nulls
from crossseed.joint.arms import MISMATCHED, RANDOM
from crossseed.joint.config import JointEvaluation
from crossseed.joint.files import read_map
from crossseed.joint.tables import CELL, NULL_COLUMNS, TEST_COLUMNS
from crossseed.store import read_table, write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser)
    joints.add_maps(parser)
    parser.add_argument(
        "--retrained", type=Path, nargs="*", default=[], help="CSVs of `crossseed joint_null`"
    )
    parser.add_argument(
        "--saes", type=Path, nargs="*", default=[], help="SAE of model A alone, where it is trained"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    needed = ("caches", "trainings", "evaluation", "center", "post_hoc", "shuffled")
    spec = options.spec_of(args, *needed, *CELL)
    cell, name = joints.cell_of(spec), joints.name_of(spec)
    rows = [_parsed(row) for path in args.retrained for row in read_table(path, NULL_COLUMNS)]
    found = list(nulls.retrained_rows(rows)) if rows else []
    for sae in joints.saes_of(args.saes, spec, spec["trainings"], "cpu"):
        caches = joints.read(args, spec, ["fit", "eval"])
        width = caches["fit"].width
        fitted = {key: read_map(args.maps, key, width, spec) for key in (fits.TRUE, fits.RIDGE)}
        config = JointEvaluation.model_validate(spec["evaluation"])
        draws = {RANDOM: spec["post_hoc"], MISMATCHED: spec["shuffled"]}
        found += nulls.post_hoc_rows(
            sae, caches["fit"], caches["eval"], fitted, spec["center"], config, draws, *name
        )
    write_table(args.out, TEST_COLUMNS, ({**cell, **row} for row in found))


def _parsed(row: dict[str, str]) -> dict[str, Any]:
    numbers = {key: float(row[key]) if row[key] else float("nan") for key in ("nre", "value")}
    return {**row, **numbers}
