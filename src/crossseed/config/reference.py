"""Walks the config model: for the reference page, for error messages, for the rerun test."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from crossseed.config.schema import RunConfig


class Leaf(NamedTuple):
    """One config key: its path (``*`` for a name the user gives), its field, its model."""

    path: str
    field: FieldInfo
    model: type[BaseModel]


def models_of(annotation: Any) -> list[type[BaseModel]]:
    """Models directly behind an annotation, through unions and `Annotated`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin in (dict, list):
        return []
    return [found for part in typing.get_args(annotation) for found in models_of(part)]


def _values(annotation: Any) -> Any:
    """The value type of a dict behind an annotation; None if there is none."""
    if typing.get_origin(annotation) is dict:
        return typing.get_args(annotation)[1]
    for part in typing.get_args(annotation):
        found = _values(part)
        if found is not None:
            return found
    return None


def leaves(model: type[BaseModel] = RunConfig, prefix: str = "") -> Iterator[Leaf]:
    """Every leaf below a model, in order of declaration."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        values = _values(field.annotation)
        inner = models_of(values) if values is not None else models_of(field.annotation)
        if not inner:
            yield Leaf(path, field, model)
        for found in inner:
            yield from leaves(found, f"{path}.*." if values is not None else f"{path}.")


def models_at(loc: tuple[Any, ...]) -> list[type[BaseModel]]:
    """The models that may stand at a location of a validation error, none if it leads elsewhere."""
    current: list[type[BaseModel]] = [RunConfig]
    values: Any = None
    for part in loc:
        if values is not None:
            current, values = models_of(values), None
            continue
        tagged = [m for m in current if part in _tags(m)]
        if tagged:
            current = tagged
            continue
        field = next((m.model_fields[part] for m in current if part in m.model_fields), None)
        if field is None:
            return []
        values = _values(field.annotation)
        current = [] if values is not None else models_of(field.annotation)
    return current


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of the literal field that tells union members apart."""
    return {
        value
        for name in ("kind", "architecture", "source")
        if name in model.model_fields
        for value in typing.get_args(model.model_fields[name].annotation)
    }


WORDS = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null"}
SYMBOLS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def _type_text(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words, with its limits."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    limits: list[Any] = list(metadata)
    if origin is Annotated:
        for item in args[1:]:
            limits += item.metadata if isinstance(item, FieldInfo) else [item]
        annotation, origin, args = args[0], typing.get_origin(args[0]), typing.get_args(args[0])
    if origin is typing.Literal:
        text = " or ".join(f"`{value}`" for value in args)
    elif origin is dict:
        text = f"mapping of {_type_text(args[0])} to {_type_text(args[1])}"
    elif origin is list:
        text = f"list of {_type_text(args[0])}"
    elif args:
        text = " or ".join(_type_text(part) for part in args)
    else:
        text = WORDS[annotation]
    bounds = [
        f"{symbol} {getattr(item, name):g}"
        for item in limits
        for name, symbol in SYMBOLS.items()
        if getattr(item, name, None) is not None
    ]
    return " ".join([text, " and ".join(bounds)]).strip()


def page() -> str:
    """The reference of all config keys, as Markdown."""
    lines = [
        "# Configuration keys",
        "",
        "Made by `crossseed reference configuration`; `*` stands for a name you choose. Keys of a cohort depend on",
        "its `kind`, those of a corpus on its `source`, those of an SAE variant on its",
        "`architecture`: the keys that follow such a row. What several have in common stands at the",
        "first of them. Every key without a default must be given.",
        "",
        "| key | type | decides |",
        "|---|---|---|",
    ]
    seen = set()
    for path, field, _model in leaves():
        kind = _type_text(field.annotation, field.metadata)
        row = (path, kind, field.description)
        if row in seen:
            continue
        seen.add(row)
        default = "" if field.is_required() else f" Default: `{field.default}`."
        lines.append(f"| `{path}` | {kind} | {field.description}{default} |")
    return "\n".join(lines) + "\n"
