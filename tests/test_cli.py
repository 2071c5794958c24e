"""The command line: light where it can be, one sentence where it fails."""

import json
import subprocess
import sys

import pytest

from crossseed import cli, store
from crossseed.tables import COLUMNS


def run(*args, cwd=None):
    return subprocess.run(
        [sys.executable, "-m", "crossseed", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
    )


def test_help_lists_every_verb():
    found = run("--help")
    assert found.returncode == 0
    for verb in cli.VERBS:
        assert verb in found.stdout


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb):
    found = run(verb, "--help")
    assert found.returncode == 0, found.stderr
    assert "usage: crossseed" in found.stdout


@pytest.mark.parametrize("verb", ["tokens", "align", "transfer", "cosine", "collect", "report"])
def test_analysis_verbs_do_without_torch(verb):
    script = f"import sys, crossseed.verbs.{verb}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_planning_does_without_torch_and_pandas():
    script = (
        "import sys; from crossseed import passes, plan, specs; "
        "from crossseed.config.load import load_files; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'pandas', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_the_log_opens_with_the_command_line_and_errors_are_one_sentence(tmp_path):
    spec = json.dumps({"table": "transfer"})
    found = run("collect", "--spec", spec, "--cells", "none.csv", "--out", "t.csv", cwd=tmp_path)
    assert found.returncode == 2
    assert found.stdout.splitlines()[0].startswith('$ crossseed collect --spec \'{"table"')
    assert "none.csv" in found.stderr
    assert "Traceback" not in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spec", "said"), [("{", "not JSON"), ("[]", "a list"), ("{}", "lacks table")]
)
def test_bad_specs_are_told(spec, said, tmp_path):
    found = run("collect", "--spec", spec, "--cells", "x.csv", "--out", "t.csv", cwd=tmp_path)
    assert found.returncode == 2
    assert said in found.stderr


def test_the_log_ends_with_the_digests_of_what_was_written(tmp_path):
    store.write_table(tmp_path / "cell.csv", COLUMNS["power"], [])
    argv = ["collect", "--spec", '{"table": "power"}', "--cells", "cell.csv", "--out", "t.csv"]
    found = run(*argv, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    digest = store.file_digest(tmp_path / "t.csv")
    assert found.stdout.splitlines()[-1] == f"wrote {digest} t.csv"


def test_what_is_half_written_goes_with_a_job_that_is_asked_to_end(tmp_path):
    """As SLURM ends a job over its time, before it kills it."""
    script = (
        "import sys, time, pathlib\n"
        "from crossseed import __main__, atomic, cli\n"
        "def run(argv=None):\n"
        "    with atomic.writing(pathlib.Path('t.csv')) as path:\n"
        "        path.write_text('half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "__main__.main = run\n"
        "__main__.entry()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    assert len(list(tmp_path.iterdir())) == 1
    child.terminate()
    assert child.wait(timeout=60) == 128 + 15
    assert list(tmp_path.iterdir()) == []


def test_unknown_table_is_told(tmp_path):
    found = run("collect", "--spec", '{"table": "x"}', "--cells", "x", "--out", "t", cwd=tmp_path)
    assert found.returncode == 2
    assert "expected one of quality" in found.stderr
