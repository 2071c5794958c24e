"""The code digest follows imports, and ignores what does not change behaviour."""

import subprocess
import sys

import pytest

from crossseed import closure
from crossseed.cli import JOB_VERBS
from crossseed.errors import UserError


@pytest.fixture
def package(tmp_path, monkeypatch):
    root = tmp_path / "crossseed"
    root.mkdir()
    monkeypatch.setattr(closure, "ROOT", root)

    def write(**files):
        for name, text in files.items():
            (root / f"{name}.py").write_text(text)
        closure._parsed.cache_clear()
        closure.code_digest.cache_clear()
        return root

    write(__init__="")
    yield write
    closure._parsed.cache_clear()
    closure.code_digest.cache_clear()


def digest():
    return closure.code_digest("crossseed.a")


def test_digest_follows_imports_but_not_comments_docstrings_or_layout(package):
    b = '"""Doc."""\n\ndef f(x):\n    """More."""\n    return x + 1\n'
    package(a="import numpy\nfrom crossseed.b import f\n", b=b, c="x = 1\n")
    before = digest()
    package(b='# new\ndef f( x ):\n\n    """Other."""\n    # why\n    return x+1\n')
    assert digest() == before
    package(c="x = 2\n")
    assert digest() == before
    package(b=b.replace("+ 1", "+ 2"))
    assert digest() != before


def test_closure_sees_every_way_to_import(package):
    package(
        a="def f():\n    from crossseed import b\n",
        b="import crossseed.c as c\n",
        c="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import crossseed.d\n",
        d="",
    )
    assert set(closure.closure(["crossseed.a"])) == {
        "crossseed", "crossseed.a", "crossseed.b", "crossseed.c"
    }  # fmt: skip


def test_unknown_module_is_refused(package):
    with pytest.raises(ValueError, match="nothing"):
        closure.code_digest("crossseed.nothing")


@pytest.mark.parametrize("verb", JOB_VERBS)
def test_closure_covers_what_the_interpreter_loads(verb):
    """The static closure holds every module of the package that importing the verb loads."""
    script = (
        f"import sys, crossseed.verbs.{verb}; "
        "print('\\n'.join(m for m in sys.modules if m.split('.')[0] == 'crossseed'))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(loaded) - {closure.NO_CONTENT} <= set(closure.closure([f"crossseed.verbs.{verb}"]))


def test_a_new_path_trains_no_model_again(package):
    package(a="from crossseed.layout import MODEL\n", layout="MODEL = 'models'\n")
    before = digest()
    package(layout="MODEL = 'models'\nMORE = 'more'\n")
    assert digest() == before


def test_editing_one_architecture_leaves_the_other_alone():
    """Architectures and cohort kinds are imported by name, so they are not in each other's closure."""
    found = closure.closure(["crossseed.verbs.sae", "crossseed.sae.architectures.relu_l1"])
    assert "crossseed.sae.architectures.relu_l1" in found
    assert "crossseed.sae.architectures.topk" not in found
    assert "crossseed.cohorts.dyck.model" not in found


def test_a_study_outside_depends_on_its_own_code_and_on_what_it_imports(package, tmp_path):
    package(a="x = 1\n", b="y = 1\n")
    study = tmp_path / "study.py"
    study.write_text("from crossseed.a import x\n")
    first = closure.script_digest(study)
    study.write_text('"""What it asks."""\nfrom crossseed.a import x  # a comment\n')
    closure._parsed.cache_clear()
    assert closure.script_digest(study) == first
    package(b="y = 2\n")
    assert closure.script_digest(study) == first
    package(a="x = 2\n")
    assert closure.script_digest(study) != first
    package(a="x = 1\n")
    study.write_text("from crossseed.a import x\n\ny = 1\n")
    closure._parsed.cache_clear()
    assert closure.script_digest(study) != first


def test_a_study_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"study\.py cannot be read as Python"):
        closure.script_digest(tmp_path / "study.py")
