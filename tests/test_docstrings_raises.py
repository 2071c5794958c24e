"""What raises says in its docstring what it raises."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src/crossseed"
# Faults of the code, not of what it was given; and the protocol of attributes.
NOT_TOLD = {"AssertionError", "AttributeError", "NotImplementedError"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def last_name(expression):
    """`c` of `a.b.c`, `a.b.c(...)` and `a.b.c[...]`."""
    while isinstance(expression, ast.Call | ast.Subscript):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return getattr(expression, "attr", getattr(expression, "id", ""))


def raised(function):
    """Names of the public exceptions raised in a function's own body."""
    found, nodes = set(), list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Raise) and node.exc is not None:
            name = last_name(node.exc)
            # Classes have capitals: `raise error` and `raise kind(...)` are of variables.
            if name[:1].isupper() and name not in NOT_TOLD:
                found.add(name)
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
            nodes += ast.iter_child_nodes(node)
    return found


def classes_of(trees):
    """By class name: names of bases, and of methods that have docstrings."""
    classes = {}
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                bases, documented = classes.setdefault(node.name, (set(), set()))
                bases |= {last_name(base) for base in node.bases} - {node.name}
                documented |= {
                    child.name
                    for child in node.body
                    if isinstance(child, FUNCTIONS) and ast.get_docstring(child)
                }
    return classes


def base_documents(method, name, classes):
    """Whether a class's bases, or theirs, document a method."""
    seen, left = set(), set(classes[name][0])
    while left:
        base = left.pop()
        seen.add(base)
        bases, documented = classes.get(base, (set(), set()))
        if method in documented:
            return True
        left |= bases - seen
    return False


def without_raises(tree, classes):
    """Public functions that raise what their docstrings do not name, and what that is."""
    found = []

    def visit(node, before=""):
        for child in node.body:
            name = getattr(child, "name", "_")
            if name.startswith("_"):
                continue
            if isinstance(child, ast.ClassDef):
                visit(child, f"{before}{name}.")
            elif isinstance(child, FUNCTIONS):
                told = ast.get_docstring(child) or ""
                missing = sorted(each for each in raised(child) if each not in told)
                of_base = before and base_documents(name, node.name, classes)
                if missing and "See `" not in told and not of_base:
                    found.append(f"{before}{name}: {', '.join(missing)}")

    visit(tree)
    return found


TREES = {path: ast.parse(path.read_text()) for path in sorted(SOURCE.rglob("*.py"))}
CLASSES = classes_of(TREES.values())
# A verb's docstring is its help on the command line.
PATHS = [path for path in TREES if path.parent != SOURCE / "verbs"]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_that_raise_say_so(path):
    assert without_raises(TREES[path], CLASSES) == []


def test_a_function_that_does_not_say_so_is_found():
    told = '''
class Base:
    """A base."""

    def read(self) -> None:
        """Read."""

    def write(self) -> None: ...


class Middle(Base): ...


class Member(Middle):
    def read(self) -> None:
        raise ValueError("of a documented base")

    def write(self) -> None:
        raise ValueError("of a base without words")

    def _own(self) -> None:
        raise ValueError("private")


def plain() -> None:
    """Plain."""
    if True:
        raise errors.UserError("in its own body") from None
    raise ValueError


def told() -> None:
    """Told.

    Raises:
        UserError: always.
    """
    raise UserError("told")


def base() -> None:
    """See `told`."""
    raise UserError("told elsewhere")


def nested() -> None:
    """Nested."""

    def inside() -> None:
        raise ValueError("in another body")


def others(kind: type[Exception]) -> None:
    """Others."""
    try:
        raise _Private
    except OSError as error:
        raise
    except ValueError as error:
        raise error
    except KeyError:
        raise kind("a variable")
    raise AssertionError
'''
    tree = ast.parse(told)
    found = without_raises(tree, classes_of([tree]))
    assert found == ["Member.write: ValueError", "plain: UserError, ValueError"]
