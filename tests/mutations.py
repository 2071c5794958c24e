"""Mutants of a module: its source with one small thing wrong, as a slip of the hand would have it.

Operators, comparisons and arguments exchanged, constants changed, negations and transposes dropped,
conditions forced, bounds of slices, keyword arguments and statements left out, values not returned.
Left alone is what no behaviour hangs on: docstrings, annotations, texts of errors and `__all__`.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Iterator
from typing import NamedTuple

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
# Of each the neighbour, which differs at equality alone, and the opposite.
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
NAMES = {
    one: other
    for pair in (
        ("max", "min"),
        ("maximum", "minimum"),
        ("argmax", "argmin"),
        ("any", "all"),
        ("sum", "mean"),
        ("nansum", "nanmean"),
        ("zeros", "ones"),
        ("cos", "sin"),
    )
    for one, other in (pair, pair[::-1])
}
COMMUTING = {"maximum", "minimum", "max", "min", "array_equal"}
SKIPPED_FIELDS = {"annotation", "returns", "decorator_list", "bases", "type_comment"}


class Mutant(NamedTuple):
    """Attributes:
    where: function or method, "" at the level of the module. line: in the source.
    before, after: the first line of the statement that is changed.
    code: of the whole module.
    """

    where: str
    line: int
    before: str
    after: str
    code: types.CodeType


class Slot(NamedTuple):
    """A place in the tree: a field of a node, or one place in a field that is a list."""

    parent: ast.AST
    field: str
    place: int | None

    def put(self, node: ast.AST) -> None:
        if self.place is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.place] = node


def mutants(source: str, path: str) -> Iterator[Mutant]:
    """All mutants of a source, in order of lines."""
    tree = ast.parse(source)
    for slot, node, statement, where in list(_slots(tree, tree, "")):
        before = _head(statement)
        for new in _alternatives(slot, node):
            slot.put(ast.copy_location(new, node))
            ast.fix_missing_locations(tree)
            after = _head(new if node is statement else statement)
            yield Mutant(where, node.lineno, before, after, compile(tree, path, "exec"))
            slot.put(node)


def _head(statement: ast.AST) -> str:
    """First line of a statement, without its decorators."""
    lines = ast.unparse(statement).splitlines()
    return next(line for line in lines if not line.startswith("@"))


def _slots(
    node: ast.AST, statement: ast.AST, where: str
) -> Iterator[tuple[Slot, ast.AST, ast.AST, str]]:
    """Slots below a node whose content may be changed: (slot, content, statement, function)."""
    for field, value in ast.iter_fields(node):
        if field in SKIPPED_FIELDS:
            continue
        for place, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or _says(child):
                continue
            around = child if isinstance(child, ast.stmt) else statement
            inside = where
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inside = f"{where}.{child.name}".lstrip(".")
            if isinstance(child, ast.expr | ast.stmt | ast.Slice):
                slot = Slot(node, field, place if isinstance(value, list) else None)
                yield slot, child, around, where
            # An error's text is of no behaviour, nor is what is not reached by itself.
            if not isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr):
                yield from _slots(child, around, inside)


def _says(node: ast.AST) -> bool:
    """Whether a statement is a docstring, an import or `__all__`."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return any(isinstance(name, ast.Name) and name.id == "__all__" for name in node.targets)
    return False


def _alternatives(slot: Slot, node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the slot instead of its content."""
    if slot.field == "test" and isinstance(slot.parent, ast.If | ast.IfExp | ast.While):
        yield from (ast.Constant(value) for value in (True, False))
    if isinstance(slot.parent, ast.Return) and ast.unparse(node) != "None":
        yield ast.Constant(None)
    match node:
        case ast.BinOp(left, ast.MatMult(), right):
            if ast.dump(left) != ast.dump(right):
                yield ast.BinOp(right, ast.MatMult(), left)
        case ast.BinOp(left, op, right) if type(op) in ARITHMETIC:
            yield ast.BinOp(left, ARITHMETIC[type(op)](), right)
        case ast.AugAssign(target, op, value):
            if type(op) in ARITHMETIC:
                yield ast.AugAssign(target, ARITHMETIC[type(op)](), value)
            yield ast.Pass()
        case ast.Compare(left, ops, rights):
            for place, op in enumerate(ops):
                for other in COMPARISONS[type(op)]:
                    yield ast.Compare(left, [*ops[:place], other(), *ops[place + 1 :]], rights)
        case ast.BoolOp(op, values):
            yield ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.Not() | ast.USub() | ast.Invert(), operand):
            yield operand
        case ast.Slice(lower, upper, step):
            yield from (ast.Slice(None, upper, step) for _ in [lower] if lower)
            yield from (ast.Slice(lower, None, step) for _ in [upper] if upper)
            yield from (ast.Slice(lower, upper, None) for _ in [step] if step)
        case ast.Call(function, arguments, keywords):
            if len(arguments) > 1 and not _either_way(function, arguments):
                yield ast.Call(function, [arguments[1], arguments[0], *arguments[2:]], keywords)
            for place in range(len(keywords)):
                yield ast.Call(function, arguments, keywords[:place] + keywords[place + 1 :])
        case ast.Attribute(value, "T", _):
            yield value
        case ast.Attribute(value, name, ctx) if name in NAMES:
            yield ast.Attribute(value, NAMES[name], ctx)
        case ast.Name(name, ast.Load()) if name in NAMES:
            yield ast.Name(NAMES[name], ast.Load())
        case ast.Constant():
            yield from _constants(node.value)
        case ast.Expr() | ast.Raise() | ast.Assert() | ast.Return(None) | ast.Continue():
            yield ast.Pass()
        case ast.Assign([target], _) if not isinstance(target, ast.Name | ast.Tuple):
            yield ast.Pass()


def _either_way(function: ast.expr, arguments: list[ast.expr]) -> bool:
    """Whether the first two arguments of a call may be exchanged, or cannot be at all."""
    name = getattr(function, "attr", getattr(function, "id", ""))
    first, second = arguments[:2]
    fixed = any(isinstance(one, ast.Constant | ast.Starred) for one in (first, second))
    return fixed or name in COMMUTING or ast.dump(first) == ast.dump(second)


def _constants(value: object) -> Iterator[ast.AST]:
    """Another value of the same kind; of None none."""
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 2 or 1.0)
    elif isinstance(value, str):
        yield ast.Constant("_" + value)
