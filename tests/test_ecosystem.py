"""crossseed as a part of other things: of a catalog, of another workflow, of a notebook, of a wheel, of a citation."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import notebook
import pytest
import yaml

import crossseed

ROOT = Path(__file__).parent.parent
TINY = ROOT / "tests/faults/tiny.yaml"


# --- catalog ------------------------------------------------------------------------------------


def test_the_catalog_is_told_what_it_asks_for():
    """The keys of the catalog's standardised usage."""
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) <= {"mandatory-flags", "software-stack-deployment", "report"}
    assert set(usage["mandatory-flags"]) == {"desc", "flags"}
    assert all(isinstance(word, str) for word in usage["mandatory-flags"].values())
    deployment = usage["software-stack-deployment"]
    kinds = {"conda", "apptainer", "singularity", "apptainer+conda", "singularity+conda"}
    assert set(deployment) <= kinds
    assert all(isinstance(value, bool) for value in deployment.values())
    # What is said is so: every rule that runs a command names its environment, and there are outputs for a report.
    rules = [path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk")]
    shells = sum(len(re.findall(r"^ *shell:", text, re.M)) for text in rules)
    named = sum(len(re.findall(r"^ *conda:", text, re.M)) for text in rules)
    assert deployment["conda"] is (named >= shells > 20)
    assert deployment["apptainer"] is any("container:" in text for text in rules)
    assert usage["report"] is any(re.search(r"\breport\(", text) for text in rules)
    for name in (
        "README.md",
        "LICENSE",
        "config/README.md",
        "config/config.yaml",
        "workflow/Snakefile",
    ):
        assert (ROOT / name).is_file(), name


def test_the_workflow_is_found_where_the_catalog_looks_for_it(tmp_path):
    plans = []
    for snakefile in ("Snakefile", "workflow/Snakefile"):
        found = snakemake(tmp_path, "--snakefile", ROOT / snakefile, "--configfile", TINY, "-n")
        assert found.returncode == 0, found.stderr[-3000:]
        text = found.stdout + found.stderr
        stats = text.partition("Job stats:\n")[2].partition("\ntotal")[0]
        plans.append(set(map(tuple, map(str.split, stats.splitlines()[2:]))))
    assert len(plans[0]) > 10
    # One target stands for the other.
    assert plans[0] ^ plans[1] == {("all", "1"), ("everything", "1")}


def snakemake(folder, *words):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *map(str, words)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


# --- another workflow ---------------------------------------------------------------------------


def test_another_workflow_uses_this_one_as_its_page_says(tmp_path):
    """The page's Snakefile, with the copy's place: its rules have the prefix, its result feeds a rule of the other."""
    page = (ROOT / "docs/module.md").read_text()
    text = re.search(r"```text\n(.*?)```", page, re.S)[1]
    assert '"../crossseed/Snakefile"' in text
    (tmp_path / "Snakefile").write_text(
        text.replace('"../crossseed/Snakefile"', f'"{ROOT / "Snakefile"}"')
    )
    study = {"crossseed": yaml.safe_load(TINY.read_text()), "mine": 1}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    planned = snakemake(tmp_path, "-n", "cs_all")
    assert planned.returncode == 0, planned.stderr[-3000:]
    for rule in ("cs_train_tiny", "cs_transfer", "cs_report"):
        assert re.search(rf"^{rule} +\d", planned.stdout + planned.stderr, re.M), rule
    made = snakemake(tmp_path)
    assert made.returncode == 0, made.stderr[-3000:]
    assert (tmp_path / "counts.txt").read_text().strip() == "96"
    # The hooks that the page asks for are at work.
    assert "All 3 jobs done in" in made.stderr


# --- a library ----------------------------------------------------------------------------------


def test_importing_costs_nothing_and_each_public_name_needs_no_pytorch():
    script = (
        "import sys, crossseed\n"
        "heavy = lambda: sorted({'torch', 'pandas', 'numpy', 'scipy', 'pydantic', 'h5py'} & set(sys.modules))\n"
        "assert heavy() == [], heavy()\n"
        "for name in crossseed.__all__: assert getattr(crossseed, name) is not None, name\n"
        "assert 'torch' not in sys.modules\n"
        "print(len(crossseed.__all__))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) == len(crossseed.PUBLIC)
    assert set(crossseed.__all__) == set(crossseed.PUBLIC) <= set(dir(crossseed))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        crossseed.nothing  # noqa: B018


def test_public_names_are_on_the_page():
    page = (ROOT / "docs/module.md").read_text()
    assert [name for name in crossseed.__all__ if f"`{name}`" not in page] == []


NUMBER = re.compile(r"-?\d+(?:\.\d+)?")


def test_the_notebook_prints_what_it_says():
    """To the word; numbers within what processors differ in: training is not the same to the last bit on all."""
    path = ROOT / "docs/notebook.ipynb"
    told = json.loads(path.read_text())
    cpu = os.times()
    now = notebook.executed(path)
    spent = os.times()
    assert sum(spent[:4]) - sum(cpu[:4]) < 120
    assert any(
        "image/png" in out.get("data", {})
        for cell in told["cells"]
        for out in cell.get("outputs", ())
    )
    for before, after in zip(notebook.printed(told), notebook.printed(now), strict=True):
        assert NUMBER.sub("#", before).split() == NUMBER.sub("#", after).split()
        for old, new in zip(NUMBER.findall(before), NUMBER.findall(after), strict=True):
            assert float(new) == pytest.approx(float(old), abs=0.15, rel=0.15)
    assert any("shared" in text for text in notebook.printed(told))


def test_the_notebook_is_of_the_format():
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4))


