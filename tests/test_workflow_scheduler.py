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
