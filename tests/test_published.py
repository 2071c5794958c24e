"""The published protocols stay where they belong."""

import ast
from pathlib import Path

import crossseed

ROOT = Path(crossseed.__file__).parent
# The power table and the KS table show the published test beside the calibrated one.
ALLOWED = {"haar/power.py", "haar/study.py"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_no_other_module_measures_by_a_published_protocol():
    users = {
        path.relative_to(ROOT).as_posix()
        for path in ROOT.rglob("*.py")
        if "published" not in path.relative_to(ROOT).parts
        and any(name.startswith("crossseed.published") for name in imports(path))
    }
    assert users == ALLOWED
