"""Runs of the workflow, and what a test asks of a finished one."""

import csv
import functools
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import browser
import changes
import pytest
import rerun
import warm
import yaml
from reruns import patterns

ROOT = Path(__file__).parent.parent
N_WORKERS = os.cpu_count() or 1


# Names of a kind, by the one that the metrics page has for them.
FAMILIES = {
    r"density_q\d+": "density_qNN",
    r"evx_\d+": "evx_k",
    r"trace_\d+": "trace_k",
    r"decay_.*": "decay_FORM",
    r"top\d+_r": "topN_r",
    r"top\d+_used": "topN_used",
    r"(?:transcoder|dictionary)_(?:ev|mse|l0|dead)": "transcoder_*",
    r"(.*)_identified|(?:rotation_distance|split_half_distance)_published": "_identified",
    r"(?:agree|dec|dual|strict|max_cos|encoder_mcc)_(?:above|on_data)": "_above",
    r"(?:alone|in_exactly|cycle)_(?:all|published)": "_all",
    r"firing_.*_above": "_above",
    r"(?:accuracy_drop|kl)_ratio": "kl_ratio",
}


# Processes that end with this one, when their standard input does.
SERVERS = []


@functools.cache
def _server(hash_seed):
    """The environment of a run whose jobs are forked from a process that has imported everything."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    command = [sys.executable, warm.__file__, folder / "socket"]
    server = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONHASHSEED": hash_seed},
    )
    SERVERS.append(server)
    assert server.stdout.readline() == "ready\n"
    return warm.environment(folder / "socket")


# A process forked from another cannot use a GPU that this one has used.
WARM = not Path("/dev/nvidiactl").exists()


def snakemake(folder, *args, config=None, hash_seed="0", cold=not WARM):
    """A run of the workflow; `cold` where each of its jobs is to import what it needs itself."""
    config = config or ROOT / patterns.SMOKE
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", config, "--nolock", *args]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    if not cold:
        environment |= _server(hash_seed)
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=environment
    )


def rows_of_plan(text):
    """Rows of a `--detailed-summary`."""
    table = text[text.index("output_file\t") :]
    return list(csv.DictReader(io.StringIO(table), delimiter="\t", quoting=csv.QUOTE_NONE))


def planned(text):
    """Output files of a plan: all of them, and those to be made again."""
    rows = rows_of_plan(text)
    everything = {row["output_file"] for row in rows}
    pending = {row["output_file"] for row in rows if row["plan"] != "no update"}
    return everything, pending


class Planner:
    """A process that runs Snakemake once after another without its start; see `planner.py`."""

    def __init__(self, hash_seed="0", **environment):
        command = [sys.executable, Path(__file__).parent / "planner.py", "--nolock"]
        command += ["--snakefile", ROOT / "Snakefile"]
        self.process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, **environment},
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.__exit__(*error)

    def __call__(self, out, folder, config, *args):
        """How a run ended, ``done`` if well, and what it said, which is written to `out`."""
        command = [str(arg) for arg in ("--directory", folder, *args, "--configfile", config)]
        self.process.stdin.write(json.dumps([str(out), command]) + "\n")
        self.process.stdin.flush()
        said = self.process.stdout.readline().strip()
        return said, out.read_text()


def assert_nothing_to_do(folder, config):
    found = snakemake(folder, "--cores", "1", "--resources", "gpu=1", config=config)
    assert found.returncode == 0
    assert "Nothing to be done" in found.stdout + found.stderr


def assert_reads_well(folder):
    """The page of a finished run, in a browser."""
    if browser.find() is None:
        pytest.skip("no browser is installed: python tests/browser.py --packages")
    (page,) = folder.glob("results/reports/*/index.html")
    with browser.Browser() as found:
        assert browser.faults(found, page) == []


def assert_as_written(folder, config):
    """`crossseed verify` finds each file whole, and made with what the configuration says."""
    command = [sys.executable, "-m", "crossseed", "verify", "results", "--configfile", config]
    found = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, cwd=folder
    )
    assert found.returncode == 0, found.stdout[-3000:] + found.stderr[-3000:]


def assert_jobs_alone_give_the_same(folder, copy, which=lambda command: True):
    """One job of each rule again, by a process that imports what it needs itself, in a copy of the folder.

    Args:
        folder: a finished run.
        copy: a folder that does not exist.
        which: of a job's command line, whether it is one to look at.
    """
    shutil.copytree(folder, copy)
    chosen = {}
    for log in sorted(folder.glob("results/*/logs/**/*.log")):
        inside = log.relative_to(folder)
        command = log.read_text().splitlines()[0].removeprefix("$ crossseed ")
        if which(command):
            # Logs lie in a folder of their rule, or are the rule's only one.
            rule = inside.parts[3] if len(inside.parts) > 4 else command.split()[0]
            chosen.setdefault(rule, (log, command))
    assert chosen

    def problem(log, command):
        words = [sys.executable, "-m", "crossseed", *shlex.split(command)]
        environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"}
        found = subprocess.run(words, cwd=copy, capture_output=True, text=True, env=environment)
        # What is recorded of passes is recorded once.
        wrote = re.compile(r"^wrote .*(?<!/passes\.json)$", re.M)
        before, now = (sorted(wrote.findall(said)) for said in (log.read_text(), found.stdout))
        return None if before == now and before else f"{log}: {now or found.stderr[-2000:]}"

    with ThreadPoolExecutor(N_WORKERS) as pool:
        found = pool.map(lambda job: problem(*job), chosen.values())
        problems = [one for one in found if one]
    assert not problems, "\n".join(problems)
    return set(chosen)


NAMED = ("metric", "measure", "quantity", "statistic", "test")


def assert_metrics_are_defined(folder):
    """Whatever a table of the report names is on the metrics page; families by `_above`, `topN`, … once."""
    page = (ROOT / "docs/metrics.md").read_text()
    known = set(re.findall(r"`([^`]+)`", page))
    families = {re.compile(pattern): name for pattern, name in FAMILIES.items()}
    unknown = set()
    for path in folder.glob("results/reports/*/tables/*.csv"):
        # Published figures have sentences for names.
        if path.stem == "claims":
            continue
        with open(path, newline="") as handle:
            for row in csv.DictReader(handle):
                for name in (row.get(column) for column in NAMED):
                    base = next(
                        (of for p, of in families.items() if name and p.fullmatch(name)), name
                    )
                    if name and not {name, base} & known:
                        unknown.add((path.stem, name))
    assert not unknown, sorted(unknown)


def _changed(case):
    config, keys = changes.read(ROOT / case.run), case.path.split(".")
    assert changes.at(config, keys) != case.value, f"{case.path} is not changed"
    return changes.replaced(config, keys, case.value)


def assert_exact_reruns(folder, run, tmp_path):
    """For every leaf: the plan after changing it holds the expected files and no others, under
    another hash seed than that of the run."""

    cases = [case for case in rerun.CASES if case.run == run]
    assert cases

    def check(worker):
        # Another hash seed than the run's, and than the other workers'.
        with Planner(str(worker + 1)) as planner:
            return [
                found
                for number, case in list(enumerate(cases))[worker::N_WORKERS]
                if (found := problem(planner, number, case))
            ]

    def problem(planner, number, case):
        config, out = tmp_path / f"{number}.yaml", tmp_path / f"{number}.txt"
        config.write_text(yaml.safe_dump(_changed(case)))
        said, text = planner(out, folder, config, "--detailed-summary")
        if said != "done":
            return f"{case.path}: {said}: {text[-2000:]}"
        everything, pending = planned(text)
        expected = {path for path in everything if any(re.fullmatch(p, path) for p in case.outputs)}
        matched = all(any(re.fullmatch(p, path) for path in everything) for p in case.outputs)
        if pending != expected or not matched:
            return f"{case.path}: also {sorted(pending - expected)[:4]}, not {sorted(expected - pending)[:4]}"
        return None

    with ThreadPoolExecutor(N_WORKERS) as pool:
        problems = [found for part in pool.map(check, range(N_WORKERS)) for found in part]
    assert not problems, "\n".join(problems)