# --- a wheel, a citation ------------------------------------------------------------------------


def test_the_wheel_has_types_and_what_the_report_is_made_with(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    copy = tmp_path / "copy"
    copy.mkdir()
    # Building writes beside the sources.
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    shutil.copytree(ROOT / "src/crossseed", copy / "src/crossseed")
    found = subprocess.run(
        [*command, "-w", str(tmp_path), str(copy)], capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr[-3000:]
    [wheel] = tmp_path.glob("crossseed-*.whl")
    assert wheel.name.startswith(f"crossseed-{crossseed.__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / "src/crossseed"
    wanted = {f"crossseed/{p.relative_to(package).as_posix()}" for p in package.rglob("*.py")}
    wanted |= {"crossseed/py.typed"}
    templates = {p.name for p in (package / "report/templates").iterdir()}
    assert {Path(name).suffix for name in templates} >= {".j2", ".css"}
    wanted |= {f"crossseed/report/templates/{name}" for name in templates}
    assert wanted - names == set()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"crossseed"}


def test_the_citation_is_valid():
    """The keys that CFF 1.2.0 requires, and the types of those that are there."""
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(found)
    assert found["cff-version"] == "1.2.0"
    assert found.get("type", "software") in ("software", "dataset")
    assert str(found["version"]) == crossseed.__version__
    assert 'license = "MIT"' in (ROOT / "pyproject.toml").read_text()
    assert found["license"] == "MIT"

    def people(of):
        assert of
        for one in of:
            assert {"name"} <= set(one) or {"family-names"} & set(one), one

    people(found["authors"])
    for reference in found.get("references", ()):
        assert {"type", "title", "authors"} <= set(reference), reference
        people(reference["authors"])
        for identifier in reference.get("identifiers", ()):
            assert {"type", "value"} <= set(identifier)
            assert identifier["type"] in ("doi", "url", "swh", "other")


def test_the_map_of_rooms_names_every_package():
    page = (ROOT / "CONTRIBUTING.md").read_text().partition("## The map of rooms")[2]
    rooms = {
        p.parent.relative_to(ROOT / "src/crossseed").as_posix()
        for p in (ROOT / "src/crossseed").glob("*/__init__.py")
    }
    named = {
        name
        for row in re.findall(r"^\| (`.*?) \|", page, re.M)
        for name in re.findall(r"`(\w+)`", row)
    }
    assert rooms == named & rooms
    assert named == rooms, named - rooms
