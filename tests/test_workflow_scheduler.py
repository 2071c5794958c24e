"""What this workflow sets of Snakemake's scheduler."""

import os
import subprocess
import sys
import time

TINY = """
import threading
from crossseed import environment

onstart:
    {hook}

onsuccess:
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    print("timers:", len(timers))

rule all:
    input: expand("{{i}}.txt", i=range(30))

rule one:
    output: "{{i}}.txt"
    shell: "sleep .1; touch {{output}}"
"""


def timers_left(folder, hook):
    folder.mkdir()
    (folder / "Snakefile").write_text(TINY.format(hook=hook))
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return int((done.stdout + done.stderr).split("timers:")[1].split()[0])


def test_finished_jobs_leave_no_timer_behind(tmp_path):
    assert timers_left(tmp_path / "with", "environment.without_rate_limit(workflow)") == 0
    # As Snakemake is. Where this fails, it has been mended there: the hook can go.
    assert timers_left(tmp_path / "without", "pass") > 5


CHAIN = """
from crossseed import environment

onstart:
    environment.nothing_from_the_future(workflow)
    environment.mark_what_is_made_again(workflow)

rule all:
    input: "all.txt"

rule one:
    output: "{i}.txt"
    params: value=config["value"]
    shell: "test ! -e broken || exit 1; echo {params.value} > {output}"

rule collect:
    input: expand("{i}.txt", i=range(3))
    output: "all.txt"
    shell: "cat {input} > {output}"
"""


def started(folder, value):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going"]
    command += ["--rerun-incomplete", "--config", f"value={value}"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_after_a_job_that_failed_no_table_of_the_old_configuration_stays(tmp_path):
    (tmp_path / "Snakefile").write_text(CHAIN)
    assert started(tmp_path, 0).returncode == 0
    (tmp_path / "broken").touch()
    assert started(tmp_path, 1).returncode == 1
    assert (tmp_path / "all.txt").read_text() == "0\n" * 3
    (tmp_path / "broken").unlink()
    assert started(tmp_path, 1).returncode == 0
    assert (tmp_path / "all.txt").read_text() == "1\n" * 3
    assert "Nothing to be done" in started(tmp_path, 1).stderr


GIVEN = """
from crossseed import environment

onstart:
    environment.nothing_from_the_future(workflow)

rule one:
    input: "given.txt"
    output: "one.txt"
    shell: "cp {input} {output}"
"""


def dated(path, ahead):
    when = path.stat().st_mtime + ahead
    os.utime(path, (when, when))


def test_results_from_the_future_are_dated_now_in_their_order(tmp_path):
    (tmp_path / "Snakefile").write_text(CHAIN)
    assert started(tmp_path, 0).returncode == 0
    for number in range(3):
        dated(tmp_path / f"{number}.txt", 3600 * (number + 1))
    (tmp_path / "all.txt").unlink()
    found = started(tmp_path, 0)
    assert found.returncode == 0, found.stderr
    assert "3 results are dated in the future, such as 2.txt" in found.stderr
    times = [(tmp_path / f"{name}.txt").stat().st_mtime_ns for name in (0, 1, 2, "all")]
    assert times == sorted(set(times))
    assert times[-1] <= time.time_ns()
    assert "Nothing to be done" in started(tmp_path, 0).stderr


def test_an_input_from_the_future_is_refused_before_anything_is_done(tmp_path):
    (tmp_path / "Snakefile").write_text(GIVEN)
    (tmp_path / "given.txt").write_text("new")
    (tmp_path / "one.txt").write_text("old")
    dated(tmp_path / "given.txt", 3600)
    found = started(tmp_path, 0)
    assert found.returncode == 1
    assert "given.txt is dated in the future" in found.stderr
    assert (tmp_path / "one.txt").read_text() == "old"
    (tmp_path / "given.txt").touch()
    assert started(tmp_path, 0).returncode == 0
    assert (tmp_path / "one.txt").read_text() == "new"
