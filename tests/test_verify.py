"""Every planted damage of a results folder is found and named, with the command that mends it; nothing else is."""

import os
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import h5py
import numpy as np
import pytest
from written_folder import (
    ACTIVATIONS,
    CFG,
    COHORT,
    SITE,
    WEIGHTS,
    WIDTH,
    at,
    cell,
    copy,
    problems,
    truncate,
    whole,
)

from crossseed import cli, layout, specs, store
from crossseed.activations import ACTIVATIONS_SCHEMA, TOKENS_SCHEMA
from crossseed.cohorts.dyck.config import CHECKPOINTS, CHECKPOINTS_SCHEMA
from crossseed.config.load import load_files
from crossseed.errors import UserError
from crossseed.verify import study as verify
from crossseed.verify.places import KINDS, TOGETHER, place_of

__all__ = ["copy", "whole"]


def test_an_undamaged_folder_is_as_it_was_written(whole, capsys):
    found = verify.check(whole / "results")
    assert found.problems == []
    assert found.unfinished == found.unknown == []
    assert found.files == 38
    verify.report(whole / "results", found, print)
    assert "38 files" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "folder"),
    [(".left.csv.elsewhere-1.tmp", False), (".tmpabc.tmp", True), (".left.h5.123.tmp", False)],
)
def test_what_a_killed_job_left_is_found(copy, name, folder):
    path = copy / "results" / COHORT / name
    if folder:
        path.mkdir()
        (path / "part").write_text("half")
    else:
        path.write_text("half")
    (found,) = problems(copy)
    assert found.delete == path
    assert "left half written" in found.said
    assert verify.commands(copy / "results", [found]) == (f"rm -r {path}",)


def test_the_state_of_a_job_that_has_not_ended_is_none(copy):
    weights = copy / WEIGHTS
    state = weights.with_name(f".{weights.name}.resume")
    state.write_text("")
    os.utime(state, ns=(0, 0))
    (found,) = problems(copy)
    assert found.delete == state
    assert "has ended" in found.said
    # A run that has not come so far.
    shutil.rmtree(weights.parent)
    weights.parent.mkdir()
    state.write_text("")
    found = verify.check(copy / "results")
    assert found.unfinished == [state]
    assert found.problems == []


def test_what_is_made_from_others_than_those_there_is_found(copy):
    """Activations made anew from other tokens: whole in themselves, but not what the SAE was trained on."""
    path = copy / ACTIVATIONS
    with h5py.File(path, "r") as file:
        found = store.header(file)
    with store.create_h5(path, found.schema, found.spec, {**found.inputs, "tokens": "0" * 32}) as f:
        store.add_dataset(f.create_group("fit"), "activations", data=np.ones((3, WIDTH)))
    for log in copy.rglob("*.log"):
        log.unlink()
    said = {problem.again: problem.said for problem in problems(copy)}
    assert set(said) == {ACTIVATIONS, WEIGHTS, at(layout.MAPS)}
    assert "tokens.h5 has" in said[ACTIVATIONS]
    assert "was made from a file with digest" in said[WEIGHTS]
    path.unlink()
    # Deleted after its last reader, as `keep_activations: false` does.
    assert problems(copy) == []


def test_a_model_of_another_anchor_is_found(copy):
    path = copy / at(CHECKPOINTS, 1)
    spec, arrays = {"cohort": COHORT, "seed": 1}, {"final/W": np.ones((3, 3), np.float32)}
    store.write_tensors(path, arrays, CHECKPOINTS_SCHEMA, spec, {"anchor": "0" * 32})
    for log in copy.rglob("*.log"):
        log.unlink()
    said = [problem.said for problem in problems(copy)]
    assert any("anchor that is none of the cohort's models" in text for text in said)


def test_files_of_others_are_told_apart(copy):
    (copy / "results/notes.txt").write_text("mine")
    found = verify.check(copy / "results")
    assert [path.name for path in found.unknown] == ["notes.txt"]
    assert found.problems == []


def test_links_to_folders_are_not_followed(copy):
    (copy / "results/loop").symlink_to(copy / "results")
    assert verify.check(copy / "results").files == 39


def test_the_verb_names_all_and_exits_with_2(copy, monkeypatch, capsys):
    truncate(copy / ACTIVATIONS)
    (copy / CFG).unlink()
    (copy / "results/.x.tmp").mkdir()
    monkeypatch.chdir(copy)
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert cli.main(["verify", "results"]) == 2
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*")} == before
    out, err = capsys.readouterr()
    assert "crossseed verify: results: 3 problems in " in err
    lines = out.splitlines()
    assert f"    snakemake --cores 1 --force {CFG}" in lines
    assert lines[-2:] == [
        "rm -r results/.x.tmp",
        f"snakemake --cores 1 --force {ACTIVATIONS} {CFG}",
    ]


