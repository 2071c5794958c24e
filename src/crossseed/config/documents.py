"""YAML files that people write: read as plain values, and refused where they would not mean what they say."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from crossseed.errors import UserError

# More than any configuration has; what aliases multiply beyond it was not written by hand.
MOST_VALUES = 1_000_000
MOST_LEVELS = 50
if TYPE_CHECKING:
    Loader = yaml.SafeLoader
else:
    Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Strict(Loader):
    """Values without tags of Python; a key that stands twice is an error, not the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            # What `<<` brings in may be overridden.
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                continue
            if key in seen:
                line = key_node.start_mark.line + 1
                raise _Twice(f"line {line}: the key {key!r} stands twice; keep one of them")
            seen.add(key)
        found: dict[Any, Any] = super().construct_mapping(node, deep)
        return found


class _Twice(Exception):
    """A key that stands twice."""


def read(path: str | Path) -> Any:
    """The content of a YAML file.

    Raises:
        UserError: not readable, not UTF-8, not YAML, with tags of Python, or with a key twice.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); correct the path"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: not UTF-8 at byte {error.start} ({error.reason}); save it as UTF-8"
        ) from error
    try:
        return yaml.load(text.removeprefix("\ufeff"), _Strict)
    except _Twice as error:
        raise UserError(f"{path}: {error}") from None
    # A number of thousands of digits is a ValueError, brackets without end a RecursionError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise UserError(
            f"{path}: not a readable YAML file of plain values ({said}); mend the line that is named"
        ) from error


def plain(value: Any, where: str = "config") -> Any:
    """Ordinary dicts and lists, as the workflow engine may hand over its own.

    Raises:
        UserError: there are too many of them, as a few aliases can make, or one holds itself.
    """
    left = [MOST_VALUES]

    def copied(value: Any, level: int) -> Any:
        left[0] -= 1
        if left[0] < 0 or level > MOST_LEVELS:
            raise UserError(
                f"{where}: aliases (*name) make more than {MOST_VALUES:,} values or {MOST_LEVELS} levels of it; "
                "write out what is meant"
            )
        if isinstance(value, Mapping):
            return {key: copied(item, level + 1) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [copied(item, level + 1) for item in value]
        return value

    return copied(value, 0)
