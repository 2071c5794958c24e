"""What jobs say in their logs of the files that they wrote: tables carry neither a digest nor a spec."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import NamedTuple

from crossseed.cli import JOB_VERBS

# What a job's log says of a file that it wrote: see `crossseed.cli`.
COMMAND = "$ crossseed "
WROTE = re.compile(r"wrote ([0-9a-f]{32}) (.+)")


class Logged(NamedTuple):
    """What the last job that wrote a file says in its log.

    Attributes: when: of the log. digest: of the file. command: verb and options of the job.
    """

    when: int
    digest: str
    command: list[str]


def read(results: Path) -> dict[str, Logged]:
    """What jobs said of the files that they wrote, by path."""
    found: dict[str, Logged] = {}
    for folder, _, names in os.walk(results):
        for name in names if "logs" in Path(folder).parts else ():
            path = Path(folder, name)
            if path.suffix != ".log" or not path.is_file():
                continue
            when = path.stat().st_mtime_ns
            command: list[str] = []
            with open(path, encoding="utf-8", errors="replace") as handle:
                for line in handle:
                    if line.startswith(COMMAND):
                        command = _words(line.removeprefix(COMMAND))
                    told = WROTE.fullmatch(line.rstrip("\n"))
                    if told and (told[2] not in found or found[told[2]].when <= when):
                        found[told[2]] = Logged(when, told[1], command)
    return found


def _words(command: str) -> list[str]:
    """Words of a command line; none of one that was damaged, which then says nothing of what it was asked."""
    try:
        words = shlex.split(command)
        if "--spec" in words:
            json.loads(words[words.index("--spec") + 1])
    except (ValueError, IndexError):
        return []
    return words if words and words[0] in JOB_VERBS else []
