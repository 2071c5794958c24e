"""A batch of a cluster that fails: cells that it never came to have not failed."""

import io
import logging
import os
from types import SimpleNamespace

import pytest
from snakemake.logging import logger
from snakemake_interface_logger_plugins.common import LogEvent

from crossseed.watch import hooks, told
from crossseed.watch.board import BLOCKED, DONE, FAILED, RUNNING, UNBEGUN, WAITING, Board
from crossseed.watch.left import Interval, Kind

CELL = Kind("cell", "")


class Cell:
    """A job, or a batch of some, as Snakemake's scheduler has it."""

    def __init__(self, jobid, log=(), cells=()):
        self.jobid, self.log, self.cells = jobid, log, cells

    def is_group(self):
        return bool(self.cells)

    def __iter__(self):
        return iter(self.cells)


@pytest.fixture
def screen():
    handler = logging.StreamHandler(io.StringIO())
    handler.name = "DefaultStreamHandler"
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def watcher(tmp_path, screen):
    """Of a batch of cells 0 to 5, each with a log, 6 that needs 5 and 7 that needs 0; logs 1 and 5 are of an earlier run."""
    settings = SimpleNamespace(quiet=(), verbose=False, printshellcmds=False)
    scheduler = SimpleNamespace(running=set(), failed=set(), keepgoing=True, finished_jobs=0)
    workflow = SimpleNamespace(
        rundir=tmp_path, output_settings=settings, scheduler=scheduler,
        dag_settings=SimpleNamespace(force_incomplete=False),
    )  # fmt: skip
    board = Board(dict.fromkeys(range(8), CELL), {6: [5], 7: [0]}, {}, {}, {"_nodes": 100.0})
    found = hooks.Watcher(workflow, board)
    found._screen.open()
    cells = [Cell(n, [str(tmp_path / f"{n}.log")]) for n in range(6)]
    for n in (1, 5):
        says(cells[n], "of an earlier run")
    scheduler.running.add(Cell("batch-x", cells=cells))
    yield found
    found._screen.close()


def says(cell, text):
    with open(cell.log[0], "a") as file:
        file.write(text + "\n")


def tell(watcher, screen, event, **about):
    record = logging.LogRecord("snakemake", logging.ERROR, "", 0, "said", (), None)
    record.__dict__.update(event=event, **about)
    if screen.filter(record):
        screen.handle(record)
    watcher.handle(record)


def fails(watcher, screen, whole, last=True):
    """The batch fails with some cells whole, as `crossseed.batches` tells of it."""
    (batch,) = watcher.workflow.scheduler.running
    left = [cell for cell in batch.cells if cell.jobid not in whole]
    about = [
        {"jobid": cell.jobid, "rule_name": "cell", "output": [f"{cell.jobid}.txt"], "log": cell.log}
        for cell in left
    ]
    tell(watcher, screen, LogEvent.GROUP_ERROR, job_error_info=about, aux_logs=["slurm.log"])
    for one in about:
        tell(watcher, screen, LogEvent.JOB_ERROR, **one)
    for number in whole:
        tell(watcher, screen, LogEvent.JOB_FINISHED, job_id=number)
    if last:
        watcher.workflow.scheduler.failed.add(batch)


def begin(watcher, screen):
    tell(watcher, screen, LogEvent.JOB_STARTED, jobs=["batch-x"])
    (batch,) = watcher.workflow.scheduler.running
    return batch.cells


def counts(watcher):
    watcher._line(0.0)
    return {state: n for state, n in watcher.board.count.items() if n}


def test_cells_that_a_failed_batch_never_came_to_are_not_begun(watcher, screen):
    cells = begin(watcher, screen)
    for n in (0, 1, 2):
        says(cells[n], "the disk is full")
    fails(watcher, screen, whole=(0,))
    assert counts(watcher) == {DONE: 1, FAILED: 2, UNBEGUN: 3, BLOCKED: 1, WAITING: 1}
    assert sorted(watcher._failures) == [1, 2]
    assert watcher.board.state[5] == UNBEGUN  # its log is of an earlier run
    said = screen.stream.getvalue()
    assert "2 of its jobs failed, 3 were not begun: [slurm.log]" in said
    assert said.count("Error in rule cell") == 2
    assert "jobid 3" not in said
    line = watcher._line(0.0)
    assert "2 failed, 3 not begun as their batch failed, and 1 that need them; " in line
    summary = told.summary(watcher.board, watcher._failed_jobs(), "go on", 5.0)
    assert (
        "1 of 8 jobs done after 5 s; 2 failed, 3 not begun as their batch failed, 5 left."
        in summary
    )
    assert "cell: 2.txt: the disk is full" in summary
    assert "3.txt" not in summary


def test_a_batch_that_ended_before_any_cell_has_failed_itself(watcher, screen):
    begin(watcher, screen)
    fails(watcher, screen, whole=())
    assert counts(watcher) == {UNBEGUN: 6, BLOCKED: 2}
    said = screen.stream.getvalue()
    assert "0 of its jobs failed, 6 were not begun: [slurm.log]" in said
    assert "Error in rule" not in said
    summary = told.summary(watcher.board, watcher._failed_jobs(), "go on", 5.0)
    assert "0 failed, 6 not begun as their batch failed, 8 left." in summary
    assert "Once that is mended, this continues" in summary


def test_a_cell_that_began_in_an_earlier_try_has_failed_though_the_next_removed_its_log(
    watcher, screen
):
    cells = begin(watcher, screen)
    says(cells[0], "killed")
    fails(watcher, screen, whole=(), last=False)
    assert counts(watcher) == {WAITING: 8}
    os.remove(cells[0].log[0])
    os.remove(cells[1].log[0])  # of the earlier run: the cell was about to begin
    begin(watcher, screen)
    assert counts(watcher) == {RUNNING: 6, WAITING: 2}
    fails(watcher, screen, whole=())
    assert counts(watcher) == {FAILED: 1, UNBEGUN: 5, BLOCKED: 2}


def test_a_single_job_that_fails_without_a_log_has_failed(watcher, screen):
    watcher.workflow.scheduler.running = {Cell(3, ["nowhere.log"])}
    tell(watcher, screen, LogEvent.JOB_STARTED, jobs=[3])
    tell(
        watcher,
        screen,
        LogEvent.JOB_ERROR,
        jobid=3,
        rule_name="cell",
        output=[],
        log=["nowhere.log"],
    )
    watcher.workflow.scheduler.failed |= watcher.workflow.scheduler.running
    assert counts(watcher) == {FAILED: 1, WAITING: 7}
    assert "no log: No such file" in screen.stream.getvalue()


def test_what_is_not_begun_takes_no_time_and_is_said_once_where_nothing_more_begins():
    board = Board(dict.fromkeys(range(4), CELL), {3: [2]}, {}, {}, {"_nodes": 100.0})
    board.started("batch", (0, 1, 2), 0.0)
    board.finished(0, 30.0)
    board.failed([0, 1, 2], unbegun={2})
    assert board.left(30.0) == Interval(0.0, 0.0)
    assert told.line(board, None, True) == "1 of 4 jobs done, 2 not begun, as one failed, 1 failed"
