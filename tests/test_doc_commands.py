"""Every command of README and docs/*.md works, tried in their order as a new user would, in a fresh clone.

At smoke size: `config/config.yaml` of the clone has its own names, the numbers of `SMALL`, and not what is `LEFT_OUT`. Everything else is as it is
printed. What marks before blocks mean is said in `doc_blocks.py`.

The environment is taken as installed: the clone's `.venv` is this interpreter under other names, so that `make`, `pip` and pins are not
tried here; that the project installs into nothing, with `make`, is tried by CI (`.ci/run`), which begins with a fresh clone.
"""

import collections
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import doc_blocks
import pytest
import workflow_runs
import yaml
from doc_blocks import PAGES, ROOT, blocks

from crossseed.config.load import load_run

# What the default run's values become, by the end of their path.
SMALL = {
    "seeds": lambda seeds: seeds[:2],
    "sites": lambda sites: [sites[0], sites[3]],
    "training.steps": 40, "training.batch_rows": 8, "training.pool_rows": 32, "training.lengths": [2, 20],
    "training.short_first_steps": 20, "training.warmup_steps": 10, "training.eval_every_steps": 40, "training.eval_rows": 32,
    "tokens.sequences": 240, "tokens.lengths": [4, 20], "tokens.fit": [0, 96], "tokens.train": [96, 160], "tokens.eval": [160, 240],
    "steps": 12, "batch_tokens": 64, "expansions": [8], "decay_steps": lambda steps: min(steps, 4), "warmup_steps": lambda steps: min(steps, 4),
    "resamples": 100, "directions": lambda found: [1, 4] if isinstance(found, list) else 100,
    "splice.sequences": 8, "haar.draws": 600, "power_draws": 20, "port.sequences": 8,
    "trials": 4, "steering.sequences": 2, "features.latents": 2, "features.sequences": 8,
    "right": [2], "midpoint": [2], "gauss": [2], "attribution.batches": 2, "attribution.sequences": 2, "attribution.members": "anchor",
}  # fmt: skip
# Studies that no command asks for, half of the processor time; the smoke run has them.
LEFT_OUT = ("weights", "bars", "lenses")
# What else is not as printed: commands that would take the whole suite, or the environment that this test already has.
INSTEAD = {"make test": "make test CORES=0 PYTEST_ADDOPTS=tests/test_paths.py"}
# A plan is made in seconds; one that takes minutes keeps its reader from what it is for.
DRY_RUN_SECONDS = 120
# So that what is not run does not swell.
MOST_NOT_RUN = 12


def small(config, path=""):
    """The default run's configuration with the values of `SMALL`, without what is `LEFT_OUT`."""
    if path.removeprefix(".") in LEFT_OUT:
        return None
    if isinstance(config, dict):
        return {key: small(value, f"{path}.{key}") for key, value in config.items()}
    for end, value in sorted(SMALL.items(), key=lambda item: -len(item[0])):
        if path.endswith(f".{end}") and config is not None:
            return value(config) if callable(value) else value
    return config


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The files that git has of this tree, and an environment that `make` takes for its own."""
    folder = tmp_path_factory.mktemp("clone")
    said = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, said.stdout.split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(os.readlink(source)) if source.is_symlink() else target.write_bytes(
                source.read_bytes()
            )
    default = folder / "config/config.yaml"
    default.write_text(yaml.safe_dump(small(yaml.safe_load(default.read_text())), sort_keys=False))
    (folder / "results").mkdir(exist_ok=True)
    environment_of(folder)
    return folder


def environment_of(folder):
    """`.venv` of the clone: this interpreter's programs under their names, with the clone's library."""
    programs = folder / ".venv/bin"
    programs.mkdir(parents=True)
    here = Path(sys.executable).parent
    for program in ("python", "python3", "crossseed", "snakemake", "pytest"):
        started = (
            sys.executable if program.startswith("python") else f"{sys.executable} {here / program}"
        )
        path = programs / program
        path.write_text(f'#!/bin/sh\nPYTHONPATH={folder}/src exec {started} "$@"\n')
        path.chmod(0o755)
    (programs / "activate").write_text(f'export PATH={programs}:"$PATH"\n')
    (folder / ".venv/.installed").touch()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def ran(lines, folder, environment, seconds=None):
    """What lines of a shell say and end with; after so many seconds they and all that they started are stopped."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", lines], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            err += f"took longer than {seconds} s, and was stopped\n"
    return Ran(process.returncode, out, err)


@pytest.fixture(scope="module")
def shell(clone):
    """Runs lines in the clone, with the jobs of workflows forked from one process."""
    environment = {
        **os.environ,
        "PATH": f"{clone}/.venv/bin:{os.environ['PATH']}",
        "PYTHONHASHSEED": "0",
    }
    environment |= {
        "PYTHONPATH": f"{clone}/src",
        "CORES": os.environ.get("CORES", str(workflow_runs.N_WORKERS)),
    }
    if workflow_runs.WARM:
        environment |= workflow_runs._server("0")

    return functools.partial(ran, folder=clone, environment=environment)


