"""Do the tests fail when their subject is broken? Tries mutants of a module on the tests that call what is changed.

    python tests/mutants.py [metrics alignment/maps …] [--sample 200]

One process a module collects the tests once; for each mutant a fork of it exchanges the code of all functions, and runs
the tests that called the changed one when nothing was wrong, cheapest first, until one fails. One that takes ten times as
long as without the mutant has found it out too. `mutmut` does the like, but leaves out properties and constants of modules,
which here hold half of the formulas; `cosmic-ray` starts a process for each mutant.

Counts go to tests/mutants.csv, with digests of the code and of the tests that they are of; mutants that no test noticed to tests/mutants_left.csv, where each is given its reason.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import inspect
import os
import pickle
import platform
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from mutations import Mutant, mutants

from crossseed import closure
from crossseed.pages import between
from crossseed.store import write_table

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "crossseed"
COUNTS, LEFT, PAGE = (
    ROOT / name for name in ("tests/mutants.csv", "tests/mutants_left.csv", "CONTRIBUTING.md")
)
COLUMNS = (
    *("module", "mutants", "killed", "survived", "timed_out", "score", "commit"),
    *("python", "code", "tests"),
)
LEFT_COLUMNS = ("module", "where", "before", "after", "reason")
BETWEEN = ("<!-- mutants: make mutants -->\n", "<!-- end of mutants -->\n")

# Which tests are to notice what is wrong with a module: those that are of it, not all that run through it.
TESTS = {
    "metrics": ["test_metrics*.py"],
    "alignment/ladder": ["test_alignment*.py"],
    "alignment/maps": ["test_alignment*.py"],
    "alignment/moments": ["test_alignment*.py"],
    "alignment/streaming": ["test_alignment*.py"],
}
SLOWER, SPARE_SECONDS = 10, 5
SPARE_BYTES = 4 << 30
KILLED, SURVIVED, TIMED_OUT = "killed", "survived", "timed out"


class Trial:
    """A plugin that, in place of running the tests it collected, tries mutants on them."""

    def __init__(self, name: str, tried: list[Mutant]) -> None:
        self.tried, self.module = tried, importlib.import_module(dotted(name))
        self.outcomes: list[str] = []

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        seconds, callers = forked(lambda: self.clean(session))
        for number, mutant in enumerate(self.tried):
            # What is wrong at the level of the module may show anywhere.
            names = callers.get(mutant.where, ()) if mutant.where else items
            chosen = sorted(names, key=seconds.__getitem__)
            clean = sum(seconds[name] for name in chosen)
            found = tried(self.module, mutant, session, [items[name] for name in chosen], clean)
            self.outcomes.append(found)
            if found != KILLED:
                print(
                    f"{number}: {mutant.line} {found}\n    {mutant.before}\n    {mutant.after}",
                    flush=True,
                )
        return True

    def clean(self, session: pytest.Session) -> tuple[dict[str, float], dict[str, set[str]]]:
        """Without a mutant: seconds of each test, and the tests that call each function."""
        path, seconds, callers = self.module.__file__, {}, defaultdict(set)
        by_file = defaultdict(set)
        for item in session.items:
            by_file[item.path].add(item.nodeid)
        for item in session.items:
            called: set[str] = set()

            def note(frame: types.FrameType, event: str, _: Any, called: set[str] = called) -> None:
                if event == "call" and frame.f_code.co_filename == path:
                    called.add(frame.f_code.co_qualname.replace(".<locals>", ""))

            # Timed apart, as watching the calls takes longer than many tests.
            began = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            seconds[item.nodeid] = time.process_time() - began
            sys.setprofile(note)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            sys.setprofile(None)
            if session.testsfailed:
                raise RuntimeError(f"{item.nodeid} fails without any mutant")
            for name in called:
                callers[name].add(item.nodeid)
        return seconds, dict(callers)


def forked(work: Callable[[], Any]) -> Any:
    """What a function returns, called in a process of its own."""
    read, write = os.pipe()
    if not (child := os.fork()):
        with os.fdopen(write, "wb") as pipe:
            pickle.dump(work(), pipe)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        found = pipe.read()
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the tests do not pass without any mutant")
    return pickle.loads(found)


def tried(
    module: types.ModuleType,
    mutant: Mutant,
    session: pytest.Session,
    items: list[pytest.Item],
    clean: float,
) -> str:
    """Whether one of the tests notices a mutant."""
    if not (child := os.fork()):
        code = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            most = int(SLOWER * clean + SPARE_SECONDS)
            resource.setrlimit(resource.RLIMIT_CPU, (most, most))
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + SPARE_BYTES, size + SPARE_BYTES))
            # Of wall time, for one that waits for ever.
            signal.alarm(100 * most)
            exchange(module, mutant.code)
            for item in items:
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
                if session.testsfailed:
                    break
            code = int(bool(session.testsfailed))
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (
        signal.SIGXCPU,
        signal.SIGKILL,
        signal.SIGALRM,
    ):
        return TIMED_OUT
    return KILLED if status else SURVIVED


def exchange(module: types.ModuleType, code: types.CodeType) -> None:
    """Puts the functions and constants of other code in the place of a module's, for all that imported them."""
    new: dict[str, Any] = {"__name__": module.__name__, "__file__": module.__file__}
    exec(code, new)
    for name, old in list(vars(module).items()):
        if name.startswith("__") or name not in new:
            continue
        if inspect.isclass(old) and old.__module__ == module.__name__:
            for attribute, value in vars(old).items():
                _recode(value, vars(new[name]).get(attribute))
        elif inspect.isfunction(old):
            _recode(old, new[name])
        elif not inspect.ismodule(old) and repr(old) != repr(new[name]):
            for other in list(sys.modules.values()):
                if getattr(other, name, None) is old:
                    setattr(other, name, new[name])


