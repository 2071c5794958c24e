"""Whether an artefact is what a configuration asks for: its spec against the one that the run would give."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crossseed import layout, plan, specs
from crossseed.cohorts.dyck.config import CHECKPOINTS
from crossseed.config.schema import RunConfig
from crossseed.dictionary_names import parts_of
from crossseed.store import Header, canonical_json, source_of
from crossseed.verify.contents import own_part
from crossseed.verify.places import SHARED, Place

Spec = dict[str, Any]
_ROLES = ("source", "target")


def why_not_configured(run: RunConfig, place: Place, header: Header) -> str | None:
    """In what an artefact is not that of a run; None if it is, or if the run has no such cell, or if the artefact keeps no
    spec that could be held against it."""
    expect = _EXPECTED.get(place.kind.template)
    if expect is None:
        return None
    cell: dict[str, Any] = dict(place.cell)
    for name in ("seed", *_ROLES):
        if name in cell:
            cell[name] = int(cell[name])
    if not _has(run, cell):
        return None
    made = header.spec
    if "cfg" in made:
        made = own_part(made["cfg"])["spec"]
    wanted = _spec_in(run, lambda run, **cell: expect(run, cell), cell)
    if wanted is None:
        return None
    if "variant" in wanted and plan.matched(run, wanted["dictionary"]):
        # Its penalty is that of the calibration.
        wanted = {**wanted, "variant": made.get("variant")}
    different = _first_difference(made, wanted)
    if different is None:
        return None
    return _sentence(*different)


def why_not_asked_for(run: RunConfig, place: Place, command: Sequence[str]) -> str | None:
    """In what a file is not that of a run, by the command line that its job's log opens with; as `why_not_configured`.

    Args:
        command: verb and options.
    """
    cell: dict[str, Any] = dict(place.cell)
    if cell.pop("run", run.run) != run.run or "--spec" not in command:
        return None
    for name in ("seed", *_ROLES):
        if name in cell:
            cell[name] = int(cell[name])
    if not _has(run, cell):
        return None
    made = json.loads(command[command.index("--spec") + 1])
    if "table" in made:
        # Of a table of tables that is all it is told.
        cell = {"table": made["table"]}
    spec_of = getattr(specs, command[0])
    takes = inspect.signature(spec_of, follow_wrapped=False).parameters.values()
    if not any(one.kind is one.VAR_KEYWORD for one in takes):
        names = {one.name for one in takes}
        cell = {name: value for name, value in cell.items() if name in names}
    wanted = _spec_in(run, spec_of, cell)
    different = None if wanted is None else _first_difference(made, wanted)
    return None if different is None else _sentence(*different)


def _spec_in(
    run: RunConfig, spec_of: Callable[..., Spec], cell: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The spec of a cell in a run; None where the run has no such study, variant, condition or null."""
    try:
        found: dict[str, Any] = json.loads(canonical_json(spec_of(run, **cell)))
    except (ValueError, KeyError):
        return None
    return found


def _sentence(key: str, found: Any, asked: Any) -> str:
    if key in {"origin", "source"} or key.startswith(("activations", "caches")):
        key += " (a digest of model, tokens, and the code that made both)"
    return f"was made with {key} = {found}, but the configuration says {asked}"


def _has(run: RunConfig, cell: Mapping[str, Any]) -> bool:
    """Whether a run has the cohort, members and site of a cell."""
    if "cohort" not in cell:
        return True
    config = run.cohorts.get(cell["cohort"])
    if config is None:
        return False
    seeds = [cell[name] for name in ("seed", *_ROLES) if name in cell]
    dictionary = cell.get("dictionary")
    if dictionary is not None:
        variant, expansion = parts_of(dictionary)
        of = run.dictionaries.get(variant)
        if of is None or int(expansion) not in of.expansions:
            return False
    if "training" in cell and cell["training"] not in plan.joint_trainings(run):
        return False
    return (
        all(seed in config.seeds for seed in seeds)
        and cell.get("site", config.sites[0]) in config.sites
        and cell.get("checkpoint", "final") in (*plan.checkpoints(run, cell["cohort"]), "final")
    )


def _first_difference(
    made: Any, wanted: Any, at: tuple[str, ...] = ()
) -> tuple[str, Any, Any] | None:
    if isinstance(made, dict) and isinstance(wanted, dict):
        for key in sorted({*made, *wanted}):
            found = _first_difference(made.get(key), wanted.get(key), (*at, key))
            if found is not None:
                return found
        return None
    return None if made == wanted else (".".join(at), made, wanted)


def _activations(run: RunConfig, cell: dict[str, Any]) -> Spec:
    site = cell.pop("site")
    spec = specs.extract(run, **cell)
    return {**spec, "site": site, "source": source_of(spec["origin"], site)}


def _dictionary(run: RunConfig, cell: dict[str, Any]) -> Spec:
    init = cell.pop("init")
    spec = specs.sae(run, **cell)
    del spec["inits"]
    return {**spec, "init": init}


# By template: what the spec of a cell would be. Cells that this run does not have are left to `_has`.
_EXPECTED: Mapping[str, Callable[[RunConfig, dict[str, Any]], Spec]] = {
    layout.TOKENS: lambda run, cell: specs.tokens(run, **cell),
    layout.ACTIVATIONS: _activations,
    CHECKPOINTS: lambda run, cell: specs.train(run, **cell),
    layout.DICTIONARY_WEIGHTS: _dictionary,
    layout.MAPS: lambda run, cell: specs.align(run, **cell),
    layout.NULL: lambda run, cell: specs.null(run, **cell),
    layout.JOINT_CACHE: lambda run, cell: specs.joint_cache(run, **cell),
    layout.JOINT_MAPS: lambda run, cell: specs.joint_maps(run, **cell),
    layout.JOINT_SAE: lambda run, cell: specs.joint_train(run, **cell),
}
# Compared by the spec that they carry, a dictionary's settings in the header of its weights; and what is of no job.
BY_THEIR_SPEC = {*_EXPECTED, layout.DICTIONARY_CFG, *SHARED}
