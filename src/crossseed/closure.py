"""The code behind a verb: its import closure, and a digest that comments do not change.

Snakemake does not see edits of imported modules. Each rule therefore carries a digest of
the syntax trees, without docstrings, of every module of this package that its verb can
import; a comment, a docstring or a reformatting reruns nothing.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

from crossseed.errors import UserError

PACKAGE = "crossseed"
# Where files lie decides none of their content: a job is told its paths, and a new path retrains no model.
NO_CONTENT = f"{PACKAGE}.layout"
ROOT = Path(__file__).parent


def path_of(module: str) -> Path | None:
    """Source file of a module of this package; None if there is none of that name."""
    return _path_below(ROOT, module)


# Asked twenty thousand times a plan, of some three hundred modules.
@functools.cache
def _path_below(root: Path, module: str) -> Path | None:
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return None
    base = root.joinpath(*parts[1:])
    for candidate in (base.with_suffix(".py"), base / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


class _Imports(ast.NodeVisitor):
    def __init__(self) -> None:
        self.found: set[str] = set()

    def visit_Import(self, node: ast.Import) -> None:
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module:
            self.found.add(node.module)
            self.found.update(f"{node.module}.{alias.name}" for alias in node.names)

    def visit_If(self, node: ast.If) -> None:
        # What only the type checker imports is not run.
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)


@functools.cache
def _parsed(path: Path) -> tuple[frozenset[str], str]:
    """Modules a file imports, and its syntax tree without docstrings as text."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    visitor = _Imports()
    visitor.visit(tree)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            first = node.body[0] if node.body else None
            value = first.value if isinstance(first, ast.Expr) else None
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                node.body = node.body[1:]
    return frozenset(visitor.found), ast.dump(tree)


def closure(modules: Iterable[str]) -> dict[str, Path]:
    """Modules of this package reachable by import from the given ones, with their files."""
    found: dict[str, Path] = {}
    queue = list(modules)
    while queue:
        module = queue.pop()
        path = path_of(module)
        if path is None or module in found or module == NO_CONTENT:
            continue
        found[module] = path
        queue += _parsed(path)[0]
        if "." in module:
            queue.append(module.rpartition(".")[0])
    return found


@functools.cache
def code_digest(*modules: str) -> str:
    """Digest of the code reachable from modules of this package.

    Raises:
        ValueError: one of them does not exist.
    """
    for module in modules:
        if path_of(module) is None:
            raise ValueError(f"{module} is no module of {PACKAGE}")
    digest = hashlib.blake2b(digest_size=16)
    for module, path in sorted(closure(modules).items()):
        digest.update(f"{module}\n{_parsed(path)[1]}\n".encode())
    return digest.hexdigest()


def package_digest(root: Path = ROOT) -> str:
    """Digest of all code of this package, and of its files that are no code, such as templates.

    A comment, a docstring or a commit of anything else does not change it; an edit that no commit has does.
    """
    digest = hashlib.blake2b(digest_size=16)
    for path in sorted(root.rglob("*")):
        if path.is_file() and not _is_left_over(path.relative_to(root)):
            held = _parsed(path)[1].encode() if path.suffix == ".py" else path.read_bytes()
            digest.update(f"{path.relative_to(root).as_posix()}\n{len(held)}\n".encode() + held)
    return digest.hexdigest()


def _is_left_over(path: Path) -> bool:
    """Of Python and of editors."""
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts)


def script_digest(path: Path) -> str:
    """Digest of a file outside this package, and of the code of this package that it imports: what the rule of a study
    of one's own depends on (docs/own-study.md).

    Raises:
        UserError: there is no such file, or it is no Python.
    """
    try:
        imports, tree = _parsed(Path(path))
    except (OSError, SyntaxError) as error:
        raise UserError(
            f"{path} cannot be read as Python ({error}); name the file of the study"
        ) from error
    used = sorted(module for module in imports if path_of(module) is not None)
    return hashlib.blake2b(f"{tree}\n{code_digest(*used)}".encode(), digest_size=16).hexdigest()
