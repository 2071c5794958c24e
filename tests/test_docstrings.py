"""What takes or gives arrays says in its docstring of what shape they are."""

import ast
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/crossseed"
# Modules whose functions are formulas on arrays.
CORE = (
    *("absorption", "alignment", "gauge", "haar", "joint", "matching", "published", "sae"),
    *("stability", "activations", "carried", "claim_rule", "companions", "decoder_cosine", "drift"),
    *("fits", "metrics", "over_seeds", "pairs", "shared_rotation", "steering_vectors", "transfer"),
    "vectors",
)
ARRAY = re.compile(r"\b(np\.ndarray|Tensor)\b")
# Arrays by name: what holds them says their shapes.
BY_NAME = re.compile(r"(dict|Mapping)\[[^\[\]]*(\[[^\[\]]*\][^\[\]]*)*\]")
# `(tokens, width)`, `(n,)`; in words; or that of another function, which is named.
SHAPE = re.compile(r"\([^()`]*\w[^()`]*,[^()`]*\)|\bshapes?\b|^See `")


def takes_or_gives_arrays(function):
    given = function.args
    notes = [a.annotation for a in given.posonlyargs + given.args + given.kwonlyargs]
    told = [ast.unparse(note) for note in [*notes, function.returns] if note is not None]
    return any(ARRAY.search(BY_NAME.sub("", note)) for note in told)


def says_a_shape(docstring):
    return bool(SHAPE.search(docstring or ""))


def without_shapes(tree):
    """Names of public functions on arrays whose docstring, or whose class's, says no shape."""
    found = []

    def visit(node, before="", of_class=False):
        for child in node.body:
            name = f"{before}{getattr(child, 'name', '')}"
            hidden = re.search(r"(^|\.)_(?!_init__|_call__)", name)
            if isinstance(child, ast.ClassDef) and not hidden:
                visit(child, f"{name}.", says_a_shape(ast.get_docstring(child)))
            elif isinstance(child, ast.FunctionDef) and not hidden:
                said = of_class or says_a_shape(ast.get_docstring(child))
                if takes_or_gives_arrays(child) and not said:
                    found.append(name)

    visit(tree)
    return found


PATHS = [
    path
    for name in CORE
    for path in (sorted((SOURCE / name).rglob("*.py")) or [SOURCE / f"{name}.py"])
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_on_arrays_say_their_shapes(path):
    assert without_shapes(ast.parse(path.read_text())) == []


def test_a_function_that_says_none_is_found():
    told = '''
class Sums:
    """Sums."""

    def __init__(self, mean: np.ndarray) -> None:
        """Means."""

    def rows(self) -> list[Tensor]:
        """Rows, (tokens, width)."""

    def _own(self) -> np.ndarray: ...


def ranks(x: np.ndarray | None) -> float:
    """Ranks (of some values)."""


def all_of(arrays: dict[str, np.ndarray]) -> float: ...


def again(x: np.ndarray) -> float:
    """See `ranks`."""
'''
    assert without_shapes(ast.parse(told)) == ["Sums.__init__", "ranks"]


def without_docstrings(tree):
    """Names of public functions of a module that have no docstring."""
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]


def test_public_functions_have_docstrings():
    # Verbs are told of by their modules.
    modules = [path.relative_to(SOURCE) for path in sorted(SOURCE.rglob("*.py"))]
    read = [module for module in modules if module.parts[0] != "verbs"]
    assert len(read) > 100
    missing = [
        f"{module}: {name}"
        for module in read
        for name in without_docstrings(ast.parse((SOURCE / module).read_text()))
    ]
    assert missing == []


def test_a_function_without_a_docstring_is_found():
    told = '''
def told() -> None:
    """Told."""


def bare() -> None:
    # No docstring.
    return None


async def waiting() -> None: ...


def _own() -> None: ...
'''
    assert without_docstrings(ast.parse(told)) == ["bare", "waiting"]
