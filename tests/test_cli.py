"""The command line: light where it can be, one sentence where it fails."""

import json
import subprocess
import sys

import pytest

from crossseed import cli


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


def test_unknown_table_is_told(tmp_path):
    found = run("collect", "--spec", '{"table": "x"}', "--cells", "x", "--out", "t", cwd=tmp_path)
    assert found.returncode == 2
    assert "expected one of quality" in found.stderr
