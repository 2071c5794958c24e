"""Whole runs of a small study that is watched: what stands on the screen and in logs, and that what is printed goes on."""

import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = """
from crossseed import progress, watch

progress.LOG_SECONDS = 0.5

onstart:
    watch.begin(workflow, lambda rule: 1.0)

onsuccess:
    watch.end(workflow)

onerror:
    watch.end(workflow)

rule all:
    input: "page.txt"

rule cell:
    output: "{i}.txt"
    log: "logs/{i}.log"
    shell:
        "echo '$ crossseed cell --i {wildcards.i}' > {log}; seq -f 'step %g' 40 >> {log}; sleep 0.4;"
        " test {wildcards.i} != 2 -o ! -e broken"
        " || {{ echo 'crossseed cell: the disk is full' >> {log}; exit 1; }};"
        " echo made >> count; touch {output}"

rule page:
    input: expand("{i}.txt", i=range(6))
    output: "page.txt"
    shell: "cat {input} > {output}"
"""
START = [sys.executable, "-m", "snakemake", "--cores", "2", "--scheduler", "greedy"]


def start(folder, *words, environment=None):
    return subprocess.run(
        [*START, *words], cwd=folder, capture_output=True, text=True,
        env={**os.environ, **(environment or {})},
    )  # fmt: skip


@pytest.fixture
def broken(tmp_path):
    (tmp_path / "Snakefile").write_text(STUDY)
    (tmp_path / "broken").touch()
    return tmp_path


def command_in(said):
    """The command that continues."""
    return re.search(r"continues, with what is done kept:\n\n    (.*)\n", said)[1]


def test_a_failed_run_says_why_and_the_command_it_prints_continues(broken):
    found = start(broken, "--keep-going")
    assert found.returncode == 1
    said = found.stderr
    assert "Error in rule cell, jobid" in said
    assert "    | step 40\n    | crossseed cell: the disk is full" in said
    # The end of the log, without the command that it opens with.
    assert "| step 27" in said
    assert "step 26\n" not in said
    assert "$ crossseed" not in said
    assert "A job's command returned non-zero exit status 1." in said
    assert "5 of 8 jobs done after" in said
    assert "1 failed, 2 left." in said
    assert "cell: 2.txt: crossseed cell: the disk is full [logs/2.log]" in said
    # Not a dozen lines of each job that did well: those are in Snakemake's own log.
    assert "wildcards:" not in said
    own = next((broken / ".snakemake/log").glob("*.log")).read_text()
    assert own.count("wildcards: i=") == 6
    assert re.search(r"\[\d\d:\d\d:\d\d\] \d of 8 jobs done, 2 running \(cell 2\)", own)

    made = (broken / "count").read_text()
    (broken / "broken").unlink()
    command = command_in(said)
    again = subprocess.run(command, shell=True, capture_output=True, text=True, cwd="/")
    assert again.returncode == 0, again.stderr
    assert "All 3 jobs done in" in again.stderr
    assert (broken / "count").read_text() == made + "made\n"
    assert "Nothing to be done" in start(broken).stderr


def test_lines_say_what_is_done_running_and_left_with_an_interval(broken):
    (broken / "broken").unlink()
    said = start(broken).stderr
    lines = re.findall(r"^\[\d\d:\d\d:\d\d\] (.* jobs done.*)$", said, re.M)
    assert 1 <= len(lines) <= 5
    assert re.search(r"running \(cell.*\), \d waiting; .* left$", "\n".join(lines), re.M)
    assert "All 8 jobs done in" in said


def test_without_keep_going_it_says_that_nothing_more_is_begun(broken):
    found = start(broken)
    assert "1 failed, " in found.stderr
    assert "the disk is full" in found.stderr
    assert (
        subprocess.run(
            "rm broken; " + command_in(found.stderr).replace("cd ", "true; cd ", 1),
            shell=True, cwd=broken, capture_output=True,
        ).returncode == 0
    )  # fmt: skip


def test_what_is_asked_to_be_quiet_is(broken):
    progress_off = start(broken, "--quiet", "progress").stderr
    assert "jobs done," not in progress_off
    assert "This continues" not in progress_off
    assert "Once that is mended, this continues" in progress_off
    rules_off = start(broken, "--quiet").stderr
    assert "Error in rule" not in rules_off
    assert "| crossseed cell: the disk is full" in rules_off
    assert "this continues" in rules_off
    assert start(broken, "--quiet", "all").stderr.strip() == ""
    dry = start(broken, "--dry-run")
    assert "jobs done" not in dry.stdout + dry.stderr
    assert dry.returncode == 0
    whole = start(broken, "--verbose").stderr
    assert "wildcards: i=2" in whole
    assert "| crossseed cell: the disk is full" in whole


def test_a_terminal_has_one_line_that_is_rewritten(broken):
    (broken / "broken").unlink()
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        START, cwd=broken, stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    assert child.wait() == 0
    text = seen.decode()
    rewritten = text.count("\r\x1b[K")
    assert rewritten > 5
    # As the terminal shows it in the end: nothing of the line is left.
    shown = [row.rpartition("\x1b[K")[2] for row in text.split("\r\n")]
    assert not [row for row in shown if "jobs done," in row]
    assert [row for row in shown if "All 8 jobs done in" in row]
    # The file has lines of its own.
    own = next((broken / ".snakemake/log").glob("*.log")).read_text()
    assert re.search(r"\[\d\d:\d\d:\d\d\] \d of 8 jobs done", own)


def test_a_run_that_is_interrupted_says_how_to_go_on(broken):
    (broken / "broken").unlink()
    with open(broken / "said", "w") as file:
        # Whoever runs the tests in the background has them ignore it.
        child = subprocess.Popen(
            START, cwd=broken, stderr=file, stdout=file,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        while not (broken / "count").exists() and child.poll() is None:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        child.wait()
    said = (broken / "said").read_text()
    assert "stopped, " in said
    assert "This continues, with what is done kept" in said
    assert shlex.split(command_in(said))[:2] == ["cd", str(broken)]
    again = subprocess.run(command_in(said), shell=True, capture_output=True, cwd="/")
    assert again.returncode == 0
    assert Path(broken / "page.txt").exists()
