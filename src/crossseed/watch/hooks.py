"""For Snakemake's hooks: a run is followed through what Snakemake logs, and told of in few lines."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from snakemake.logging import logger
from snakemake.settings.enums import Quietness
from snakemake_interface_executor_plugins.settings import ExecMode
from snakemake_interface_logger_plugins.common import LogEvent

from crossseed.progress import TERMINAL_SECONDS, in_words, log_seconds
from crossseed.watch import told
from crossseed.watch.board import Board
from crossseed.watch.left import Kind

# What Snakemake says of each job that does well: in its own log alone.
OF_EACH_JOB = {
    LogEvent.JOB_INFO,
    LogEvent.GROUP_INFO,
    LogEvent.JOB_STARTED,
    LogEvent.JOB_FINISHED,
    LogEvent.PROGRESS,
    LogEvent.SHELLCMD,
}
CHATTER = ("Select jobs to execute...", "Waiting for more resources.")
# Seconds between two estimates on a terminal.
ESTIMATE_SECONDS = 5.0
# The handler of a run that is followed, by what it is called in Snakemake's logger.
NAME = "crossseed.watch"


def begin(workflow: Any, seconds_of: Callable[[str], float] = lambda rule: 1.0) -> None:
    """Follows a run, from Snakemake's `onstart`.

    Args:
        seconds_of: what a job of a rule was estimated at, by the rule's name; all alike without it.
    """
    if workflow.exec_mode == ExecMode.DEFAULT:
        _forget()
        watcher = Watcher(workflow, board_of(workflow, seconds_of))
        logger.addHandler(watcher)
        watcher.begin()


def end(workflow: Any) -> None:
    """Tells how a run ended, from `onsuccess` and `onerror`."""
    for handler in list(logger.handlers):
        if isinstance(handler, Watcher) and handler.workflow is workflow:
            handler.end()
            logger.removeHandler(handler)


def _forget() -> None:
    """Of runs of this process that ended without a hook."""
    for handler in list(logger.handlers):
        if isinstance(handler, Watcher):
            handler.leave()
            logger.removeHandler(handler)


def board_of(workflow: Any, seconds_of: Callable[[str], float]) -> Board:
    """All jobs that a run has to do; goes through the graph once."""
    dag = workflow.dag
    jobs = {job.jobid: job for job in dag.needrun_jobs()}
    kinds = {number: kind_of(job) for number, job in jobs.items()}
    needs = {n: [other.jobid for other in dag.dependencies[job]] for n, job in jobs.items()}
    limits = {
        name: float(limit)
        for name, limit in workflow.scheduler.global_resources.items()
        if isinstance(limit, int) and 0 < limit < sys.maxsize
    }
    told_by = {kind: seconds_of(kind.rule) for kind in set(kinds.values())}
    asks: dict[Kind, dict[str, float]] = {}
    for number, job in jobs.items():
        if kinds[number] not in asks:
            asked = job.rule.resources
            found = {name: _number(asked.get(name)) for name in limits}
            asks[kinds[number]] = {
                **found,
                "_nodes": 1.0,
                "_cores": max(1.0, found.get("_cores", 1.0)),
            }
    return Board(kinds, needs, told_by, asks, limits)


def kind_of(job: Any) -> Kind:
    """Rule and cohort of a job of Snakemake's; a job without a cohort has an empty one."""
    return Kind(job.rule.name, str(job.wildcards_dict.get("cohort", "")))


# What tells whether a file was written: when, where on the disk, how long; None where there is none.
Written = tuple[int, int, int] | None


