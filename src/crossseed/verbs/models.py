"""Options of verbs that run models whole, and what they read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

from crossseed import pairs
from crossseed.activations import read_tokens
from crossseed.cohorts.base import Concept, Subject, TokenSet, module_of
from crossseed.devices import usable
from crossseed.store import check_cell
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


# What the spec of a verb says that shows concepts to both models of a pair.
SHOWN = ("activations", "kind", "members", "text", "concepts", "trials", *pairs.CELL)


class Shown(NamedTuple):
    """Both models of a pair and concepts to show them."""

    cell: tuple[object, ...]
    pair: pairs.Pair
    sets: dict[str, TokenSet]
    concepts: list[Concept]
    source: Subject
    target: Subject


def add_shown(parser: argparse.ArgumentParser) -> None:
    add_models(parser)
    parser.add_argument("--tokens", type=Path, required=True, help="token sets of the cohort")
    parser.add_argument(
        "--tokenizer", type=Path, nargs="*", default=[], help="files of the cohort's tokenizer"
    )
    parser.add_argument(
        "--prompts", type=Path, nargs="*", default=[], help="files of contrastive prompts"
    )
    parser.add_argument("--maps", type=Path, required=True, help="moments of the pair")


def shown(args: argparse.Namespace, spec: dict[str, Any]) -> Shown:
    """What the options of `add_shown` and a spec with `SHOWN` name.

    Raises:
        UserError: the moments are of another pair; or the concepts cannot be made.
    """
    pair = pairs.read(args.maps)
    check_cell(args.maps, pair.spec, {"activations": spec["activations"]})
    sets, _ = read_tokens(args.tokens)
    told = {"concepts": spec["concepts"], "trials": spec["trials"], **spec["text"]}
    concepts = module_of(spec["kind"], "concepts").make(told, args.tokenizer, args.prompts, sets)
    return Shown(pairs.cell_of(spec), pair, sets, concepts, *subjects_of(args, spec))


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
    device = usable(args.device, options.spread(args))
    found: Subject = module_of(kind, "interventions").load(told, files, device)
    return found
