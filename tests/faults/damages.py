"""Files damaged after they were written: looked for by `crossseed verify`, and met by the job that reads them."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import h5py
from undisturbed import (
    CONFIG,
    Context,
    Outcome,
    artefacts,
    compare,
    copied,
    environment,
    folder_of,
    results_of,
    snakemake,
    start,
)

from crossseed import store
from crossseed.verify import study as verify

# What a file system gives back that lost a block.
BLOCK = 4096


def harmed(rng: random.Random, path: Path, others: list[Path]) -> tuple[str, bytes]:
    """A way in which a file is damaged, and its content then; of `others` one may take its place."""
    before = path.read_bytes()
    data, at = bytearray(before), rng.randrange(path.stat().st_size)
    alike = [other.read_bytes() for other in others if other.suffix == path.suffix]
    alike = [content for content in alike if content != before]
    way = rng.choice(["cut", "bit", "zeros", *(["other"] if alike else [])])
    if way == "cut":
        data = data[:at]
    elif way == "bit":
        data[at] ^= 1 << rng.randrange(8)
    elif way == "zeros":
        data[at : at + BLOCK] = bytes(len(data[at : at + BLOCK]))
    else:
        data = bytearray(rng.choice(alike))
    return way, bytes(data)


def says_the_same(path: Path, before: bytes) -> bool:
    """Whether an HDF5 file says the same as before: a byte in a gap between arrays is nobody's."""
    if path.suffix != ".h5":
        return False
    with tempfile.NamedTemporaryFile(suffix=".h5") as old:
        old.write(before)
        old.flush()
        try:
            return _content(Path(old.name)) == _content(path)
        except (OSError, KeyError, RuntimeError):
            return False


def _content(path: Path) -> tuple[dict[str, object], str]:
    with h5py.File(path, "r") as file:
        return dict(file.attrs), store.arrays_digest(store._datasets(file))


def damaged(context: Context, outcome: Outcome, count: int) -> None:
    """A file damaged with its times kept, as no program does it: `crossseed verify` must name it; the
    commands that it gives bring back the very bytes (tried with every fifth)."""
    folder = copied(context)
    results = folder / "results"
    while outcome.faults < count:
        files = [*artefacts(folder), *results.rglob("index.html")]
        path = context.rng.choice(files)
        inside = str(path.relative_to(folder))
        before, times = path.read_bytes(), path.stat()
        way, data = harmed(context.rng, path, files)
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        if data != before and not says_the_same(path, before):
            outcome.faults += 1
            found = verify.check(results).problems
            if any(problem.again == inside for problem in found):
                outcome.said += 1
                if outcome.faults % 5 == 1:
                    mended(context, outcome, folder, found, f"{inside} ({way})")
            else:
                said = [problem.said for problem in found]
                outcome.lost.append(f"{inside} ({way}): damage was not found ({said})")
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(folder.parent)


def mended(
    context: Context, outcome: Outcome, folder: Path, found: list[verify.Problem], what: str
) -> None:
    """Does what `crossseed verify` said."""
    for command in verify.commands(folder / "results", found, [CONFIG]):
        words = shlex.split(command)
        if words[0] == "snakemake":
            words = snakemake(folder)[:5] + words[1:]
        subprocess.run(words, env=environment(), capture_output=True, cwd=folder)
    compare(outcome, folder, context.wanted, f"{what}, mended")
    problems = verify.check(folder / "results").problems
    outcome.lost += [f"{what}, mended: {problem.said}" for problem in problems]


def refused_when_read(context: Context, outcome: Outcome, count: int) -> None:
    """A result damaged before a job of the plan reads it: refused by its path, or of a part that the job does not need
    and its results are the same bytes. With the file as it was the job gets through. A table has no digest: it is cut
    in the midst of a line, no more."""
    readers = [job for job in context.plan if job.reads]
    context.rng.shuffle(readers)
    turns = 0
    while outcome.faults < count:
        job = readers[turns % len(readers)]
        turns += 1
        folder = folder_of(job.reads, context.base, context.home)
        inside = context.rng.choice(job.reads)
        path = folder / inside
        before = path.read_bytes()
        if path.suffix == ".csv":
            ends = [at + 1 for at, byte in enumerate(before) if byte == ord("\n")]
            within = sorted(set(range(1, len(before))) - set(ends))
            way, data = "cut", before[: context.rng.choice(within)]
        else:
            way, data = harmed(context.rng, path, [folder / read for read in job.reads])
        path.write_bytes(data)
        if data != before:
            outcome.faults += 1
            what = f"{job.verb[0]} on {inside} ({way})"
            child = start(job.verb, folder)
            _, err = child.communicate()
            if child.returncode == 2 and inside in err and "Traceback" not in err:
                outcome.said += 1
                written = [name for name in job.writes if (folder / name).exists()]
                outcome.lost += [f"{what}: {name} was written" for name in written]
            elif child.returncode:
                outcome.lost.append(f"{what}: {child.returncode}: {err[-500:]}")
            if path.read_bytes() != data:
                outcome.lost.append(f"{what}: the file was touched")
            path.write_bytes(before)
            if child.returncode:
                child = start(job.verb, folder)
                _, err = child.communicate()
                if child.returncode:
                    outcome.lost.append(f"{what}, as it was: {child.returncode}: {err[-500:]}")
            wanted = {name: context.wanted[name] for name in results_of(folder)}
            wanted |= {n: context.wanted[n] for n in job.writes if n in context.wanted}
            compare(outcome, folder, wanted, what)
        shutil.rmtree(folder)
