"""One run that was not disturbed, the jobs taken from it, and what is compared with it."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from crossseed import layout, specs, store
from crossseed.cohorts.dyck.config import CHECKPOINTS
from crossseed.config.load import load_files
from crossseed.verify import study as verify

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CONFIG = HERE / "tiny.yaml"
RUN = load_files(CONFIG)
COHORT, SITE, DICTIONARY = "tiny", RUN.cohorts["tiny"].sites[0], "topk-x8"
SAVE_SECONDS = 0.1
# Results whose bytes must be those of an undisturbed run; the page holds times, logs too.
KINDS = (".csv", ".h5", ".safetensors", ".json", ".svg", ".png")
LEAST_WAIT = 0.05


class Outcome:
    """What a scenario did and found.

    Attributes:
        faults: how many. runs: results that were compared in the end. resumed: jobs that went on from saved state.
        said: faults that ended in a sentence with exit status 2, where one is due.
        lost: what was wrong, a sentence each.
    """

    def __init__(self) -> None:
        self.faults = self.runs = self.resumed = self.said = 0
        self.lost: list[str] = []

    def as_dict(self) -> dict[str, Any]:
        return dict(vars(self))


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}


def results_of(folder: Path) -> dict[str, bytes]:
    """Bytes of all results below a folder, by path."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix in KINDS and path.is_file() and "logs" not in inside.parts:
            found[str(inside)] = path.read_bytes()
    return found


def orphans(folder: Path) -> list[str]:
    """What is neither a result nor known to the workflow."""
    return [
        str(path.relative_to(folder))
        for path in (folder / "results").rglob(".*")
        if path.suffix in {".tmp", ".resume"}
    ]


def compare(outcome: Outcome, folder: Path, wanted: dict[str, bytes], what: str) -> None:
    """Holds a folder against the undisturbed results; no job in it may have crashed."""
    outcome.runs += 1
    found = results_of(folder)
    for path in sorted({*found, *wanted}):
        if found.get(path) != wanted.get(path):
            state = "missing" if path not in found else "new" if path not in wanted else "differs"
            outcome.lost.append(f"{what}: {path} {state}")
    outcome.lost += [f"{what}: {path} was left" for path in orphans(folder)]
    outcome.lost += [f"{what}: {path} holds a traceback" for path in crashes(folder)]


def crashes(folder: Path) -> list[str]:
    """Logs of jobs that ended in a traceback."""
    return [
        str(path.relative_to(folder))
        for path in sorted((folder / "results").rglob("*.log"))
        if "Traceback" in path.read_text(errors="replace")
    ]


def no_part(outcome: Outcome, folder: Path, wanted: dict[str, bytes], what: str) -> None:
    """After a fault: whatever has a result's name is that result, whole."""
    for path, content in results_of(folder).items():
        if content != wanted.get(path):
            outcome.lost.append(f"{what}: {path} is there and not whole")


def folder_of(inputs: list[str], base: Path, home: Path) -> Path:
    """A new folder with these results alone."""
    folder = Path(tempfile.mkdtemp(dir=home))
    for path in inputs:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(base / path, folder / path)
    return folder


