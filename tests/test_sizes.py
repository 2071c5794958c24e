"""Files are of one idea, and so of a size that is read at one go."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MOST_LINES = 400
# Files that are longer, with the reason.
REASONS: dict[str, str] = {}


def longer(root, folders=("src", "tests", "benchmarks")):
    """Python files of more lines than a file may have, by their path."""
    found = {}
    for path in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES:
            found[str(path.relative_to(root))] = lines
    return found


def test_no_file_is_too_long_but_for_a_reason():
    found = longer(ROOT)
    assert {path: n for path, n in found.items() if path not in REASONS} == {}, "take them apart"
    assert REASONS.keys() - found.keys() == set(), "no longer needs a reason: delete it"


@pytest.mark.parametrize("folder", ["src/crossseed", "tests/faults", "benchmarks"])
def test_a_long_file_is_found(tmp_path, folder):
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "short.py").write_text("x = 1\n" * MOST_LINES)
    assert longer(tmp_path) == {}
    (tmp_path / folder / "long.py").write_text("x = 1\n" * (MOST_LINES + 1))
    assert longer(tmp_path) == {f"{folder}/long.py": MOST_LINES + 1}
