"""All files of a results folder: each by itself, then against those it was made from and those made with it."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from crossseed import layout
from crossseed.atomic import TEMPORARY, alive
from crossseed.cohorts.dyck.config import CHECKPOINTS
from crossseed.cohorts.neox import provenance
from crossseed.config.schema import RunConfig
from crossseed.errors import UserError
from crossseed.progress import Progress
from crossseed.store import REMEDY, Header, digest_of
from crossseed.verify import contents, logs
from crossseed.verify.configured import BY_THEIR_SPEC, why_not_asked_for, why_not_configured
from crossseed.verify.places import PORT_WEIGHTS, SHARED, TOGETHER, Place, place_of

# Files that no job reads or that only accompany one.
ASIDE = re.compile(r"\.passes\.json\.lock|\.snakemake_timestamp|README\.md")


class Problem(NamedTuple):
    """What is wrong with one file.

    Attributes:
        said: a sentence that names the file.
        again: what Snakemake makes it as; empty where it is only to be deleted.
        delete: what to delete; None where it is made again.
    """

    said: str
    again: str = ""
    delete: Path | None = None


class Found(NamedTuple):
    """What was read.

    Attributes:
        files, bytes: how many. problems: what is wrong, in the order of the paths.
        unfinished: resume files of jobs that have not ended. unknown: files that no rule makes.
    """

    files: int
    bytes: int
    problems: list[Problem]
    unfinished: list[Path]
    unknown: list[Path]


class _Known(NamedTuple):
    """An artefact that says what it was made from."""

    place: Place
    header: Header


def check(results: Path, run: RunConfig | None = None) -> Found:
    """Reads every file below a results folder.

    Args:
        results: the folder, of whatever name.
        run: the configuration that artefacts should be of; None: of any.

    Raises:
        UserError: there is no such folder.
    """
    if not results.is_dir():
        raise UserError(f"{results}: is no folder; give the folder of results, such as results")
    paths = list(_files(results))
    sizes = [_size(path) for path in paths]
    logged = logs.read(results)
    problems: dict[str, Problem] = {}
    known: dict[str, _Known] = {}
    unfinished, unknown = [], []
    progress = Progress("verify", sum(sizes) >> 10)
    done = 0
    for path, size in zip(paths, sizes, strict=True):
        name = layout_path(results, path)
        place = place_of(name)
        try:
            if path.name.startswith(".") and path.suffix in {".tmp", ".resume"}:
                found = _left_over(path)
                if found is None:
                    unfinished.append(path)
                else:
                    problems[name] = found
            elif ASIDE.fullmatch(path.name):
                pass
            elif place is None:
                unknown.append(path)
            else:
                header = _one(path, place, logged.get(name), run)
                if header is not None:
                    known[name] = _Known(place, header)
        except UserError as error:
            said = str(error).removesuffix(f"; {REMEDY}")
            again = place.target if place else name
            if said.startswith(str(path.with_name(provenance.WEIGHTS))):
                # What config.json says of the weights beside it.
                again = layout_path(results, path.with_name(provenance.WEIGHTS))
            if place is not None and place.kind.template in SHARED:
                # No rule makes it.
                problems.setdefault(name, Problem(said, delete=path))
            else:
                problems.setdefault(again, Problem(said, again))
        done += size
        progress.update(done >> 10, f"KB, {len(problems)} problems")
    progress.close()
    names = {layout_path(results, path) for path in paths}
    for problem in (*_half_made(results, names), *_inconsistent(results, known)):
        problems.setdefault(problem.again, problem)
    whole = list(problems.values())
    return Found(len(paths), sum(sizes), whole, unfinished, unknown)


def _size(path: Path) -> int:
    """Of a file; 0 of one that is gone since it was listed."""
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def layout_path(results: Path, path: Path) -> str:
    """A path as `crossseed.layout` names it, whatever the folder of results is called."""
    return f"results/{path.relative_to(results).as_posix()}"


def _files(results: Path) -> Iterator[Path]:
    """Files below the folder in a fixed order, but for logs and benchmarks; folders that were left
    half written count as one."""
    with os.scandir(results) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            if entry.name.startswith(".") and entry.name.endswith(".tmp"):
                yield path
            elif entry.name not in {"logs", "benchmarks"}:
                yield from _files(path)
        else:
            yield path


def _left_over(path: Path) -> Problem | None:
    """What a killed job left beside its output; None for the state of one that has not ended."""
    if path.suffix == ".tmp":
        told = TEMPORARY.fullmatch(path.name)
        if told is not None and alive(told["host"], int(told["pid"])):
            return None
        return Problem(f"{path}: left half written by a killed job; delete it", delete=path)
    output = path.with_name(path.name[1:].removesuffix(".resume"))
    if output.exists() and output.stat().st_mtime_ns >= path.stat().st_mtime_ns:
        return Problem(f"{path}: the state of a job that has ended; delete it", delete=path)
    return None


def _one(
    path: Path, place: Place, logged: logs.Logged | None, run: RunConfig | None
) -> Header | None:
    if path.is_symlink() and not path.exists():
        raise UserError(f"{path}: is a link to nothing")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is no file")
    header = contents.check(path, place)
    if header is not None:
        told = _told(place, header)
        for name, value in place.named.items():
            if name in told and str(told[name]) != value:
                raise UserError(
                    f"{path}: is of {name} {told[name]}, but lies where {name} {value} belongs"
                )
        said = why_not_configured(run, place, header) if run is not None else None
        if said is not None:
            raise UserError(f"{path}: {said}")
    if logged is None:
        return header
    if (header.digest if header else digest_of(path)) != logged.digest:
        raise UserError(f"{path}: is not what its job wrote, by the job's log")
    if run is not None and place.kind.template not in BY_THEIR_SPEC:
        if not logged.command:
            raise UserError(
                f"{path}: its job's log is damaged, and does not say what it was made with"
            )
        said = why_not_asked_for(run, place, logged.command)
        if said is not None:
            raise UserError(f"{path}: {said}, by its job's log")
    return header


def _told(place: Place, header: Header) -> Mapping[str, Any]:
    """The cell that an artefact says it is of, by the names of wildcards and columns."""
    spec = header.spec
    if place.kind.template == layout.NULL:
        return {"width": spec.get("d"), "draws": spec.get("draws")}
    if "cfg" not in spec:
        return spec
    # Of dictionaries all is said in their cfg.json, which the header repeats.
    own = contents.own_part(spec["cfg"])
    if place.kind.template != PORT_WEIGHTS:
        return dict(own.get("spec", {}))
    origin = own.get("ported", {}).get("from", {})
    of = own.get("spec", {})
    return {
        **{key: of[key] for key in ("cohort", "checkpoint", "site") if key in of},
        "source_seed": origin.get("seed"),
        "target_seed": of.get("seed"),
    }


# --- what belongs together ------------------------------------------------------------------


def _half_made(results: Path, names: set[str]) -> Iterator[Problem]:
    """Files of which others that the same job writes are missing."""
    seen: set[str] = set()
    for name in sorted(names):
        place = place_of(name)
        if place is None:
            continue
        for templates in TOGETHER:
            if place.kind.template not in templates:
                continue
            for template in templates:
                other = template.format(**place.cell)
                if other not in names and other not in seen:
                    seen.add(other)
                    yield Problem(
                        f"{_shown(results, other)}: is missing, but {Path(name).name}, which the same job writes, is "
                        "there",
                        other,
                    )


def _shown(results: Path, name: str) -> Path:
    return results / name.removeprefix("results/")


def _inconsistent(results: Path, known: Mapping[str, _Known]) -> Iterator[Problem]:
    """Artefacts that were made from others than those that lie there."""
    by_source = {
        of.header.spec["source"]: name
        for name, of in known.items()
        if of.place.kind.template == layout.ACTIVATIONS and "source" in of.header.spec
    }
    models: dict[str, set[str]] = {}
    for of in known.values():
        if of.place.kind.template == CHECKPOINTS:
            models.setdefault(of.place.cell["cohort"], set()).add(of.header.digest)
    for name, (place, header) in known.items():
        path = _shown(results, name)
        cell, inputs = place.cell, header.inputs
        template = place.kind.template
        said = None
        if "tokens" in inputs:
            said = _differs(known, layout.TOKENS.format(**cell), inputs["tokens"], results)
        if said is None and template == layout.ACTIVATIONS:
            said = _differs(known, CHECKPOINTS.format(**cell), inputs.get("model", ""), results)
        if template == CHECKPOINTS and "anchor" in inputs:
            others = models[cell["cohort"]] - {header.digest}
            if others and inputs["anchor"] not in others:
                said = "was trained from an anchor that is none of the cohort's models here"
        if said is None:
            said = next(_of_activations(known, by_source, place, header, results), None)
        if said is not None:
            yield Problem(f"{path}: {said}", place.target)


def _differs(known: Mapping[str, _Known], other: str, digest: str, results: Path) -> str | None:
    """A sentence, if a file is there with another digest."""
    there = known.get(other)
    if there is None or there.header.digest == digest:
        return None
    return (
        f"was made from a file with digest {digest}, but {_shown(results, other)} has "
        f"{there.header.digest}"
    )


def _of_activations(
    known: Mapping[str, _Known],
    by_source: Mapping[str, str],
    place: Place,
    header: Header,
    results: Path,
) -> Iterator[str]:
    """Sentences on activation files that an artefact names and that are not there any more."""
    template = place.kind.template
    if template not in {
        layout.DICTIONARY_WEIGHTS,
        layout.MAPS,
        layout.MATCHED,
        PORT_WEIGHTS,
    }:
        return
    own = header.spec
    if "cfg" in own:
        own = contents.own_part(own["cfg"]).get("spec", {})
    sources = own.get("activations", {})
    named = sources if isinstance(sources, dict) else {"activations": sources}
    if template == PORT_WEIGHTS:
        named = header.inputs
    for role, source in named.items():
        of = {"seed": place.cell[role]} if role in place.cell else {}
        site = place.cell["site"]
        expected = layout.ACTIVATIONS.format(**{**place.cell, "site": site, "seed": "0", **of})
        if role == "activations":
            expected = layout.ACTIVATIONS.format(**place.cell)
        there = by_source.get(source)
        if there is None:
            # Activations may have been deleted after their last reader; an untrained model's lie elsewhere.
            if role != "untrained" and expected in known:
                yield (
                    f"was made from activations {source}, but {_shown(results, expected)} has "
                    f"{known[expected].header.spec.get('source')}"
                )
            continue
        digest = header.inputs.get(role)
        if template != PORT_WEIGHTS and digest and digest != known[there].header.digest:
            yield (
                f"was made from a file with digest {digest}, but {_shown(results, there)} has "
                f"{known[there].header.digest}"
            )


# --- what to do -----------------------------------------------------------------------------


def commands(
    results: Path, problems: Sequence[Problem], configs: Sequence[Path] = ()
) -> tuple[str, ...]:
    """The commands that mend these problems and nothing else: at most one that deletes, and one that makes
    cells again.

    Args:
        results: the folder of results. configs: of the run.
    """
    deleted = [str(problem.delete) for problem in problems if problem.delete is not None]
    again = list(dict.fromkeys(problem.again for problem in problems if problem.again))
    found = []
    if deleted:
        found.append(shlex.join(["rm", "-r", *deleted]))
    if again:
        home = results.resolve().parent
        words = ["snakemake", "--cores", "1"]
        if home != Path.cwd().resolve():
            words += ["--directory", str(home)]
        if configs:
            words += ["--configfile", *map(str, configs)]
        found.append(shlex.join([*words, "--force", *again]))
    return tuple(found)


def report(
    results: Path, found: Found, say: Callable[[str], None], configs: Sequence[Path] = ()
) -> None:
    """Says what was found, a problem at a time with the command that mends it.

    Raises:
        UserError: there are problems.
    """
    for problem in found.problems:
        say(problem.said)
        for command in commands(results, [problem], configs):
            say(f"    {command}")
    for path in found.unfinished:
        say(f"{path}: of a job that has not ended; it goes on from there when it is run again")
    if found.unknown:
        shown = ", ".join(str(path) for path in found.unknown[:3])
        more = f" and {len(found.unknown) - 3} more" if len(found.unknown) > 3 else ""
        say(f"not made by the workflow, and not read: {shown}{more}")
    size = f"{found.files:,} files, {found.bytes / 1e6:,.1f} MB"
    if not found.problems:
        say(f"{size}: all as they were written")
        return
    say("")
    say("# all of it:")
    for command in commands(results, found.problems, configs):
        say(command)
    n = len(found.problems)
    raise UserError(
        f"{results}: {n} problem{'s' if n > 1 else ''} in {size}; run the commands above"
    )