def _recode(old: Any, new: Any) -> None:
    """The same for one function, method or property."""
    old, new = (getattr(f, "fget", None) or getattr(f, "__func__", f) for f in (old, new))
    if inspect.isfunction(old) and inspect.isfunction(new):
        old.__code__, old.__defaults__, old.__kwdefaults__ = (
            new.__code__,
            new.__defaults__,
            new.__kwdefaults__,
        )


def dotted(name: str) -> str:
    return "crossseed." + name.replace("/", ".")


def mutants_of(name: str) -> list[Mutant]:
    path = SOURCE / f"{name}.py"
    return list(mutants(path.read_text(), str(path)))


def test_files(name: str) -> list[Path]:
    return sorted({path for pattern in TESTS[name] for path in ROOT.glob(f"tests/{pattern}")})


def digest(paths: Iterable[Path]) -> str:
    """Digest of what files do, and of the modules beside them that they import: a comment, a docstring or a reformatting changes nothing."""
    trees: dict[str, str] = {}
    queue = list(paths)
    while queue:
        path = queue.pop()
        if path.name not in trees:
            imported, trees[path.name] = closure._parsed(path)
            queue += filter(Path.exists, (path.with_name(f"{name}.py") for name in imported))
    return hashlib.blake2b(repr(sorted(trees.items())).encode(), digest_size=8).hexdigest()


def of_what(name: str) -> dict[str, str]:
    """Digests of a module and of its tests, and the Python whose syntax trees they are of."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {
        "python": python,
        "code": digest([SOURCE / f"{name}.py"]),
        "tests": digest(test_files(name)),
    }


def measured(name: str, sample: int | None) -> list[tuple[Mutant, str]]:
    """Every mutant of a module, or a sample that is the same each time, and what became of it."""
    chosen = mutants_of(name)
    if sample and sample < len(chosen):
        chosen = random.Random(0).sample(chosen, sample)
    hypothesis.settings.register_profile("mutants", derandomize=True, database=None)
    hypothesis.settings.load_profile("mutants")
    trial = Trial(name, chosen)
    files = map(str, test_files(name))
    with tempfile.TemporaryDirectory() as folder:
        options = [
            "-s",
            "--disable-warnings",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:xdist",
            "-p",
            "no:logging",
        ]
        code = pytest.main(
            [*files, *options, "--rootdir", str(ROOT), f"--basetemp={folder}/pt"], [trial]
        )
    if len(trial.outcomes) < len(chosen):
        sys.exit(f"{name}: the tests could not be run (pytest says {code})")
    return list(zip(chosen, trial.outcomes, strict=True))


def counts(name: str, found: list[tuple[Mutant, str]]) -> dict[str, Any]:
    """The row of a module. What takes too long was noticed."""
    of = [outcome for _, outcome in found]
    commit = subprocess.check_output(
        ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, text=True
    )
    return {
        "module": name,
        "mutants": len(of),
        "killed": of.count(KILLED),
        "survived": of.count(SURVIVED),
        "timed_out": of.count(TIMED_OUT),
        "score": round(1 - of.count(SURVIVED) / len(of), 4),
        "commit": commit.strip(),
        **of_what(name),
    }


def rows_of(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def table(rows: list[dict[str, str]]) -> str:
    """The table of the page, as Markdown."""
    lines = ["| module | mutants | noticed | not | score |", "|---|---|---|---|---|"]
    for row in rows:
        noticed = int(row["killed"]) + int(row["timed_out"])
        cells = (
            f"`{row['module']}`",
            row["mutants"],
            noticed,
            row["survived"],
            f"{float(row['score']):.1%}",
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def write(name: str, found: list[tuple[Mutant, str]]) -> None:
    """Counts, what is left with the reasons that were given for it, and the page's table."""
    rows = {row["module"]: row for row in rows_of(COUNTS)} | {name: counts(name, found)}
    write_table(COUNTS, COLUMNS, [rows[module] for module in TESTS if module in rows])
    old = rows_of(LEFT)
    reasons = {tuple(row[key] for key in LEFT_COLUMNS[:-1]): row["reason"] for row in old}
    left = [row for row in old if row["module"] != name]
    for mutant, outcome in found:
        if outcome == SURVIVED:
            key = (name, mutant.where, mutant.before, mutant.after)
            left.append(dict(zip(LEFT_COLUMNS, (*key, reasons.get(key, "")), strict=True)))
    order = list(TESTS)
    write_table(LEFT, LEFT_COLUMNS, sorted(left, key=lambda row: order.index(row["module"])))
    PAGE.write_text(between(PAGE, *BETWEEN, table(rows_of(COUNTS))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "modules", nargs="*", metavar="MODULE", help=f"of {', '.join(TESTS)}; all if none is named"
    )
    parser.add_argument(
        "--sample", type=int, help="so many mutants of each module, and nothing written"
    )
    asked = parser.parse_args()
    for name in asked.modules or TESTS:
        # A process of its own, as tests of one module import the others.
        began = sum(os.times()[:4])
        found = forked(
            lambda name=name: [(m._replace(code=None), o) for m, o in measured(name, asked.sample)]
        )
        row = counts(name, found)
        print({**row, "seconds": round(sum(os.times()[:4]) - began)}, flush=True)
        if not asked.sample:
            write(name, found)


if __name__ == "__main__":
    main()
