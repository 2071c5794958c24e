"""Options of verbs that run both models of a pair."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import Subject, module_of
from crossseed.devices import usable
from crossseed.verbs import options


def add_models(parser: argparse.ArgumentParser) -> None:
    options.add_device(parser)
    options.add_device_map(parser)
    for role in ("source", "target"):
        parser.add_argument(
            f"--{role}-model",
            type=Path,
            nargs="*",
            default=[],
            help=f"files that the {role} is loaded from",
        )


def subjects_of(args: argparse.Namespace, spec: dict[str, Any]) -> tuple[Subject, Subject]:
    """Source and target, whole; ``members`` of the spec says how each is read."""
    source, target = (
        subject_of(args, spec["kind"], spec["members"][role], files)
        for role, files in (("source", args.source_model), ("target", args.target_model))
    )
    return source, target


def subject_of(
    args: argparse.Namespace, kind: str, member: dict[str, Any], files: list[Path]
) -> Subject:
    """One member, whole."""
    told = {**member, **options.device_map_of(args)}
    found: Subject = module_of(kind, "interventions").load(told, files, usable(args.device))
    return found
