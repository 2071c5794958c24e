"""Lines for people: times, what failed, and the command that goes on."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crossseed import joblogs
from crossseed.progress import in_words
from crossseed.watch.board import BLOCKED, DONE, FAILED, RUNNING, UNBEGUN, WAITING, Board
from crossseed.watch.left import Interval

# Of a log: how much of it is read, how many lines are shown, and of each how many letters.
TAIL_BYTES, TAIL_LINES, TAIL_WIDTH = 1 << 16, 15, 240
# Options that say to make something again, without words after them and with: what has been made since stays.
# Words that ask for what is done to be made again, also run together: -Fn, -Rtrain.
AGAIN = re.compile(r"--(?:force|forceal|forceall|delete-all-output|delete-temp-output)$|-[fF]+$")
AGAIN_THESE = re.compile(r"(?:--forcer\w*|-R)(?:$|=)")
AGAIN_ONE = re.compile(r"-R.")


def between(interval: Interval) -> str:
    """``9 to 16 min``; the unit once where it is one."""
    low, high = in_words(interval.low), in_words(interval.high)
    if low == high:
        return f"about {high}"
    first, unit = low.split(" ")
    return f"{first} to {high}" if high.endswith(f" {unit}") else f"{low} to {high}"


def line(board: Board, interval: Interval | None, stopping: bool) -> str:
    """What a run is at.

    Args:
        stopping: whether nothing more is begun, after a failure.
    """
    count, total = board.count, len(board.kinds)
    parts = [f"{count[DONE]:,} of {total:,} jobs done"]
    if count[RUNNING]:
        rules = board.running().most_common()
        named = ", ".join(f"{rule} {n}" if n > 1 else rule for rule, n in rules[:3])
        parts.append(f"{count[RUNNING]:,} running ({named}{', …' if len(rules) > 3 else ''})")
    if stopping:
        left = count[WAITING] + count[BLOCKED] + count[UNBEGUN]
        parts.append(f"{left:,} not begun, as one failed")
    elif count[WAITING]:
        parts.append(f"{count[WAITING]:,} waiting")
    if count[FAILED]:
        parts.append(f"{count[FAILED]:,} failed")
    if count[UNBEGUN] and not stopping:
        parts.append(unbegun(board))
    if count[BLOCKED] and not stopping:
        parts.append(f"and {count[BLOCKED]:,} that need them")
    text = ", ".join(parts)
    if count[WAITING] + count[RUNNING] == 0:
        return text
    return (
        f"{text}; {'time left not known yet' if interval is None else between(interval) + ' left'}"
    )


def unbegun(board: Board) -> str:
    """How many jobs were not begun, in words."""
    return f"{board.count[UNBEGUN]:,} not begun as their batch failed"


def tail(path: Path) -> list[str]:
    """The last lines of a log, without the command that it opens with; what is wrong, of one that cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError as error:
        return [f"(no log: {error.strerror})"]
    lines = [last.rstrip() for row in text.split("\n") if (last := row.rpartition("\r")[2]).strip()]
    said = [row for row in lines if not row.startswith(joblogs.COMMAND)]
    shown = [row if len(row) <= TAIL_WIDTH else f"{row[: TAIL_WIDTH - 2]} …" for row in said]
    return shown[-TAIL_LINES:] or ["(an empty log: the job ended before it said anything)"]


def ending(path: str) -> str:
    """A log's name and last lines."""
    return "\n".join([f"    log: {path}", *(f"    | {row}" for row in tail(Path(path)))])


def failure(about: Mapping[str, Any]) -> str:
    """A failed job: which, what it was to make, why by its log.

    Args:
        about: what Snakemake tells of the job: ``rule_name``, ``jobid``, ``output``, ``log``, ``rule_msg``.
    """
    lines = [f"Error in rule {about['rule_name']}, jobid {about['jobid']}:"]
    outputs = [str(path) for path in about["output"]]
    if outputs:
        lines.append(
            f"    to make: {outputs[0]}" + (f", and {len(outputs) - 1} more" if outputs[1:] else "")
        )
    if about.get("rule_msg"):
        lines.append(f"    {about['rule_msg']}")
    lines += [ending(path) for path in about["log"]]
    if not about["log"]:
        lines.append(
            f"    it has no log; its command: {str(about.get('shellcmd') or '')[:TAIL_WIDTH]}"
        )
    return "\n".join(lines)


def summary(
    board: Board, failed: Sequence[tuple[str, Sequence[str]]], command: str, took: float
) -> str:
    """How a run ended that did not make everything, and the command that goes on.

    Args:
        failed: names and logs of failed jobs. command: in one line. took: seconds.
    """
    count = board.count
    left = len(board.kinds) - count[DONE] - count[FAILED]
    broken = bool(failed or count[UNBEGUN])
    ended = f"{count[FAILED]:,} failed" if broken else "stopped"
    ended += f", {unbegun(board)}" if count[UNBEGUN] else ""
    lines = [
        f"{count[DONE]:,} of {len(board.kinds):,} jobs done after {in_words(took)}; {ended}, {left:,} left."
    ]
    for name, logs in failed[:10]:
        lines.append(f"  {name}" + (f": {tail(Path(logs[0]))[-1]} [{logs[0]}]" if logs else ""))
    if len(failed) > 10:
        lines.append(f"  and {len(failed) - 10:,} more")
    then = "Once that is mended, this continues" if broken else "This continues"
    return "\n".join([*lines, f"{then}, with what is done kept:", "", f"    {command}", ""])


def going_on(argv: Sequence[str], folder: str, incomplete: bool) -> str:
    """The command that continues a run, from any folder.

    Args:
        argv: that the run was started with. folder: where.
        incomplete: whether it makes again what was left half made, without being told.
    """
    first, *words = argv
    if Path(first).name == "__main__.py":
        start = [sys.executable, "-m", "snakemake"]
    else:
        found = shutil.which(Path(first).name)
        start = [
            Path(first).name if found and Path(found) == Path(first) else os.path.abspath(first)
        ]
    kept: list[str] = []
    dropping = False
    for word in words:
        dropping = bool(AGAIN_THESE.match(word)) or (dropping and not word.startswith("-"))
        if not dropping and not AGAIN.match(word) and not AGAIN_ONE.match(word):
            kept.append(re.sub(r"^-(?=[fFn]+$)[fFn]*n[fFn]*$", "-n", word))
    if not incomplete and not {"--rerun-incomplete", "--ri"} & {*kept}:
        kept.insert(0, "--rerun-incomplete")
    return f"cd {shlex.quote(folder)} && {shlex.join([*start, *kept])}"
