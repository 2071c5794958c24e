"""Train one SAE of a pair, through both models above the site."""

from __future__ import annotations

import argparse
from pathlib import Path

from crossseed.closure import code_digest
from crossseed.cohorts.base import DEVELOPMENT, module_name
from crossseed.devices import usable
from crossseed.joint import training
from crossseed.joint.config import JointTraining
from crossseed.joint.files import read_map, write_sae
from crossseed.joint.tables import CELL, HISTORY_COLUMNS
from crossseed.resume import Resume
from crossseed.store import file_digest, write_table
from crossseed.verbs import joints, options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    joints.add_pair(parser, models=True)
    joints.add_maps(parser)
    parser.add_argument("--history", type=Path, required=True, help="CSV of epochs to write")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")


def run(args: argparse.Namespace) -> None:
    needed = ("kind", "members", "caches", "training", "settings", "models", "map")
    spec = options.spec_of(args, *needed, *CELL)
    settings = JointTraining.model_validate(spec["settings"])
    device = usable(args.device)
    uppers = joints.uppers_of(args, spec, device)
    # Without a patience nothing is stopped early.
    stops = settings.early_stopping_patience is not None
    found = joints.read(args, spec, ["train", DEVELOPMENT] if stops else ["train"])
    carried = read_map(args.maps, spec["map"], found["train"].width, spec)
    name = joints.name_of(spec)
    code = code_digest("crossseed.verbs.joint_train", module_name(spec["kind"], "upper"))
    inputs = joints.inputs_of(args, spec)
    if args.maps:
        inputs["maps"] = file_digest(args.maps)
    resume = Resume(args.out, {"spec": spec, "code": code, "inputs": inputs})
    cell = f"{spec['cohort']} {spec['source_seed']}-{spec['target_seed']} {spec['training']}"
    done = training.train(
        settings,
        carried,
        uppers,
        found["train"],
        found.get(DEVELOPMENT),
        device,
        resume,
        cell,
        models=tuple(spec["models"]),
        names=name,
    )
    about = {**joints.cell_of(spec), "training": spec["training"], "held_out": None}
    rows = [
        {**about, **row, "kept": int(number + 1 == done.kept_epoch)}
        for number, row in enumerate(done.history)
    ]
    write_table(args.history, HISTORY_COLUMNS, rows)
    write_sae(args.out, done.arrays, spec, inputs)
    resume.discard()
