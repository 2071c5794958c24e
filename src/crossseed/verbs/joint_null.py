"""Train SAEs of a pair with other maps than the one that was fitted, and measure them."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.closure import code_digest
from crossseed.cohorts.base import DEVELOPMENT, module_name
from crossseed.devices import usable
from crossseed.joint import arms, nulls
from crossseed.joint.config import JointEvaluation, JointTraining
from crossseed.joint.tables import CELL, NULL_COLUMNS
from crossseed.resume import Resume
from crossseed.store import write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser, models=True)
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    needed = ("kind", "members", "caches", "null", "arms", "settings", "evaluation", "center")
    spec = options.spec_of(args, *needed, *CELL)
    settings = JointTraining.model_validate(spec["settings"])
    device = usable(args.device)
    stops = settings.early_stopping_patience is not None
    splits = ["fit", "train", "eval", *([DEVELOPMENT] if stops else [])]
    cell = f"{spec['cohort']} {spec['source_seed']}-{spec['target_seed']}"
    told = nulls.Retraining(
        settings,
        JointEvaluation.model_validate(spec["evaluation"]),
        spec["center"],
        joints.uppers_of(args, spec, device),
        joints.read(args, spec, splits),
        device,
        cell,
        joints.name_of(spec),
    )
    code = code_digest("crossseed.verbs.joint_null", module_name(spec["kind"], "upper"))
    identity = {"spec": spec, "code": code, "inputs": joints.inputs_of(args, spec)}
    done = Resume(args.out, identity, seconds=0)

    def within(number: int) -> Resume:
        return Resume(args.out.with_name(f"{args.out.name}.{number}"), identity)

    rows = nulls.retrained(told, arms.of_plain(spec["arms"]), done, within)
    write_table(args.out, NULL_COLUMNS, ({**joints.cell_of(spec), **row} for row in rows))
    done.discard()
