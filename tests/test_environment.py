"""The pins: one list of versions, whatever installs them."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints():
    found = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, version = line.split("==")
            found[canonical(name)] = version
    return found


def project_dependencies():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["dev"], *extras["slurm"]]


def test_constraints_have_no_hashes_and_no_local_versions():
    text = "".join(
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines(keepends=True)
        if not line.startswith("#")
    )
    assert "--hash" not in text
    assert "+" not in text
    assert "@" not in text


def test_every_dependency_is_pinned():
    pinned = constraints()
    for requirement in project_dependencies():
        assert canonical(re.split(r"[<>=!~ \[]", requirement)[0]) in pinned, requirement
    assert pinned["torch"] == "2.13.0"


def test_conda_environment_has_the_same_pins():
    pinned = constraints()
    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    for path in sorted((ROOT / "envs").glob("*.yaml")):
        pip = next(
            entry["pip"]
            for entry in yaml.safe_load(path.read_text())["dependencies"]
            if isinstance(entry, dict)
        )
        found = {canonical(line.split("==")[0]): line.split("==")[1] for line in pip}
        assert found == {name: pinned[name] for name in found}, path.name
        assert {canonical(re.split(r"[<>=]", r)[0]) for r in core} == set(found), path.name