def test_commands_from_elsewhere_say_where(copy, monkeypatch):
    monkeypatch.chdir("/")
    truncate(copy / ACTIVATIONS)
    (command,) = verify.commands(copy / "results", problems(copy), [Path("a b.yaml")])
    assert command == (
        f"snakemake --cores 1 --directory {copy} --configfile 'a b.yaml' --force {ACTIVATIONS}"
    )


def test_artefacts_are_held_against_a_configuration(tmp_path, monkeypatch, capsys):
    config = Path(__file__).parent.parent / "config/smoke.yaml"
    run, cohort = load_files(config), "smoke-shared"
    told = {"cohort": cohort, "seed": 1, "checkpoint": "final"}
    spec = {**specs.extract(run, **told), "site": SITE}
    spec["source"] = store.source_of(spec["origin"], SITE)
    for path, schema, of in (
        (at(layout.TOKENS, cohort=cohort), TOKENS_SCHEMA, specs.tokens(run, cohort)),
        (at(layout.ACTIVATIONS, 1, cohort=cohort), ACTIVATIONS_SCHEMA, spec),
        # Cells that the run does not have are of another one.
        (at(layout.TOKENS, cohort="other"), TOKENS_SCHEMA, {"seed": 3}),
        (at(layout.ACTIVATIONS, 7, cohort=cohort), ACTIVATIONS_SCHEMA, {**spec, "seed": 7}),
    ):
        with store.create_h5(tmp_path / path, schema, of, {}) as file:
            store.add_dataset(file, "x", data=1)
    monkeypatch.chdir(tmp_path)
    assert cli.main(["verify", "results", "--configfile", str(config)]) == 0
    changed = tmp_path / "changed.yaml"
    changed.write_text(config.read_text().replace("lengths: [4, 20]", "lengths: [4, 19]"))
    capsys.readouterr()
    assert cli.main(["verify", "results", "--configfile", str(changed)]) == 2
    out = capsys.readouterr().out
    assert "tokens.h5: was made with lengths = [4, 20], but the configuration says [4, 19]" in out
    assert "with origin (a digest of model, tokens, and the code that made both)" in out
    assert f"--configfile {changed} --force results/{cohort}/activations/seed1/" in out


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="is no folder; give the folder of results"):
        verify.check(tmp_path / "none")


def test_memory_does_not_grow_with_a_file(tmp_path):
    rows = 1 << 20
    path = tmp_path / "results" / at(layout.ACTIVATIONS).removeprefix("results/")
    spec = {**cell(0), "source": "x"}
    with store.create_h5(path, ACTIVATIONS_SCHEMA, spec, {}) as file:
        group = file.create_group("fit")
        data = store.add_dataset(
            group, "activations", shape=(rows, 32), dtype="float32", chunks=(4096, 32)
        )
        for start in range(0, rows, 1 << 16):
            data[start : start + (1 << 16)] = 1.0
    assert path.stat().st_size > 1 << 27
    tracemalloc.start()
    assert problems(tmp_path) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 26


def test_every_template_of_the_layout_is_known():
    """A file that a new study writes is looked at too."""
    names = {
        name: value
        for name, value in vars(layout).items()
        if name.isupper() and isinstance(value, str) and value.startswith("results/")
    }
    known = " ".join(kind.template for kind in KINDS)
    folders = {"MODEL", "MODEL_FOLDER", "MODEL_TABLE", "TOKENIZER", "DICTIONARY_SITE"}
    folders |= {"PORT", "DELPHI", "REPORT", "DICTIONARY_OF_SOURCE", "JOINT_PAIR"}
    for name, value in names.items():
        assert name in folders or value in known, f"{name} = {value}: add it to verify/places.py"
    templates = {kind.template for kind in KINDS}
    assert {template for group in TOGETHER for template in group} <= templates


@pytest.mark.parametrize(
    ("path", "template"),
    [
        (f"results/a/fits/seed0-seed1/final/{SITE}.csv", layout.FITS),
        (f"results/a/fits/seed0-seed1/final/{SITE}-directions.csv", layout.DIRECTIONS),
        ("results/a/fits/seed0-seed1/final-shared.csv", layout.SHARED),
        (f"results/a/stability/seed0/final/{SITE}/topk-x2.csv", layout.STABILITY),
        (f"results/a/stability/seed0-seed1/final/{SITE}/topk-x2.csv", layout.BRIDGE),
        (f"results/a/dictionaries/seed0/final/{SITE}/topk-x2-seed3.csv", layout.SEED_METRICS),
        ("results/reports/r/tables/over_seeds.csv", layout.OVER_SEEDS),
        ("results/reports/r/tables/haar.csv", layout.TABLE),
    ],
)
def test_paths_are_told_apart(path, template):
    found = place_of(path)
    assert found is not None
    assert found.kind.template == template
    assert found.kind.columns


def test_it_does_without_torch():
    script = "import sys, crossseed.verbs.verify; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
