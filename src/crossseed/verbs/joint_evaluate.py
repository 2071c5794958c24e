"""Measure one condition of a pair on held-out texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.devices import usable
from crossseed.joint import study
from crossseed.joint.conditions import MATCHED, Condition
from crossseed.joint.config import JointEvaluation
from crossseed.joint.files import read_map
from crossseed.joint.tables import CELL, CONDITION_COLUMNS, LATENT_COLUMNS
from crossseed.store import write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser, models=True)
    joints.add_maps(parser)
    parser.add_argument(
        "--saes", type=Path, nargs="+", required=True, help="SAEs of the condition, A's first"
    )
    parser.add_argument(
        "--independent",
        type=Path,
        nargs="*",
        default=[],
        help="SAEs of A and of B alone, whose accuracy is compared with too",
    )
    parser.add_argument("--latents", type=Path, required=True, help="CSV of latents to write")
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    needed = ("kind", "members", "caches", "condition", "trainings", "evaluation", "map")
    spec = options.spec_of(args, *needed, "independent", "lambda_cross", *CELL)
    device, config = usable(args.device), JointEvaluation.model_validate(spec["evaluation"])
    condition, name = Condition(**spec["condition"]), joints.name_of(spec)
    uppers = joints.uppers_of(args, spec, device)
    matched = config.match_splits if condition.condition in MATCHED else []
    found = joints.read(args, spec, dict.fromkeys(["eval", *matched]))
    saes = joints.saes_of(args.saes, spec, spec["trainings"], device)
    independent = joints.saes_of(args.independent, spec, spec["independent"], device)
    carried = read_map(args.maps, spec["map"], found["eval"].width, spec)
    reference = None
    if independent:
        sides = study.sides_of(Condition("1"), independent, carried)
        reference = study.behaviour_of(sides, uppers, found["eval"])
    told = study.Told(condition, saes, carried, uppers, found["eval"], found, config, name)
    measured = study.measure(told, reference)
    about = {
        **joints.cell_of(spec),
        "condition": condition.condition,
        "init": condition.init,
        "lambda_cross": spec["lambda_cross"],
    }
    write_table(args.latents, LATENT_COLUMNS, ({**about, **row} for row in measured.latents))
    write_table(args.out, CONDITION_COLUMNS, ({**about, **row} for row in measured.rows))
