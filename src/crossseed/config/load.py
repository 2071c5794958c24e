"""Validation of a configuration, with errors that name file, key, value and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from crossseed.config import documents
from crossseed.config.schema import RunConfig
from crossseed.errors import UserError


def load_run(config: Mapping[str, Any], files: Iterable[str | Path] = ()) -> RunConfig:
    """The typed configuration of a run.

    Args:
        config: the merged configuration.
        files: config files it was merged from, later ones over earlier ones; they are read
            to say in which of them a bad value stands, and whether a key stands twice in one.

    Raises:
        UserError: every problem found, one a line.
    """
    paths = [str(path) for path in files]
    # Snakemake, which merged them, takes the last of two equal keys.
    sources = [(path, documents.read(path)) for path in paths]
    try:
        return RunConfig.model_validate(documents.plain(config, ", ".join(paths) or "config"))
    except ValidationError as error:
        lines = [_sentence(problem, config, sources) for problem in error.errors()]
        raise UserError("\n".join(dict.fromkeys(lines))) from None


def load_files(*files: str | Path) -> RunConfig:
    """The typed configuration of one or more YAML files, later ones over earlier ones.

    Raises:
        UserError: a file is not readable or holds no mapping; else every problem of the values, one a line.
    """
    merged: dict[str, Any] = {}
    for path in files:
        found = documents.read(path)
        if not isinstance(found, dict):
            raise UserError(
                f"{path}: holds {_kind(found)}, expected a mapping of keys to values at the top level; see config/"
            )
        merged.update(found)
    return load_run(merged, files)


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _sentence(problem: Any, config: Mapping[str, Any], sources: list[tuple[str, Any]]) -> str:
    path = _path_in(config, problem["loc"], problem["type"] == "missing")
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found"):
        problem = _of_tag(problem)
        path = [*path, problem["loc"][-1]]
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
    value = problem["input"]
    shown = "" if isinstance(value, (Mapping, BaseModel)) else f" = {value!r}"
    file = next((name for name, content in reversed(sources) if _has(content, path)), None)
    if problem["type"] == "missing":
        shown = ""
        file = ", ".join(name for name, _ in sources) or None
        said = f"is missing; add it ({_expected(problem['loc'])})"
    elif problem["type"] == "extra_forbidden":
        said = _unknown_key(problem["loc"])
    elif problem["type"] == "invalid_key":
        said = "keys are text; write this one in quotes, or remove it"
    elif problem["type"] == "value_error":
        said = str(problem["ctx"]["error"])
    else:
        said = f"{problem['msg'][0].lower()}{problem['msg'][1:]}{_described(problem['loc'])}"
    where = file if file is not None else ("--config" if sources else "config")
    return f"{where}: {key or 'top level'}{shown}: {said}"


def _of_tag(problem: Any) -> Any:
    """The problem of a key that decides which others there are, as one of that key itself."""
    tag = problem["ctx"]["discriminator"].strip("'")
    found = {**problem, "loc": (*problem["loc"], tag)}
    if problem["type"] == "union_tag_not_found":
        return {**found, "type": "missing"}
    expected = problem["ctx"]["expected_tags"]
    return {**found, "input": problem["ctx"]["tag"], "msg": f"Should be one of {expected}"}


def _path_in(config: Any, loc: tuple[Any, ...], missing: bool) -> list[Any]:
    """The keys of `loc` that stand in the config (pydantic adds names of union members), and
    a missing last one."""
    path: list[Any] = []
    value = config
    for position, part in enumerate(loc):
        absent = missing and position == len(loc) - 1
        if isinstance(value, Mapping) and (part in value or absent):
            path.append(part)
            value = value.get(part)
        elif isinstance(value, (list, tuple)) and isinstance(part, int) and part < len(value):
            path.append(part)
            value = value[part]
    return path


def _has(content: Any, path: list[Any]) -> bool:
    for part in path:
        try:
            content = content[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _models_at(loc: tuple[Any, ...]) -> list[type[BaseModel]]:
    """The config models one of whose fields `loc` ends in."""
    from crossseed.config.reference import models_at

    return models_at(loc[:-1])


def _unknown_key(loc: tuple[Any, ...]) -> str:
    known = sorted({name for model in _models_at(loc) for name in model.model_fields})
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else "remove it; "
    return f"unknown key; {hint}known here: {', '.join(known)}"


def _described(loc: tuple[Any, ...]) -> str:
    text = _expected(loc)
    return f" ({text})" if text else ""


def _expected(loc: tuple[Any, ...]) -> str:
    while loc and isinstance(loc[-1], int):
        loc = loc[:-1]
    models = _models_at(loc) if loc else []
    fields = [m.model_fields[str(loc[-1])] for m in models if str(loc[-1]) in m.model_fields]
    if len(fields) > 1:
        # The key that tells several kinds apart: each describes its own value.
        return "; ".join((field.description or "").rstrip(".") for field in fields)
    return (fields[0].description or "").split(";")[0].rstrip(".") if fields else ""
