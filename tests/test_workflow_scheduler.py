"""What this workflow sets of Snakemake's scheduler."""

import subprocess
import sys

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