def written(path: str) -> Written:
    """A mark of a file that changes when it is written; clocks of other machines do not matter."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _number(resource: Any) -> float:
    """What a rule asks for in a number; one that depends on the cell counts as nothing."""
    value = getattr(resource, "raw", None) if resource is not None else None
    return float(value) if isinstance(value, int) else 0.0


class Watcher(logging.Handler):
    """Follows a run by what Snakemake logs; a thread of its own tells of it now and then."""

    def __init__(self, workflow: Any, board: Board) -> None:
        super().__init__()
        self.name, self.workflow, self.board = NAME, workflow, board
        self._argv, self._folder = list(sys.argv), str(workflow.rundir)
        self._began = time.monotonic()
        self._failures: dict[int, tuple[str, list[str]]] = {}
        self._failed: set[Any] = set()
        # Of cells of batches: their logs as they were when the run first started them, and which have begun since.
        self._before: dict[int, dict[str, Written]] = {}
        self._begun: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell, name=NAME, daemon=True)
        quiet = set(workflow.output_settings.quiet or ())
        self._silent = Quietness.ALL in quiet
        self._live_wanted = Quietness.PROGRESS not in quiet and not self._silent
        self._screen = Screen(workflow, quiet, self._never_began)

    def begin(self) -> None:
        """Takes over the stream, and tells of the run from now on where that is wanted."""
        self._screen.open()
        if self._live_wanted:
            self._thread.start()

    # --- what Snakemake logs ------------------------------------------------------------------

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        now = time.monotonic()
        if event == LogEvent.JOB_STARTED:
            named = set(record.jobs)  # type: ignore[attr-defined]
            for unit in list(self.workflow.scheduler.running):
                if unit.jobid in named:
                    cells = unit if unit.is_group() else (unit,)
                    self.board.started(unit.jobid, [job.jobid for job in cells], now)
                    for job in cells if unit.is_group() else ():
                        logs = {str(path): written(str(path)) for path in job.log}
                        self._before.setdefault(job.jobid, logs)
        elif event == LogEvent.JOB_FINISHED:
            self.board.finished(record.job_id, now)  # type: ignore[attr-defined]
        elif event == LogEvent.JOB_ERROR:
            about = record.__dict__
            self.board.ended(about["jobid"])
            if self._never_began(about["jobid"]):
                return
            cell = next(iter(about["output"]), "")
            name = f"{about['rule_name']}: {cell}" if cell else about["rule_name"]
            self._failures[about["jobid"]] = (name, [str(path) for path in about["log"]])

    def _never_began(self, number: int) -> bool:
        """Whether a batch never came to a cell of it, in no try: none of its logs was written since the run started it."""
        before = self._before.get(number)
        if not before or number in self._begun:
            return False
        now = {path: written(path) for path in before}
        if any(now[path] not in (None, before[path]) for path in before):
            self._begun.add(number)
            return False
        return True

    def _take_failures(self) -> None:
        """Jobs that are not tried again."""
        for unit in list(self.workflow.scheduler.failed - self._failed):
            self._failed.add(unit)
            cells = unit if unit.is_group() else (unit,)
            numbers = [job.jobid for job in cells]
            self.board.failed(numbers, {n for n in numbers if self._never_began(n)})

    # --- what is told -------------------------------------------------------------------------

    def _line(self, now: float) -> str:
        with self.lock:  # type: ignore[union-attr]
            self._take_failures()
            stopping = bool(self._failed) and not self.workflow.scheduler.keepgoing
            return told.line(self.board, self.board.left(now, stopping), stopping)

    def _tell(self) -> None:
        """Rewrites one line on a terminal, and writes one now and then to logs."""
        logged = estimated = self._began
        text = ""
        while not self._over.wait(TERMINAL_SECONDS if self._screen.live else 1.0):
            now = time.monotonic()
            due = now - logged >= log_seconds(now - self._began)
            if due or (self._screen.live and now - estimated >= ESTIMATE_SECONDS) or not text:
                text, estimated = self._line(now), now
            if due:
                logged = now
                stamp = time.strftime("%H:%M:%S")
                more = {"quietness": Quietness.PROGRESS, "of_watch": True}
                logger.info(f"[{stamp}] {text}", extra=more)
            self._screen.show(text)

    def leave(self) -> None:
        """Tells no more, and gives the stream back."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        self._screen.close()

    def end(self) -> None:
        """Leaves, and says how the run ended: all done, or what failed and what is left."""
        self.leave()
        with self.lock:  # type: ignore[union-attr]
            self._take_failures()
        took = time.monotonic() - self._began
        finished = self.workflow.scheduler.finished_jobs
        if finished >= len(self.board.kinds):
            text = f"All {finished:,} jobs done in {in_words(took)}."
            logger.info(text, extra={"quietness": Quietness.PROGRESS})
            return
        failed = self._failed_jobs()
        if not self._silent:
            if Quietness.RULES in (self.workflow.output_settings.quiet or ()):
                # Nothing was said when they failed.
                for path in [path for _, logs in failed[:5] for path in logs]:
                    logger.error(told.ending(path))
            incomplete = bool(self.workflow.dag_settings.force_incomplete)
            command = told.going_on(self._argv, self._folder, incomplete)
            logger.error(told.summary(self.board, failed, command, took))

    def _failed_jobs(self) -> list[tuple[str, list[str]]]:
        numbers = [
            job.jobid for unit in self._failed for job in (unit if unit.is_group() else (unit,))
        ]
        return [self._failures[n] for n in sorted(numbers) if n in self._failures]