def start(verb: list[str], folder: Path, death: str = "-", **options: Any) -> subprocess.Popen[str]:
    """A verb in a process of its own; `death`: see job.py."""
    return subprocess.Popen(
        [sys.executable, str(HERE / "job.py"), str(SAVE_SECONDS), death, *verb],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


class Job:
    """A verb by hand, on inputs in a folder."""

    def __init__(self, name: str, verb: list[str], inputs: list[str]) -> None:
        self.name, self.verb, self.inputs = name, verb, inputs
        self.seconds = 10.0
        self.wanted: dict[str, bytes] = {}
        self.calls: dict[str, int] = {}

    @property
    def largest(self) -> int:
        """Bytes of the largest file that it writes."""
        return max(len(c) for path, c in self.wanted.items() if path not in self.inputs)

    def folder(self, base: Path, home: Path) -> Path:
        return folder_of(self.inputs, base, home)

    def start(self, folder: Path, death: str = "-", **options: Any) -> subprocess.Popen[str]:
        return start(self.verb, folder, death, **options)

    def measure(self, base: Path, home: Path) -> None:
        """The undisturbed results, how long they take and how often files are put in place."""
        folder = self.folder(base, home)
        began = time.monotonic()
        child = self.start(folder, "count")
        _, err = child.communicate()
        assert child.returncode == 0, err[-2000:]
        self.seconds = time.monotonic() - began
        self.wanted = results_of(folder)
        self.calls = json.loads(err.splitlines()[-1])
        shutil.rmtree(folder)


def jobs() -> dict[str, Job]:
    """The jobs that take long, as the workflow starts them."""
    cell = {"cohort": COHORT, "seed": 0, "checkpoint": "final", "site": SITE}
    tokens, model = layout.TOKENS.format(**cell), CHECKPOINTS.format(**cell)
    table = layout.MODEL_TABLE.replace("{table}", "{{table}}").format(**cell)
    activations = layout.ACTIVATIONS.format(**cell)
    folders = [
        str(Path(layout.DICTIONARY_WEIGHTS.format(**cell, dictionary=DICTIONARY, init=init)).parent)
        for init in ("shared", "independent")
    ]

    def words(verb: str, spec: dict[str, Any], *more: str) -> list[str]:
        return [verb, "--spec", store.canonical_json(spec), "--device", "cpu", *more]

    train = words("train", specs.train(RUN, COHORT, 0), "--out", model)
    for name in ("curve", "quality"):
        train += [f"--{name}", table.format(table="training" if name == "curve" else name)]
    extract = words("extract", specs.extract(RUN, COHORT, 0, "final"), "--model", model)
    extract += ["--tokens", tokens, "--out", activations]
    sae = words("sae", specs.sae(RUN, COHORT, 0, "final", SITE, DICTIONARY))
    sae += ["--activations", activations, "--out", *folders]
    sae += ["--metrics", layout.DICTIONARY_METRICS.format(**cell, dictionary=DICTIONARY)]
    return {
        "training": Job("training", train, []),
        "extraction": Job("extraction", extract, [model, tokens]),
        "sae": Job("sae", sae, [activations]),
    }


def kill(child: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def snakemake(folder: Path, *more: str, config: Path = CONFIG) -> list[str]:
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    words += ["--directory", str(folder), "--configfile", str(config), "--cores", "1"]
    return [*words, *more]


def started(
    folder: Path, *more: str, config: Path = CONFIG, log: str = "snakemake.log"
) -> subprocess.Popen[str]:
    with open(folder / log, "a") as said:
        return subprocess.Popen(
            snakemake(folder, *more, config=config),
            env=environment(),
            stdout=said,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def unlock(folder: Path) -> None:
    subprocess.run([*snakemake(folder), "--unlock"], env=environment(), capture_output=True)


def finish(outcome: Outcome, folder: Path, what: str, config: Path = CONFIG) -> None:
    """Runs the workflow to its end, as a person would after a crash."""
    if locked(folder):
        unlock(folder)
    words = snakemake(folder, config=config)
    found = subprocess.run(words, env=environment(), capture_output=True, text=True)
    if found.returncode:
        outcome.lost.append(f"{what}: exit status {found.returncode}: {found.stderr[-800:]}")


def locked(folder: Path) -> bool:
    return any((folder / ".snakemake" / "locks").glob("*"))


def whole(
    outcome: Outcome, folder: Path, wanted: dict[str, bytes], what: str, config: Path = CONFIG
) -> None:
    """Compares with undisturbed results, and asks `crossseed verify`."""
    compare(outcome, folder, wanted, what)
    problems = verify.check(folder / "results", load_files(config)).problems
    outcome.lost += [f"{what}: verify: {problem.said}" for problem in problems]


def copied(context: Context) -> Path:
    folder = Path(tempfile.mkdtemp(dir=context.home)) / "run"
    shutil.copytree(context.finished, folder, symlinks=True)
    return folder


def artefacts(folder: Path) -> list[Path]:
    return [folder / path for path in results_of(folder)]


class Planned(NamedTuple):
    """A job of the plan: its verb, and the results that it reads and writes."""

    verb: list[str]
    reads: list[str]
    writes: list[str]


def planned(home: Path) -> list[Planned]:
    """All jobs of the run, an order in which they can be done."""
    folder = Path(tempfile.mkdtemp(dir=home))
    words = snakemake(folder, "--dry-run", "--printshellcmds")
    said = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
    shutil.rmtree(folder)
    found = []
    for block in re.split(r"\n(?=rule )", said.stdout + said.stderr):
        told = dict(re.findall(r"^ +(input|output): (.*)$", block, re.M))
        command = re.search(r"^Shell command: python -m crossseed (.*) &> ", block, re.M)
        if command and "output" in told:
            reads, writes = (
                list(dict.fromkeys(told[key].split(", "))) if key in told else []
                for key in ("input", "output")
            )
            # What lies beside a dictionary's weights is read with them.
            beside = [str(Path(path).with_name("cfg.json")) for path in reads if "sae_" in path]
            reads = list(dict.fromkeys([*reads, *beside]))
            found.append(Planned(shlex.split(command[1]), reads, writes))
    assert len(found) > 20, said.stderr[-2000:]
    return found


class Context:
    """What scenarios share: where they work, an undisturbed run, and the jobs taken from it."""

    def __init__(self, home: Path, seed: int, kept: Path | None = None) -> None:
        self.home, self.rng = home, random.Random(seed)
        self.make_room: Callable[[], None] | None = None
        self.live_on: list[int] = []
        self.known = jobs()
        self._measured: set[str] = set()
        self._plan: list[Planned] = []
        self._changed: dict[str, bytes] = {}
        # Kept from an earlier invocation, it is made anew only where the code has changed since.
        self.finished = kept or home / "undisturbed"
        self.finished.mkdir(exist_ok=True)
        self.base = self.finished
        began = time.monotonic()
        child = started(self.finished)
        assert child.wait() == 0, (self.finished / "snakemake.log").read_text()[-3000:]
        took = self.finished / "seconds"
        if time.monotonic() - began > 30 or not took.exists():
            took.write_text(str(time.monotonic() - began))
        self.seconds = float(took.read_text())
        self.wanted = results_of(self.finished)

    def job(self, name: str) -> Job:
        job = self.known[name]
        if name not in self._measured:
            job.measure(self.base, self.home)
            self._measured.add(name)
        return job

    @property
    def plan(self) -> list[Planned]:
        self._plan = self._plan or planned(self.home)
        return self._plan

    @property
    def changed_config(self) -> Path:
        """The same run with other values, of which a few late results are."""
        path = self.home / "changed.yaml"
        told = yaml.safe_load(CONFIG.read_text())
        told["transfer"]["resamples"] += 20
        path.write_text(yaml.safe_dump(told))
        return path

    @property
    def changed(self) -> dict[str, bytes]:
        """The results of the changed configuration, undisturbed."""
        if not self._changed:
            folder = copied(self)
            child = started(folder, config=self.changed_config)
            assert child.wait() == 0, (folder / "snakemake.log").read_text()[-3000:]
            self._changed = results_of(folder)
            assert self._changed != self.wanted
            shutil.rmtree(folder.parent)
        return self._changed

    def wait_for_those_that_live_on(self) -> None:
        """Jobs whose Snakemake was killed alone: of its group, until there is none."""
        for group in self.live_on:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.killpg(group, 0)
                    time.sleep(0.2)
        self.live_on.clear()
