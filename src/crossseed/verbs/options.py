"""Options that several verbs share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crossseed.errors import UserError
from crossseed.store import check_cell

if TYPE_CHECKING:
    from crossseed.sae.dictionary import Dictionary


def add_spec(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--spec",
        required=True,
        help="settings of the job as JSON; the log of every workflow job opens with its command line",
    )


def add_pair(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--source", type=Path, required=True, help="activations of the source")
    parser.add_argument("--target", type=Path, required=True, help="activations of the target")
    parser.add_argument(
        "--untrained", type=Path, nargs="?", help="activations of the target before training"
    )


def pair_files(args: argparse.Namespace) -> tuple[Path, Path, Path | None]:
    """Activation files of source, target, and untrained target, if the run names that one."""
    return args.source, args.target, args.untrained


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=("auto", "cpu", "cuda"),
        default="auto",
        help="what it computes on; auto takes a GPU where one is visible",
    )


def add_device_map(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device-map", choices=("auto", "none"), default="none", help="spread a model over devices"
    )


def device_map_of(args: argparse.Namespace) -> dict[str, str | None]:
    """What a member's loader is told beside its spec."""
    return {"device_map": None if args.device_map == "none" else args.device_map}


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        nargs="*",
        default=[],
        help="files of resources/ that the cohort is made from, where it is from any",
    )


def data_of(args: argparse.Namespace) -> dict[str, list[Path]]:
    """What a kind that is made from files of `resources/` is told beside its spec."""
    return {"data": args.data} if args.data else {}


def spread(args: argparse.Namespace) -> bool:
    """Whether a job takes all GPUs that it sees."""
    return str(args.device_map) == "auto"


def spec_of(args: argparse.Namespace, *keys: str) -> dict[str, Any]:
    """The parsed ``--spec``, which must hold `keys`."""
    try:
        spec = json.loads(args.spec)
    except json.JSONDecodeError as error:
        raise UserError(f"--spec is not JSON ({error}); copy it from a job's log") from error
    if not isinstance(spec, dict):
        raise UserError(f"--spec is a {type(spec).__name__}, expected a JSON object")
    missing = [key for key in keys if key not in spec]
    if missing:
        raise UserError(f"--spec lacks {', '.join(missing)}; copy it from a job's log")
    return spec


def folder_of(path: Path) -> Path:
    """The folder of a dictionary, given the folder or a file in it."""
    return path.parent if path.suffix in {".json", ".safetensors"} else path


def site_of(path: Path) -> str:
    """The site an activation file is named after."""
    return path.name.removesuffix(".h5")


def provenance(dictionary: Dictionary) -> dict[str, Any]:
    """The spec that made a dictionary."""
    spec: dict[str, Any] = dictionary.cfg["metadata"]["crossseed"]["spec"]
    return spec


def dictionaries_of(
    folders: list[Path], load: Callable[[Path], Dictionary]
) -> dict[tuple[str, str], Dictionary]:
    """Dictionaries by (name, init), as their own provenance has them."""
    found = {}
    for folder in folders:
        dictionary = load(folder_of(folder))
        spec = provenance(dictionary)
        found[spec["dictionary"], spec["init"]] = dictionary
    return found


def seeds_of(
    folders: list[Path], inits: list[str], spec: Mapping[str, Any], cell: Iterable[str]
) -> dict[str, Dictionary]:
    """SAEs of one cell by seed: all that are asked for, in that order, and of that cell and no other.

    Args:
        spec: of the job. cell: its keys that name a cell.
    """
    # Imported here: verbs without dictionaries do without.
    from crossseed.sae.dictionary import load

    found = {init: dictionary for (_, init), dictionary in dictionaries_of(folders, load).items()}
    missing = [init for init in inits if init not in found]
    if missing:
        raise UserError(
            f"SAE seeds {', '.join(found) or 'none'} are given, but the spec names {', '.join(missing)} too; give the "
            "folder of each"
        )
    for path, dictionary in zip(folders, found.values(), strict=True):
        wanted = {key: spec[key] for key in ("activations", *cell)}
        check_cell(path, provenance(dictionary), wanted)
    return {init: found[init] for init in inits}


def one_of(what: str, value: str, known: Iterable[str]) -> str:
    """`value`, which must be one of `known`."""
    if value not in known:
        raise UserError(f"{what} {value!r} is unknown; expected one of {', '.join(known)}")
    return value
