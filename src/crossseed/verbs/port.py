"""Carry a dictionary, a steering vector or a probe of one model to another, as a file for the other.

A dictionary is written as a SAELens folder with its card beside it: what it is worth on held-out tokens
of the new model, and what its nulls are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from crossseed import card, pairs, port, vectors
from crossseed.activations import ACTIVATIONS_SCHEMA, check_source, open_split, read_tokens
from crossseed.alignment import ladder
from crossseed.alignment.maps import AffineMap
from crossseed.cohorts.base import Subject, TokenSet
from crossseed.errors import UserError
from crossseed.keys import MEMBER
from crossseed.sae import formats
from crossseed.sae.formats.foreign import Foreign
from crossseed.store import arrays_digest, header, open_h5, write_table, write_text
from crossseed.verbs import models, options

CARD, EVIDENCE = "card.csv", "card-evidence.csv"
MAPS = tuple(arm for arm in ladder.RUNGS if arm != "raw")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--sae",
        help="folder of SAELens, sparsify or dictionary_learning, or org/repository[@revision][:folder]",
    )
    what.add_argument("--vector", type=Path, help=f"a vector ({', '.join(vectors.SUFFIXES)})")
    parser.add_argument(
        "--from", dest="source", type=Path, required=True, help="activations of the model it is of"
    )
    parser.add_argument(
        "--to", dest="target", type=Path, required=True, help="activations of the model it is for"
    )
    parser.add_argument("--map", choices=MAPS, default="procrustes", help="how to carry it")
    parser.add_argument(
        "--maps",
        type=Path,
        help="moments of the pair, if the workflow has made them; else taken now",
    )
    parser.add_argument(
        "--kind",
        choices=("direction", "probe"),
        default="direction",
        help="of a vector: added to activations, or reading from them",
    )
    parser.add_argument("--bias", type=float, default=0.0, help="of a probe")
    parser.add_argument("--own", nargs="?", help="the new model's own dictionary, to compare with")
    parser.add_argument(
        "--resamples", type=int, default=1000, help="behind each interval of the card"
    )
    options.add_device(parser)
    options.add_device_map(parser)
    runs = parser.add_argument_group(
        "to run the new model on reconstructions", "all of them, or cross-entropy is left out"
    )
    runs.add_argument(
        "--spec",
        help="kind, member and sequences as JSON, and where wanted map and resamples, which then stand for "
        "the options; copy it from a job's log",
    )
    runs.add_argument("--tokens", type=Path, help="token sets of the cohort")
    runs.add_argument(
        "--model", type=Path, nargs="*", default=[], help="files that the new model is loaded from"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder, or file of the vector, to write"
    )


def run(args: argparse.Namespace) -> None:
    source, target = (_member(path) for path in (args.source, args.target))
    if source["site"] != target["site"]:
        raise UserError(
            f"{args.source} is of site {source['site']}, {args.target} of {target['site']}; a map is "
            "fitted at one site"
        )
    _check_options(args)
    spec = options.spec_of(args, "kind", "member", "sequences") if args.spec is not None else {}
    how, resamples = spec.get("map", args.map), spec.get("resamples", args.resamples)
    for role, member in (("source", source), ("target", target)):
        wanted = spec.get("activations", {}).get(role, member["source"])
        check_source(getattr(args, role), {"source": member["source"]}, wanted)
    if args.vector is not None:
        vectors.check_suffix(args.out)
        vector = vectors.read(args.vector)
        _vector(args, vector, _pair(args, source, target))
        return
    folder = _folder(args.sae)
    found = formats.read(folder)
    _check_origin(args.sae, found, args.source, source)
    own = None
    if args.own:
        foreign = formats.read(_folder(args.own))
        _check_origin(args.own, foreign, args.target, target)
        own = formats.dictionary_of(foreign)
    runs = _runs(args, spec, target)
    pair = _pair(args, source, target)
    dictionary = formats.dictionary_of(found)
    try:
        tried = card.arms(dictionary, _maps(pair, how), how, own)
    except ValueError as error:
        raise UserError(f"{args.sae} cannot be carried by {how}: {error}") from error
    made_from = _made_from(source, target)
    with pairs.open_readers("eval", args.source, args.target, None, made_from) as readers:
        table, evidence = card.measure(readers, dictionary, tried, resamples, *pair.cell)
        if runs is not None:
            more = card.recovered(
                runs.subject, target["site"], runs.tokens, readers.target, tried,
                pair.moments.mean_b, spec["sequences"], resamples, *pair.cell,
            )  # fmt: skip
            table, evidence = table + more[0], evidence + more[1]
    measured: dict[str, dict[str, float | None]] = {}
    for row in table:
        value = row["value"] if np.isfinite(row["value"]) else None
        measured.setdefault(row["arm"], {})[row["metric"]] = value
    ported = {
        "from": {name: source[name] for name in MEMBER},
        "map": how,
        "sae": str(args.sae),
        "sae_digest": arrays_digest(found.arrays),
        "commit": formats.commit_of(folder),
        "written_by": found.origin,
        "measured_on_eval": measured,
    }
    # Of the new model from now on: what made it is what a port further on is checked against.
    made = {**{name: target[name] for name in (*MEMBER, "site")}, "activations": target["source"]}
    # The folder counts as whole once its cfg.json is there, which comes last.
    name = spec.get("dictionary", options.folder_of(Path(args.sae)).name)
    named = {**dict(zip(pairs.CELL, pair.cell, strict=True)), "dictionary": name, "map": how}
    for file, columns, rows in (
        (CARD, card.COLUMNS, table),
        (EVIDENCE, card.JUDGEMENT, evidence),
    ):
        write_table(args.out / file, columns, [{**named, **row} for row in rows])
    formats.save(args.out, found, tried[card.PORTED], target["site"], made, ported, made_from)


def _maps(pair: pairs.Pair, how: str) -> dict[str, AffineMap]:
    """The ladder of a pair, and the null of the same class as a map."""
    like = pair.shuffled_like(how)
    return {**pair.arms([]), **({pairs.SHUFFLED_LIKE: like} if like is not None else {})}


def _check_options(args: argparse.Namespace) -> None:
    """Refuses options that would go unheard."""
    of_vectors = {"--kind": args.kind != "direction", "--bias": args.bias != 0}
    of_saes = {
        "--own": args.own is not None,
        "--spec": args.spec is not None,
        "--tokens": args.tokens is not None,
        "--model": bool(args.model),
    }
    unheard = [name for name, given in (of_vectors if args.sae else of_saes).items() if given]
    if args.vector is not None and args.kind == "direction" and args.bias:
        unheard.append("--bias")
    if unheard:
        what = "a dictionary" if args.sae else f"a {args.kind}"
        raise UserError(f"{', '.join(unheard)} has no meaning for {what}; leave it out")
    if (args.spec is None) != (args.tokens is None) or (args.model and args.spec is None):
        raise UserError(
            "--spec and --tokens go together, and --model with them: give all to run the new model, or none"
        )


class _Runs(NamedTuple):
    """The new model, ready to run on token sets."""

    subject: Subject
    tokens: TokenSet


def _runs(args: argparse.Namespace, spec: dict[str, Any], target: dict[str, Any]) -> _Runs | None:
    """The new model, where it is given."""
    if not spec:
        return None
    for name in MEMBER:
        if spec["member"].get(name) != target[name]:
            raise UserError(
                f"--spec runs {name} {spec['member'].get(name)}, but --to is of {_told(target)}; take the spec "
                "of a splicing whose source is the new model"
            )
    sets, digest = read_tokens(args.tokens)
    with open_split(args.target, "eval", target["source"]) as reader:
        if reader.tokens != digest:
            raise UserError(
                f"{args.tokens} is not the token file that {args.target} was read on; give that one"
            )
    subject = models.subject_of(args, spec["kind"], spec["member"], args.model)
    return _Runs(subject, sets["eval"])


def _member(path: Path) -> dict[str, Any]:
    """What an activation file says it is of."""
    with open_h5(path, ACTIVATIONS_SCHEMA, verify=[]) as file:
        return dict(header(file).spec)


def _told(member: Mapping[str, Any]) -> str:
    return f"{member['cohort']} seed {member['seed']} {member['checkpoint']}, {member['site']}"


def _made_from(source: dict[str, Any], target: dict[str, Any]) -> dict[str, str]:
    return {"source": source["source"], "target": target["source"]}


def _pair(args: argparse.Namespace, source: dict[str, Any], target: dict[str, Any]) -> pairs.Pair:
    """Moments of the two, from their file or taken now."""
    made_from = _made_from(source, target)
    if args.maps is not None:
        pair = pairs.read(args.maps)
        made = pair.spec["activations"]
        for role, member in (("source", source), ("target", target)):
            if made[role] != made_from[role]:
                of = pair.spec
                raise UserError(
                    f"{args.maps} is a map between {of['cohort']} seed {of['source_seed']} and seed "
                    f"{of['target_seed']}, {of['checkpoint']}, {of['site']}, and its {role} is not "
                    f"{_told(member)} as it is now; give the moments of this pair, or leave out --maps"
                )
        return pair
    # The names that a pair of the workflow has, so that the random arms are the same.
    cell = {
        "cohort": source["cohort"],
        "source_seed": source["seed"],
        "target_seed": target["seed"],
        "checkpoint": source["checkpoint"],
        "site": source["site"],
    }
    with pairs.open_readers("fit", args.source, args.target, None, made_from) as readers:
        return pairs.fit(readers, {**cell, "activations": made_from}, *pairs.cell_of(cell))


def _folder(name: str) -> Path:
    """A folder, here or from the hub."""
    path = options.folder_of(Path(name))
    return path if path.is_dir() else formats.fetch(name)


def _check_origin(name: str, found: Foreign, path: Path, member: dict[str, Any]) -> None:
    """Refuses a dictionary of another width or site, or, where it says so, of another member."""
    site = member["site"]
    if found.site is not None and formats.canonical(found.site) != formats.canonical(site):
        raise UserError(
            f"{name} is of site {found.site}, but {path} is of {site}; give the activations of its own site"
        )
    made = found.spec.get("activations")
    if made is not None and made != member["source"]:
        raise UserError(
            f"{name} is of {_told(found.spec)}, but {path} is of {_told(member)}; give the activations that "
            "it was trained on"
        )
    with open_split(path, "eval", member["source"]) as reader:
        width = len(found.arrays["b_dec"])
        if width != reader.width:
            raise UserError(
                f"{name} has width {width}, but the activations of {path} {reader.width}"
            )


def _vector(args: argparse.Namespace, vector: np.ndarray, pair: pairs.Pair) -> None:
    """Writes the vector, and beside it what it is and, of a probe, its bias."""
    maps = _maps(pair, args.map)

    def moved(v: np.ndarray, affine: AffineMap) -> np.ndarray:
        return (
            port.direction(v, affine) if args.kind == "direction" else port.probe(v, 0.0, affine)[0]
        )

    affine = maps[args.map]
    about = {"kind": args.kind, "map": args.map, "vector": str(args.vector), "pair": pair.spec}
    try:
        if args.kind == "direction":
            found = port.direction(vector, affine)
        else:
            found, about["bias"] = port.probe(vector, args.bias, affine)
    except ValueError as error:
        raise UserError(f"{args.vector} cannot be carried by {args.map}: {error}") from error
    tried = {card.PORTED: found, "raw": vector}
    tried |= {name: moved(vector, maps[name]) for name in ladder.NULLS}
    if pairs.SHUFFLED_LIKE in maps:
        with suppress(ValueError):
            tried[pairs.SHUFFLED_LIKE] = moved(vector, maps[pairs.SHUFFLED_LIKE])
    made_from = pair.spec["activations"]
    with pairs.open_readers("eval", args.source, args.target, None, made_from) as readers:
        rows = card.readings(readers, vector, tried, args.resamples, *pair.cell)
    card_path = args.out.with_name(f"{args.out.name}.card.csv")
    write_table(card_path, card.VECTOR_COLUMNS, rows)
    about_path = args.out.with_name(f"{args.out.name}.json")
    write_text(about_path, json.dumps(about, indent=2, sort_keys=True) + "\n")
    vectors.write(args.out, found)