def as_run(block, command):
    for printed, instead in INSTEAD.items():
        if command.split("#")[0].strip() == printed:
            command = instead
    if block.mark == "dry run":
        words = command.split("#")[0].rstrip()
        command = f"{words} --dry-run --quiet all"
    return command


def problems_of(page, clone, shell, counts):
    """What does not work on a page, in its order."""
    names = {}
    for block in blocks(page):
        where = f"{block.page}:{block.line}"
        if block.mark == "file":
            (clone / block.why).parent.mkdir(parents=True, exist_ok=True)
            (clone / block.why).write_text(block.text)
        elif block.language == "python":
            counts[f"not run: {block.why}" if block.mark else "run"] += 1
            try:
                code = compile(block.text, where, "exec")
                if not block.mark:
                    exec(code, names)
            except Exception as error:
                yield f"{where}: {type(error).__name__}: {error}"
        elif block.language == "sh":
            if block.mark == "not run":
                for command in block.commands:
                    if missing := doc_blocks.unknown(command, clone):
                        yield f"{where}: {command}: there is no {missing}"
                counts[f"not run: {block.why}"] += len(block.commands)
                continue
            counts[block.mark or "run"] += len(block.commands)
            most = DRY_RUN_SECONDS * len(block.commands) if block.mark == "dry run" else None
            found = shell(
                "\n".join(as_run(block, command) for command in block.commands), seconds=most
            )
            if found.code:
                yield f"{where}: {block.text}{found.out[-1500:]}{found.err[-3000:]}"


@pytest.mark.slow
def test_every_command_works_in_a_fresh_clone(clone, shell, monkeypatch):
    monkeypatch.chdir(clone)
    counts = collections.Counter()
    # README first: what it makes is there for the pages.
    problems = [problem for page in PAGES for problem in problems_of(page, clone, shell, counts)]
    print(dict(counts))
    assert not problems, "\n\n".join(problems)
    not_run = sum(count for what, count in counts.items() if what.startswith("not run"))
    assert not_run <= MOST_NOT_RUN
    assert counts["run"] > not_run


def test_the_small_default_run_is_a_run_of_the_same_names():
    default = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    found = small(default)
    assert found["dictionaries"].keys() == default["dictionaries"].keys()
    assert found["cohorts"].keys() == default["cohorts"].keys()
    load_run(found, ["config/config.yaml"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_stands_in_blocks_that_say_what_they_are(page):
    assert blocks(page) is not None
    text = doc_blocks.FENCE.sub("", page.read_text())
    assert "```" not in text
    # An indented block is code that no test sees.
    assert doc_blocks.indented(page.read_text()) == []


def test_code_by_indentation_is_found_and_what_is_none_is_not():
    page = """Text
    that goes on,

    snakemake --cores 1

    more

- a list

    of two paragraphs
        and deeper

1. another:
    - within

New text.

\tmake coffee

```text
    fenced
```

    - no list
"""
    assert doc_blocks.indented(page) == [4, 6, 18, 24]


@pytest.mark.parametrize("seconds", [None, 60])
def test_what_is_run_says_how_it_ended(tmp_path, seconds):
    found = ran("echo here; pwd; echo there >&2; exit 3", tmp_path, os.environ, seconds)
    assert found == (3, f"here\n{tmp_path}\n", "there\n")


def test_what_takes_too_long_is_stopped_with_all_that_it_started(tmp_path):
    began = time.monotonic()
    found = ran("echo here; (sleep 50; touch late) & sleep 50", tmp_path, os.environ, 0.5)
    assert time.monotonic() - began < 40
    assert found.code
    assert (found.out, found.err) == ("here\n", "took longer than 0.5 s, and was stopped\n")
    assert not list(tmp_path.iterdir())


def test_a_command_that_does_not_exist_is_found(tmp_path):
    for command in (
        "crossseed plant config/config.yaml", "crossseed plan --guess", "snakemake --cors 2", "make coffee", "frobnicate now",
        "pip install -e '.[cluster]'", "snakemake --configfile config/none.yaml",
    ):  # fmt: skip
        assert doc_blocks.unknown(command, tmp_path), command


@pytest.mark.parametrize(
    "text", ["```\nmake run\n```", "<!-- not run: too dull -->\n```sh\nmake run\n```", "<!-- skip: hours -->\n```sh\nmake\n```"]
)  # fmt: skip
def test_a_block_without_a_meaning_is_refused(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{text}\n")
    with pytest.raises(ValueError, match=r"page\.md:"):
        blocks(page)
