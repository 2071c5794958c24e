"""Faults on purpose, counted: jobs killed, disks filled, files damaged, and what of a run's results was lost.

    python tests/faults/harness.py --count 20 [--only kill-training …] [--seed 0] [--results faults.json] [--page docs/faults.md]

A count is of faults that were done: kills that hit a running process, writes that found the disk full, files that were
damaged. Each scenario compares what is there in the end with an undisturbed run, byte by byte. Counts add up in the
results file; the page shows its table.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from crossseed import layout, specs, store
from crossseed.cohorts.dyck.config import CHECKPOINTS
from crossseed.config.load import load_files
from crossseed.pages import between
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
BETWEEN = ("<!-- faults: python tests/faults/harness.py -->\n", "<!-- end of faults -->\n")


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


# --- one job at a time ------------------------------------------------------------------


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
    """Holds a folder against the undisturbed results."""
    outcome.runs += 1
    found = results_of(folder)
    for path in sorted({*found, *wanted}):
        if found.get(path) != wanted.get(path):
            state = "missing" if path not in found else "new" if path not in wanted else "differs"
            outcome.lost.append(f"{what}: {path} {state}")
    outcome.lost += [f"{what}: {path} was left" for path in orphans(folder)]


def no_part(outcome: Outcome, folder: Path, wanted: dict[str, bytes], what: str) -> None:
    """After a fault: whatever has a result's name is that result, whole."""
    for path, content in results_of(folder).items():
        if content != wanted.get(path):
            outcome.lost.append(f"{what}: {path} is there and not whole")


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
        """A new folder with the inputs alone."""
        folder = Path(tempfile.mkdtemp(dir=home))
        for path in self.inputs:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(base / path, folder / path)
        return folder

    def start(self, folder: Path, death: str = "-", **options: Any) -> subprocess.Popen[str]:
        words = [sys.executable, str(HERE / "job.py"), str(SAVE_SECONDS), death, *self.verb]
        return subprocess.Popen(
            words,
            cwd=folder,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

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


def killed_at_random(name: str) -> Callable[[Context, Outcome, int], None]:
    """SIGKILL at a moment drawn over the length of a job, again and again until it gets through."""

    def scenario(context: Context, outcome: Outcome, count: int) -> None:
        job = context.job(name)
        while outcome.faults < count:
            folder = job.folder(context.base, context.home)
            while True:
                child = job.start(folder)
                # Not only while libraries are imported, where nothing can be lost.
                moment = context.rng.uniform(0.2, 1.15) * job.seconds
                try:
                    out, err = child.communicate(timeout=moment if outcome.faults < count else None)
                except subprocess.TimeoutExpired:
                    kill(child)
                    outcome.faults += 1
                    no_part(outcome, folder, job.wanted, f"{name} killed")
                    continue
                if child.returncode:
                    outcome.lost.append(f"{name}: exit status {child.returncode}: {err[-500:]}")
                outcome.resumed += "resuming at step" in out
                break
            compare(outcome, folder, job.wanted, name)
            shutil.rmtree(folder)

    return scenario


def killed_at_files(name: str) -> Callable[[Context, Outcome, int], None]:
    """SIGKILL just before and just after a file is flushed or put in its place: the narrow moments."""

    def scenario(context: Context, outcome: Outcome, count: int) -> None:
        job = context.job(name)
        moments = [
            f"{call}:{number}:{when}"
            for call, n in job.calls.items()
            for number in range(1, n + 1)
            for when in ("before", "after")
        ]
        context.rng.shuffle(moments)
        for number in range(count):
            folder = job.folder(context.base, context.home)
            child = job.start(folder, moments[number % len(moments)])
            child.communicate()
            if child.returncode == -signal.SIGKILL:
                outcome.faults += 1
            no_part(
                outcome, folder, job.wanted, f"{name} killed at {moments[number % len(moments)]}"
            )
            child = job.start(folder)
            out, err = child.communicate()
            if child.returncode:
                outcome.lost.append(f"{name}: exit status {child.returncode}: {err[-500:]}")
            outcome.resumed += "resuming at step" in out
            compare(outcome, folder, job.wanted, name)
            shutil.rmtree(folder)

    return scenario


def disk_full(context: Context, outcome: Outcome, count: int) -> None:
    """Writes fail at a size below that of the job's largest file; then there is room."""
    names = list(context.known)
    for number in range(count):
        job = context.job(names[number % len(names)])
        largest = job.largest
        most = int(context.rng.uniform(0, 0.95) * largest)

        def limit(most: int = most) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))

        folder = job.folder(context.base, context.home)
        refused(context, outcome, job, folder, preexec_fn=limit)
        shutil.rmtree(folder)


