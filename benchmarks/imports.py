"""What a job takes before it does anything: imports, and what it takes to end, in processor seconds.

A verb imports modules when it is named, and more when it runs: its kind of cohort, PyTorch. Both count. The floor is
Python with NumPy, and PyTorch, transformers' model, pandas or pydantic where the verb needs them, imported and ended
plainly.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from statistics import median
from typing import Any

from packaging.requirements import Requirement

from crossseed.cli import JOB_VERBS

COLUMNS = (
    *(
        "what",
        "cpu_seconds",
        "lowest",
        "highest",
        "bare_seconds",
        "floor_seconds",
        "ratio_to_floor",
    ),
    *(
        "ratio_lowest",
        "ratio_highest",
        "modules",
        "heavy",
        "megabytes",
        "packages",
        "repeats",
        "machine",
    ),
)
DYCK = "crossseed.cohorts.dyck"
# What a verb imports when it runs on the toys, beside what its own module does.
IMPORTED = {
    "train": (f"{DYCK}.training",),
    "extract": (f"{DYCK}.members",),
    "splice": (f"{DYCK}.interventions",),
    "port": (f"{DYCK}.interventions",),
    "steer": (f"{DYCK}.interventions",),
    "features": (f"{DYCK}.interventions",),
    "attribute": (f"{DYCK}.interventions",),
    "causes": (f"{DYCK}.paths",),
    "tokens": (f"{DYCK}.tokens",),
    "sae": ("crossseed.sae.training",),
    "calibrate": ("crossseed.sae.training",),
    "joint_cache": ("crossseed.cohorts.hub.upper",),
    "drift": ("crossseed.cohorts.hub.members",),
    "haar": ("scipy.linalg", "scipy.optimize"),
    "cocycle": ("scipy.linalg", "scipy.optimize"),
    "across": ("scipy.linalg", "scipy.optimize"),
    "null": ("scipy.linalg", "scipy.optimize"),
    "power": ("scipy.linalg", "scipy.stats"),
    "ks": ("scipy.linalg", "scipy.stats"),
    "published": ("scipy.optimize", "scipy.stats"),
    "fits": ("scipy.optimize",),
}
# Of language models, whatever the verb.
NEOX = "transformers.models.gpt_neox.modeling_gpt_neox"
LANGUAGE_MODEL = ("crossseed.cohorts.hub.members", NEOX)
HEAVY = (
    *("torch", "torch._dynamo", "sympy", "transformers", "scipy", "scipy.stats", "pandas"),
    *("matplotlib", "seaborn", "sklearn", "pydantic"),
)
# What a floor has, where the verb imports it.
NEEDED = (
    *("h5py", "torch", "transformers", "scipy.linalg", "scipy.sparse", "scipy.special"),
    *("scipy.optimize", "scipy.stats", "pandas", "seaborn", "pydantic"),
)
JOB = """
import sys
from crossseed.__main__ import _end
from crossseed.starting import imported
for name in {names!r}: imported(name)
print(len(sys.modules), *[name for name in {heavy!r} if name in sys.modules])
_end(0)
"""


def names_of(verb: str) -> tuple[str, ...]:
    """What a job of a verb imports."""
    return (f"crossseed.verbs.{verb}", *IMPORTED.get(verb, ()))


def job_of(verb: str) -> str:
    """A program that starts and ends as a job of a verb does."""
    return JOB.format(names=names_of(verb), heavy=(*HEAVY, *NEEDED))


def processor_seconds(*arguments: str) -> tuple[float, str]:
    """User and system time of a Python from start to end, and what it printed."""
    command = [sys.executable, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    return used.ru_utime + used.ru_stime, said


def floor(heavy: list[str]) -> str:
    """A program that imports what a verb needs, and no more."""
    needed = [name for name in NEEDED if name in heavy]
    if "transformers" in needed:
        needed = ["h5py", NEOX]
    # With as little of Python's own doing as jobs have: no garbage looked for, nothing taken apart at the end.
    return f"import gc, os; gc.disable(); import {', '.join(['numpy', *needed])}; os._exit(0)"


def starts(machine: str, repeats: int) -> Iterator[dict[str, Any]]:
    """A row a verb; each in turn with its floor, so that a slow minute hits both."""
    jobs = {verb: names_of(verb) for verb in JOB_VERBS}
    jobs["extract, of a language model"] = ("crossseed.verbs.extract", *LANGUAGE_MODEL)
    for what, names in jobs.items():
        code = JOB.format(names=names, heavy=(*HEAVY, *NEEDED))
        taken, bare, least = [], [], []
        for _ in range(repeats):
            seconds, said = processor_seconds("-c", code)
            taken.append(seconds)
            least.append(processor_seconds("-c", floor(said.split()[1:]))[0])
            bare.append(processor_seconds("-c", "import numpy")[0])
        modules, *kept = said.split()
        heavy = [name for name in HEAVY if name in kept]
        ratios = [a / b for a, b in zip(taken, least, strict=True)]
        yield {
            **dict.fromkeys(COLUMNS), "what": what, **spread(taken), "bare_seconds": round(median(bare), 3),
            "floor_seconds": round(median(least), 3), "ratio_to_floor": round(median(ratios), 2),
            "ratio_lowest": round(min(ratios), 2), "ratio_highest": round(max(ratios), 2),
            "modules": int(modules), "heavy": " ".join(heavy), "repeats": repeats, "machine": machine,
        }  # fmt: skip


def spread(taken: list[float]) -> dict[str, float]:
    return {
        "cpu_seconds": round(median(taken), 3),
        "lowest": round(min(taken), 3),
        "highest": round(max(taken), 3),
    }


def help_page(machine: str, repeats: int) -> dict[str, Any]:
    taken, bare = [], []
    for _ in range(repeats):
        taken.append(processor_seconds("-m", "crossseed", "--help")[0])
        bare.append(processor_seconds("-c", "import numpy")[0])
    return {
        **dict.fromkeys(COLUMNS), "what": "crossseed --help", **spread(taken),
        "bare_seconds": round(median(bare), 3), "heavy": "", "repeats": repeats, "machine": machine,
    }  # fmt: skip


def packages(name: str = "crossseed") -> dict[str, importlib.metadata.Distribution]:
    """What is installed for a distribution, itself left out: the closure of what each requires of this machine."""
    found: dict[str, importlib.metadata.Distribution] = {}
    queue: list[tuple[str, frozenset[str]]] = [(name, frozenset())]
    seen = set(queue)
    while queue:
        name, extras = queue.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        found[re.sub(r"[-_.]+", "-", name).lower()] = distribution
        for text in distribution.requires or ():
            wanted = Requirement(text)
            if any(
                wanted.marker is None or wanted.marker.evaluate({"extra": extra})
                for extra in (extras or {""})
            ):
                more = (wanted.name, frozenset(wanted.extras))
                if more not in seen:
                    seen.add(more)
                    queue.append(more)
    found.pop("crossseed", None)
    return found


def install(machine: str) -> dict[str, Any]:
    found = packages()
    size = 0
    for distribution in found.values():
        size += sum(file.size or 0 for file in distribution.files or ())
    return {
        **dict.fromkeys(COLUMNS), "what": "install of the core", "megabytes": round(size / 1e6),
        "packages": len(found), "machine": machine, "heavy": "",
    }  # fmt: skip


def imports(machine: str, repeats: int) -> list[dict[str, Any]]:
    found = [help_page(machine, repeats), install(machine)]
    for row in starts(machine, repeats):
        print(row, flush=True)
        found.append(row)
    return found
