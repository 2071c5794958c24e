"""What verbs on joint SAEs have in common: the files of a pair."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed.cohorts.base import module_of
from crossseed.errors import UserError
from crossseed.joint import cache as caches
from crossseed.joint.files import Saved, read_sae
from crossseed.joint.model import JointSAE
from crossseed.joint.tables import CELL
from crossseed.joint.upper import MODELS, Cache, CutModel, check_pair
from crossseed.verbs import options

ROLES = ("source", "target")


def add_pair(parser: argparse.ArgumentParser, models: bool = False) -> None:
    """Options for caches of both models, and with `models` for what they are loaded from."""
    options.add_spec(parser)
    for role, name in zip(ROLES, MODELS, strict=True):
        parser.add_argument(
            f"--{role}", type=Path, required=True, help=f"cache of model {name}, the {role}"
        )
        if models:
            parser.add_argument(
                f"--{role}-model",
                type=Path,
                nargs="*",
                default=[],
                help=f"files that model {name} is loaded from",
            )
    if models:
        options.add_device(parser)


def add_maps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--maps", type=Path, nargs="?", help="maps of the pair, where one of them is taken"
    )


def cell_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """What names the pair in tables."""
    return {key: spec[key] for key in CELL}


def name_of(spec: Mapping[str, Any]) -> tuple[object, ...]:
    """What names a pair's random draws."""
    return tuple(spec[key] for key in CELL)


def sources_of(args: argparse.Namespace, spec: Mapping[str, Any]) -> list[caches.Source]:
    return [caches.Source(getattr(args, role), spec["caches"][role]) for role in ROLES]


def read(
    args: argparse.Namespace, spec: Mapping[str, Any], splits: Iterable[str]
) -> dict[str, Cache]:
    """Splits of both models."""
    files = sources_of(args, spec)
    return {split: caches.read(files, split) for split in splits}


def inputs_of(args: argparse.Namespace, spec: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the caches, for a header."""
    files = sources_of(args, spec)
    return {role: caches.digest(one) for role, one in zip(ROLES, files, strict=True)}


def uppers_of(args: argparse.Namespace, spec: Mapping[str, Any], device: str) -> list[CutModel]:
    """Both models cut at the site, which must be a pair."""
    kind = module_of(spec["kind"], "upper")
    found = [
        kind.load(spec["members"][role], getattr(args, f"{role}_model"), spec["site"], device)
        for role in ROLES
    ]
    check_pair(*found)
    return found


def saes_of(
    paths: Sequence[Path], spec: Mapping[str, Any], trainings: Sequence[str], device: str
) -> list[JointSAE]:
    """SAEs of some trainings, in that order.

    Raises:
        UserError: their files are not given one for one.
    """
    if len(paths) != len(trainings):
        raise UserError(
            f"{len(paths)} SAE files are given, but the spec names {', '.join(trainings) or 'none'}; give the file of each"
        )
    found: list[Saved] = [
        read_sae(path, spec, training, device)
        for path, training in zip(paths, trainings, strict=True)
    ]
    return [one.sae for one in found]
