"""Hold a member, and decoys made from it, or another member, against a primary one by four bars."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossseed import bars, gauge
from crossseed.activations import read_tokens
from crossseed.bars import judge
from crossseed.bars.behavioural import PRIMARY
from crossseed.bars.effects import Causes, causes_of
from crossseed.cohorts.dyck import members
from crossseed.cohorts.dyck import weights as dyck
from crossseed.cohorts.dyck.model import DyckTransformer
from crossseed.devices import usable
from crossseed.keys import JOURNEY
from crossseed.store import check_cell, read_table, read_tensors, write_table
from crossseed.verbs import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_spec(parser)
    options.add_device(parser)
    parser.add_argument("--source", type=Path, required=True, help="checkpoints of the primary")
    parser.add_argument("--target", type=Path, required=True, help="checkpoints of the candidate")
    for role in ("source", "target"):
        parser.add_argument(
            f"--{role}-causes", type=Path, required=True, help=f"effects of cuts in the {role}"
        )
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--weights", type=Path, nargs="?", help="errors of the pair's weights; for another member"
    )
    parser.add_argument(
        "--elements", type=Path, nargs="?", help="what aligns the pair; for another member"
    )
    parser.add_argument("--out", type=Path, required=True, help="CSV to write")


def run(args: argparse.Namespace) -> None:
    spec = options.spec_of(
        args,
        *("members", "lengths", "batch_rows", "batches", "rows", "orders", "resamples", *JOURNEY),
    )
    alone = spec["source_seed"] == spec["target_seed"]
    options.spec_of(
        args, *(("sequences", "taught_steps") if alone else ("sequences_between", "untrained"))
    )
    device = usable(args.device)
    sets, _ = read_tokens(args.tokens)
    cell = tuple(spec[name] for name in JOURNEY)
    causes = [_causes(path) for path in (args.source_causes, args.target_causes)]
    source = _model(spec["members"]["source"], args.source, device)
    if alone:
        state, _ = members.read(spec["members"]["source"], args.source)
        rows = judge.itself(source, state, causes[0], sets, spec, *cell)
    else:
        models = {
            PRIMARY: source,
            bars.SIBLING: _model(spec["members"]["target"], args.target, device),
        }
        if spec["untrained"] is not None:
            before = {**spec["members"]["target"], "checkpoint": spec["untrained"]}
            models[judge.UNTRAINED] = _model(before, args.target, device)
        elements, made = read_tensors(args.elements, gauge.SCHEMA)
        check_cell(args.elements, made.spec, {name: spec[name] for name in JOURNEY})
        found, as_published = (elements[f"{arm}/heads"] for arm in (gauge.ALIGNED, gauge.PUBLISHED))
        errors = _errors(args, spec)
        rows = judge.sibling(models, causes, errors, found, as_published, sets, spec, *cell)
    named = {name: spec[name] for name in JOURNEY}
    write_table(args.out, bars.COLUMNS, [{**named, **row} for row in rows])


def _model(member: dict[str, Any], path: Path, device: str) -> DyckTransformer:
    found: DyckTransformer = members.load(member, [path], [], device).model
    return found


def _causes(path: Path) -> Causes:
    return causes_of(read_table(path, bars.CAUSE_COLUMNS))


def _errors(args: argparse.Namespace, spec: dict[str, Any]) -> list[bars.Row]:
    """Bar P as the alignment of the pair's weights has it."""
    found = {
        (row["arm"], row["metric"]): float(row["value"])
        for row in read_table(args.weights, gauge.COLUMNS)
        if row["tensor"] == "all"
    }
    n = len(dyck.from_state(dyck.load(spec["members"]["source"], args.source)).tensors())
    return judge.parameter_rows(
        found[gauge.PUBLISHED, "max_mse"],
        found[gauge.ALIGNED, "relative_error"],
        found.get((gauge.UNTRAINED, "relative_error"), float("nan")),
        n,
    )