def refused(context: Context, outcome: Outcome, job: Job, folder: Path, **options: Any) -> None:
    """A job that finds no room says so, leaves nothing half written, and does its work once there is."""
    child = job.start(folder, **options)
    _, err = child.communicate()
    outcome.faults += 1
    if child.returncode == 2 and "the disk is full" in err and "Traceback" not in err:
        outcome.said += 1
    else:
        outcome.lost.append(f"{job.name} on a full disk: {child.returncode}: {err[-500:]}")
    no_part(outcome, folder, job.wanted, f"{job.name} on a full disk")
    left = [path for path in orphans(folder) if path.endswith(".tmp")]
    outcome.lost += [f"{job.name} on a full disk: {path} was left" for path in left]
    os.sync()
    if context.make_room is not None:
        context.make_room()
    child = job.start(folder)
    _, err = child.communicate()
    if child.returncode:
        outcome.lost.append(f"{job.name} with room again: {err[-500:]}")
    compare(outcome, folder, job.wanted, f"{job.name} with room again")


def small_disk(context: Context, outcome: Outcome, count: int) -> None:
    """A file system of its own, filled but for a little; needs the right to mount one."""
    mounted = context.home / "disk"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(mounted)]
    if subprocess.run(command, capture_output=True).returncode:
        return
    filler = mounted / "filler"
    names = list(context.known)
    try:
        for number in range(count):
            job = context.job(names[number % len(names)])
            folder = job.folder(context.base, mounted)
            largest = job.largest
            free = os.statvfs(mounted).f_bavail * os.statvfs(mounted).f_frsize
            room = int(context.rng.uniform(0.05, 0.9) * largest)
            with open(filler, "wb") as handle:
                handle.write(bytes(max(0, free - room)))
            context.make_room = filler.unlink
            refused(context, outcome, job, folder)
            context.make_room = None
            shutil.rmtree(folder)
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


# --- the whole workflow -----------------------------------------------------------------


