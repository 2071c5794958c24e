"""What jobs say in their logs of the files that they wrote: tables carry neither a digest nor a spec."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from crossseed.cli import JOB_VERBS
from crossseed.joblogs import COMMAND, WROTE, words


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
    """Words of a command line of a job; none of one that was damaged."""
    found = words(command)
    return found if found and found[0] in JOB_VERBS else []
