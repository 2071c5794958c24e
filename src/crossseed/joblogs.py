"""What a job says in its log: the command line that it opens with, and the files that it wrote (see `crossseed.cli`)."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

COMMAND = "$ crossseed "
WROTE = re.compile(r"wrote ([0-9a-f]{32}) (.+)")


class Job(NamedTuple):
    """A job, by its log.

    Attributes: spec: what it was told of the configuration. wrote: digests of the files that it wrote, by path.
    """

    verb: str
    spec: dict[str, Any]
    wrote: dict[str, str]


def read(folder: Path) -> Iterator[Job]:
    """Jobs whose logs lie below a folder, in the order of their names; a log without a command line that can be read is left out."""
    for path in sorted(folder.rglob("*.log")):
        command: list[str] = []
        wrote = {}
        with open(path, encoding="utf-8", errors="replace") as handle:
            for line in handle:
                if line.startswith(COMMAND):
                    command = words(line.removeprefix(COMMAND))
                elif told := WROTE.fullmatch(line.rstrip("\n")):
                    wrote[told[2]] = told[1]
        if command:
            yield Job(command[0], _spec(command), wrote)


def words(command: str) -> list[str]:
    """Words of a command line; none of one that was damaged, which then says nothing of what it was asked."""
    try:
        found = shlex.split(command)
        _spec(found)
    except (ValueError, IndexError):
        return []
    return found


def _spec(command: list[str]) -> dict[str, Any]:
    if "--spec" not in command:
        return {}
    found: dict[str, Any] = json.loads(command[command.index("--spec") + 1])
    return found