def snakemake(folder: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    words += ["--directory", str(folder), "--configfile", str(CONFIG), "--cores", "1"]
    return [*words, *more]


def started(folder: Path, *more: str) -> subprocess.Popen[str]:
    log = open(folder / "snakemake.log", "a")  # noqa: SIM115
    with log:
        return subprocess.Popen(
            snakemake(folder, *more),
            env=environment(),
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )


def finish(outcome: Outcome, folder: Path, what: str) -> None:
    """Runs the workflow to its end, as a person would after a crash."""
    subprocess.run([*snakemake(folder), "--unlock"], env=environment(), capture_output=True)
    found = subprocess.run(snakemake(folder), env=environment(), capture_output=True, text=True)
    if found.returncode:
        outcome.lost.append(f"{what}: exit status {found.returncode}: {found.stderr[-800:]}")


def whole(outcome: Outcome, folder: Path, context: Context, what: str) -> None:
    """Compares with the undisturbed run, and asks `crossseed verify`."""
    compare(outcome, folder, context.wanted, what)
    problems = verify.check(folder / "results").problems
    outcome.lost += [f"{what}: verify: {problem.said}" for problem in problems]


def killed_workflow(context: Context, outcome: Outcome, count: int) -> None:
    """SIGKILL of Snakemake with all its jobs at a random moment, of Snakemake alone, or with `.snakemake` removed
    after that; restarted each time."""
    while outcome.faults < count:
        folder = Path(tempfile.mkdtemp(dir=context.home))
        while True:
            subprocess.run([*snakemake(folder), "--unlock"], env=environment(), capture_output=True)
            child = started(folder)
            moment = context.rng.uniform(0.05, 1.0) * context.seconds
            try:
                child.wait(timeout=moment if outcome.faults < count else None)
            except subprocess.TimeoutExpired:
                how = context.rng.choice(["all", "all", "alone", "record"])
                if how == "alone":
                    # Its jobs live on, and end while the next Snakemake runs.
                    os.kill(child.pid, signal.SIGKILL)
                    child.wait()
                    context.live_on.append(child.pid)
                else:
                    kill(child)
                if how == "record":
                    shutil.rmtree(folder / ".snakemake", ignore_errors=True)
                outcome.faults += 1
                continue
            if child.returncode:
                log = (folder / "snakemake.log").read_text()[-800:]
                outcome.lost.append(f"workflow: exit status {child.returncode}: {log}")
            break
        context.wait_for_those_that_live_on()
        finish(outcome, folder, "workflow after kills")
        whole(outcome, folder, context, "workflow after kills")
        shutil.rmtree(folder)


def copied(context: Context) -> Path:
    folder = Path(tempfile.mkdtemp(dir=context.home)) / "run"
    shutil.copytree(context.finished, folder, symlinks=True)
    return folder


def artefacts(folder: Path) -> list[Path]:
    return [folder / path for path in results_of(folder)]


def same_content(path: Path, before: bytes) -> bool:
    """Whether an HDF5 file says the same as before: a byte in a gap between arrays is nobody's."""
    if path.suffix != ".h5":
        return False
    import h5py

    with tempfile.NamedTemporaryFile(suffix=".h5") as old:
        old.write(before)
        old.flush()
        with h5py.File(old.name, "r") as one, h5py.File(path, "r") as other:
            digests = [
                (dict(file.attrs), store.arrays_digest(store._datasets(file)))
                for file in (one, other)
            ]
    return digests[0] == digests[1]


def damaged(context: Context, outcome: Outcome, count: int) -> None:
    """A file cut short, or a byte of it changed, between two jobs: `crossseed verify` must find it, and its
    command bring back the very bytes. Every tenth is mended by that command; the others are looked for alone."""
    folder = copied(context)
    for number in range(count):
        path = context.rng.choice(artefacts(folder))
        before, times = path.read_bytes(), path.stat()
        data = bytearray(before)
        if context.rng.random() < 0.5:
            data = data[: context.rng.randrange(len(data))]
        else:
            data[context.rng.randrange(len(data))] ^= 1 << context.rng.randrange(8)
        path.write_bytes(bytes(data))
        # As damage that no program did.
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        outcome.faults += 1
        inside = str(path.relative_to(folder))
        problems = verify.check(folder / "results").problems
        found = [problem for problem in problems if problem.again == inside]
        if found:
            outcome.said += 1
        elif not same_content(path, before):
            outcome.lost.append(f"{inside}: damage was not found ({[p.said for p in problems]})")
        if number % 10 == 0 and found:
            for command in verify.commands(folder / "results", found, [CONFIG]):
                words = command.replace("snakemake", " ".join(snakemake(folder)[:5]), 1).split()
                subprocess.run(words, env=environment(), capture_output=True, cwd=folder)
            outcome.runs += 1
            if path.read_bytes() != before:
                outcome.lost.append(f"{inside}: not the same bytes after the command of verify")
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.rmtree(folder.parent)


def refused_when_read(context: Context, outcome: Outcome, count: int) -> None:
    """An input damaged before the job that reads it: refused by name, or the job's results are the same bytes."""
    names = [name for name, job in context.known.items() if job.inputs]
    for number in range(count):
        job = context.job(names[number % len(names)])
        folder = job.folder(context.base, context.home)
        inside = context.rng.choice(job.inputs)
        path = folder / inside
        data = bytearray(path.read_bytes())
        if context.rng.random() < 0.5:
            data = data[: context.rng.randrange(len(data))]
        else:
            data[context.rng.randrange(len(data))] ^= 1 << context.rng.randrange(8)
        path.write_bytes(bytes(data))
        child = job.start(folder)
        _, err = child.communicate()
        outcome.faults += 1
        if child.returncode == 2 and Path(inside).name in err and "Traceback" not in err:
            outcome.said += 1
        elif child.returncode == 0:
            # Of what it did not read, or of a gap.
            outcome.runs += 1
            found = {p: c for p, c in results_of(folder).items() if p not in job.inputs}
            if found != {p: c for p, c in job.wanted.items() if p not in job.inputs}:
                outcome.lost.append(f"{job.name}: other results from a damaged {inside}")
        else:
            outcome.lost.append(
                f"{job.name}: {child.returncode} on a damaged {inside}: {err[-500:]}"
            )
        shutil.rmtree(folder)


def record_removed(context: Context, outcome: Outcome, count: int) -> None:
    """`.snakemake` removed from a finished run, and some results too."""
    for _ in range(count):
        folder = copied(context)
        shutil.rmtree(folder / ".snakemake", ignore_errors=True)
        for path in context.rng.sample(artefacts(folder), 3):
            path.unlink()
        outcome.faults += 1
        finish(outcome, folder, "record removed")
        missing = sorted(set(context.wanted) - set(results_of(folder)))
        if missing:
            # Snakemake makes what the page needs again, not what nothing waits for.
            words = [*snakemake(folder), *missing]
            subprocess.run(words, env=environment(), capture_output=True)
        whole(outcome, folder, context, "record removed")
        shutil.rmtree(folder.parent)


def clock_changed(context: Context, outcome: Outcome, count: int) -> None:
    """Times of results as a clock that was set gives them: up to two days back or ahead."""
    for _ in range(count):
        folder = copied(context)
        for path in artefacts(folder):
            when = time.time() + context.rng.uniform(-2, 2) * 86400
            os.utime(path, (when, when))
        outcome.faults += 1
        finish(outcome, folder, "clock changed")
        whole(outcome, folder, context, "clock changed")
        shutil.rmtree(folder.parent)


def two_at_once(context: Context, outcome: Outcome, count: int) -> None:
    """Two Snakemakes in one folder: the second is refused by the lock of the first, or, told to ignore it, does the
    same work at the same time."""
    for number in range(count):
        folder = Path(tempfile.mkdtemp(dir=context.home))
        more = ["--nolock"] if number % 2 else []
        first = started(folder, *more)
        time.sleep(context.rng.uniform(2, 6))
        second = started(folder, *more)
        second.wait()
        first.wait()
        outcome.faults += 1
        if not more and (first.returncode or not second.returncode):
            outcome.lost.append(
                f"two at once: exit status {first.returncode} and {second.returncode}"
            )
        finish(outcome, folder, "two at once")
        whole(outcome, folder, context, "two at once")
        shutil.rmtree(folder)


# --- the hub ----------------------------------------------------------------------------

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LOAD = """
import json, sys, time
time.sleep = lambda seconds: None
from crossseed.cohorts.hub import members
from crossseed.cohorts.hub.loading import Source
from crossseed.errors import UserError
try:
    found = members.load_source(Source(*sys.argv[1:]), ["blocks.1.hook_resid_post"], "float32", "cpu")
    print(json.dumps(["loaded", found.digest]))
except UserError as error:
    print(json.dumps(["refused", str(error)]))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub of one model that hangs up in the middle of a file as often as it is told."""

    root: Path
    drops = 0
    rng = random.Random(0)

    def do_GET(self) -> None:
        self.answer(True)

    def do_HEAD(self) -> None:
        self.answer(False)

    def answer(self, body: bool) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            files = [{"rfilename": path.name} for path in sorted(self.root.iterdir())]
            told = {"_id": "0", "id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files}
            return self.reply(json.dumps(told).encode(), body, {})
        path = self.root / parts[-1]
        if not path.is_file():
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{path.name}"'}
        return self.reply(path.read_bytes(), body, headers, path.name == "model.safetensors")

    def reply(
        self, content: bytes, body: bool, headers: dict[str, str], drop: bool = False
    ) -> None:
        first = 0
        asked = self.headers.get("Range", "")
        if body and asked.startswith("bytes=") and asked[6:-1].isdigit():
            first = int(asked[6:-1])
        self.send_response(206 if first else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        if not body:
            return
        if drop and type(self).drops > 0:
            type(self).drops -= 1
            self.wfile.write(content[first : self.rng.randrange(first, len(content))])
            self.wfile.flush()
            self.connection.close()
            return
        self.wfile.write(content[first:])

    def log_message(self, *_: object) -> None:
        pass


def hub_dropped(context: Context, outcome: Outcome, count: int) -> None:
    """The hub hangs up in the middle of a model's weights, more often than its client tries again; then it is back."""
    sys.path.insert(0, str(HERE.parent))
    import language_models

    hub = context.home / "hub"
    tokenizer = language_models.train_tokenizer(["ba ce di fo"] * 20)
    language_models.write_models(hub, ["lab/tiny"], tokenizer)
    root = hub / "lab" / "tiny"

    def load(home: Path, *source: str, **more: str) -> list[str]:
        kept = {k: v for k, v in environment().items() if "PROXY" not in k.upper()}
        kept |= {"HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
        words = [sys.executable, "-c", LOAD, *source]
        said = subprocess.run(words, env=kept, capture_output=True, text=True, cwd=home)
        if said.returncode:
            return ["failed", said.stderr[-800:]]
        found: list[str] = json.loads(said.stdout.splitlines()[-1])
        return found

    _, wanted = load(hub, "lab/tiny", str(hub))
    handler = type("Dropping", (Hub,), {"root": root, "rng": context.rng})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        for _ in range(count):
            home = Path(tempfile.mkdtemp(dir=context.home))
            handler.drops = 100
            how, said = load(home, "lab/tiny", HF_ENDPOINT=endpoint)
            outcome.faults += 1
            if how == "refused" and "lab/tiny" in said:
                outcome.said += 1
            else:
                outcome.lost.append(f"hub dropped: {how}: {said}")
            handler.drops = 0
            outcome.runs += 1
            found = load(home, "lab/tiny", HF_ENDPOINT=endpoint)
            if found != ["loaded", wanted]:
                outcome.lost.append(f"hub back: {found}")
            shutil.rmtree(home)
    finally:
        server.shutdown()
        server.server_close()


# --- all of it --------------------------------------------------------------------------


class Context:
    """What scenarios share: where they work, an undisturbed run, and the jobs taken from it."""

    def __init__(self, home: Path, seed: int, kept: Path | None = None) -> None:
        self.home, self.rng = home, random.Random(seed)
        self.make_room: Callable[[], None] | None = None
        self.live_on: list[int] = []
        self.known = jobs()
        self._measured: set[str] = set()
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

    def wait_for_those_that_live_on(self) -> None:
        """Jobs whose Snakemake was killed alone: of its group, until there is none."""
        for group in self.live_on:
            with contextlib.suppress(ProcessLookupError):
                while True:
                    os.killpg(group, 0)
                    time.sleep(0.2)
        self.live_on.clear()


Scenario = Callable[[Context, Outcome, int], None]
SCENARIOS: dict[str, tuple[str, Scenario]] = {
    "kill-training": ("toy training killed at a random moment", killed_at_random("training")),
    "kill-sae": ("SAE training killed at a random moment", killed_at_random("sae")),
    "kill-extraction": (
        "activation writer killed at a random moment",
        killed_at_random("extraction"),
    ),
    "kill-training-files": (
        "toy training killed just before or after a file is flushed or renamed",
        killed_at_files("training"),
    ),
    "kill-sae-files": ("SAE training killed at such a moment", killed_at_files("sae")),
    "kill-extraction-files": (
        "activation writer killed at such a moment",
        killed_at_files("extraction"),
    ),
    "kill-workflow": (
        "a whole run killed at a random moment, with its jobs or without, a quarter with `.snakemake` removed",
        killed_workflow,
    ),
    "disk-limit": ("no file may grow beyond a random size", disk_full),
    "disk-small": ("a file system that is full but for a part of the output", small_disk),
    "damage": ("a finished file cut short, or one bit of it flipped", damaged),
    "damage-read": ("an input cut short or flipped before a job reads it", refused_when_read),
    "record-removed": ("`.snakemake` and three results of a finished run removed", record_removed),
    "clock": ("times of all results set up to two days back or ahead", clock_changed),
    "two-at-once": ("two Snakemakes in one folder, every other time with `--nolock`", two_at_once),
    "hub-dropped": ("the hub hangs up in the middle of a model's weights", hub_dropped),
}


@contextlib.contextmanager
def working(seed: int, kept: Path | None = None) -> Iterator[Context]:
    home = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield Context(home, seed, kept)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def add(results: Path, name: str, found: Outcome) -> None:
    """Adds counts to those of earlier invocations."""
    told = json.loads(results.read_text()) if results.exists() else {}
    old = told.get(name, {})
    told[name] = {key: old.get(key, type(value)()) + value for key, value in vars(found).items()}
    results.write_text(json.dumps(told, indent=1) + "\n")


def table(told: dict[str, Any]) -> str:
    """The table of the page, as Markdown."""
    lines = [
        "| what was done | how often | refused in a sentence | went on from saved state | results compared | lost |",
        "|---|---|---|---|---|---|",
    ]
    for name, (words, _) in SCENARIOS.items():
        if name in told:
            of = told[name]
            cells = [
                words,
                of["faults"],
                of["said"] or "–",
                of["resumed"] or "–",
                of["runs"] or "–",
            ]
            cells.append(len(of["lost"]) or "nothing")
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def write_page(page: Path, told: dict[str, Any]) -> None:
    page.write_text(between(page, *BETWEEN, table(told)))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5, help="faults of each scenario")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, help="JSON file to which counts are added")
    parser.add_argument("--page", type=Path, help="page whose table is written from that file")
    parser.add_argument("--undisturbed", type=Path, help="folder in which that run is kept")
    args = parser.parse_args()
    lost = 0
    with working(args.seed, args.undisturbed) as context:
        for name in args.only:
            found = Outcome()
            began = time.monotonic()
            SCENARIOS[name][1](context, found, args.count)
            lost += len(found.lost)
            seconds = time.monotonic() - began
            print(f"{name}: {json.dumps(found.as_dict())} {seconds:.0f} s", flush=True)
            if args.results:
                add(args.results, name, found)
    if args.page and args.results:
        write_page(args.page, json.loads(args.results.read_text()))
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