class Screen:
    """Snakemake's own stream: thinned, and with a last line that is rewritten where it is a terminal."""

    def __init__(
        self, workflow: Any, quiet: set[Quietness], never_began: Callable[[int], bool]
    ) -> None:
        self._never_began = never_began
        found = [h for h in logger.handlers if h.name == "DefaultStreamHandler"]
        self._handler: Any = found[0] if found else None
        stream = getattr(self._handler, "stream", None)
        terminal = stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
        self.live = (
            bool(terminal) and Quietness.PROGRESS not in quiet and Quietness.ALL not in quiet
        )
        settings = workflow.output_settings
        self._whole = bool(settings.verbose or settings.printshellcmds)
        self._shown = False
        self._formatter: logging.Formatter | None = None

    def open(self) -> None:
        """Puts a filter and a format of its own before Snakemake's handler."""
        if self._handler is not None:
            self._handler.addFilter(self._passes)
            self._formatter = self._handler.formatter
            self._handler.setFormatter(
                Short(self._formatter, self._whole, self._clear, self._never_began)
            )

    def close(self) -> None:
        """Clears the last line, and leaves Snakemake's handler as it was."""
        if self._handler is not None and self._formatter is not None:
            with self._handler.lock:
                self._clear()
                self._handler.removeFilter(self._passes)
                self._handler.setFormatter(self._formatter)
                self._formatter = None

    def _passes(self, record: logging.LogRecord) -> bool:
        """Whether a record is for the screen; asked after Snakemake's own filter."""
        event = getattr(record, "event", None)
        if self.live and getattr(record, "of_watch", False):
            return False
        if event == LogEvent.JOB_ERROR and self._never_began(record.jobid):  # type: ignore[attr-defined]
            return self._whole
        return self._whole or not (event in OF_EACH_JOB or record.msg in CHATTER)

    def _clear(self) -> None:
        if self._shown:
            self._shown = False
            self._handler.stream.write("\r\x1b[K")
            self._handler.stream.flush()

    def show(self, text: str) -> None:
        """The last line of a terminal, no longer than it is wide."""
        if not self.live:
            return
        try:
            width = os.get_terminal_size(self._handler.stream.fileno()).columns
        except (OSError, ValueError):
            width = 80
        shown = text if len(text) < width else f"{text[: width - 2]}…"
        with self._handler.lock:
            self._handler.stream.write(f"\r\x1b[K{shown}")
            self._handler.stream.flush()
            self._shown = True


class Short(logging.Formatter):
    """Failed jobs in a few lines with the end of their logs; all else as Snakemake has it.

    Args:
        whole: failed jobs too as Snakemake has them. clear: takes the line away that is rewritten; a record is formatted
            with the stream's lock held, just before it is written. never_began: whether a batch never came to a job.
    """

    def __init__(
        self,
        other: logging.Formatter | None,
        whole: bool,
        clear: Callable[[], None],
        never_began: Callable[[int], bool],
    ) -> None:
        super().__init__()
        self._never_began = never_began
        self._other, self._whole, self._clear = other or logging.Formatter(), whole, clear

    def format(self, record: logging.LogRecord) -> str:
        self._clear()
        event = getattr(record, "event", None)
        if self._whole:
            logs = getattr(record, "log", ()) if event == LogEvent.JOB_ERROR else ()
            return "\n".join([self._other.format(record), *map(told.ending, logs)])
        if event == LogEvent.JOB_ERROR:
            return told.failure(record.__dict__)
        if event == LogEvent.GROUP_ERROR:
            cells = record.job_error_info  # type: ignore[attr-defined]
            logs = "".join(f" [{path}]" for path in record.aux_logs)  # type: ignore[attr-defined]
            unbegun = sum(self._never_began(cell["jobid"]) for cell in cells)
            more = f", {unbegun} were not begun" if unbegun else ""
            return f"Error in a batch, {len(cells) - unbegun} of its jobs failed{more}:{logs}"
        said = self._other.format(record)
        # Here a whole command, with all settings of its job, stands once more.
        ended = re.search(r"Command '.*' ((?:returned|died) .*)", said, re.DOTALL)
        return f"A job's command {ended[1]}" if ended and record.levelno >= logging.ERROR else said
