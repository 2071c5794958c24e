"""What a run says of itself: the estimate of its rest, what failed and why, and the command that goes on."""

import heapq
import logging
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from snakemake_interface_logger_plugins.common import LogEvent

from crossseed import progress
from crossseed.config.load import load_files
from crossseed.estimate import seconds_of
from crossseed.watch import hooks, told
from crossseed.watch.board import BLOCKED, DONE, FAILED, RUNNING, WAITING, Board
from crossseed.watch.left import Interval, Kind, Times


def run_of(jobs, slots, told_by=None):
    """A board of planted jobs, ``[(kind, seconds, needs)]``, and when each starts and ends where no slot is idle while a job
    is ready."""
    kinds = {n: kind for n, (kind, _, _) in enumerate(jobs)}
    needs = {n: needed for n, (_, _, needed) in enumerate(jobs)}
    told_by = told_by or dict.fromkeys(kinds.values(), 1.0)
    asks = {kind: {"_cores": 1.0} for kind in kinds.values()}
    board = Board(kinds, needs, told_by, asks, {"_cores": float(slots)})
    missing = {n: len(needed) for n, needed in needs.items()}
    needed_by = {}
    for n, needed in needs.items():
        for other in needed:
            needed_by.setdefault(other, []).append(n)
    ready = [n for n, number in missing.items() if number == 0]
    running, now, events = [], 0.0, []
    while ready or running:
        while ready and len(running) < slots:
            job = ready.pop(0)
            events.append((now, "start", job))
            heapq.heappush(running, (now + jobs[job][1], job))
        now, job = heapq.heappop(running)
        events.append((now, "end", job))
        for other in needed_by.get(job, ()):
            missing[other] -= 1
            if missing[other] == 0:
                ready.append(other)
    return board, events, now


def study(rng, n, spread, long=1.0):
    """Three stages of cells, each after its own of the stage before, then tables and a page."""
    stages = {"extract": 20.0, "align": 4.0, "transfer": 60.0 * long}
    jobs, before = [], None
    for stage, mean in stages.items():
        first = len(jobs)
        for cell in range(n):
            seconds = mean * float(rng.lognormal(0, spread))
            jobs.append((Kind(stage, "c"), seconds, [before + cell] if before is not None else []))
        before = first
    jobs.append((Kind("tables", ""), 15.0, list(range(before, before + n))))
    jobs.append((Kind("report", ""), 30.0, [len(jobs) - 1]))
    return jobs


def intervals(board, events, end):
    """At each end of a job: how much of the run is over, what was left, and what was said."""
    found = []
    for now, what, job in events:
        if what == "start":
            board.started(job, [job], now)
        else:
            board.finished(job, now)
            if now < end:
                found.append((now / end, end - now, board.left(now)))
    return found


@pytest.mark.parametrize("slots", [1, 8, 64])
@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_planted_times_are_within_the_interval(slots, spread):
    """Kinds that have not run yet take three times what was estimated, as those that have."""
    inside, widths = [], []
    told_by = {Kind("extract", "c"): 20.0 / 3, Kind("align", "c"): 4.0 / 3}
    told_by |= {Kind("transfer", "c"): 20.0, Kind("tables", ""): 5.0, Kind("report", ""): 10.0}
    for seed in range(5):
        jobs = study(np.random.default_rng(seed), 120, spread)
        for share, truth, said in intervals(*run_of(jobs, slots, told_by)):
            inside.append(said.low <= truth + 1e-6 and truth <= said.high + 1e-6)
            if 0.4 < share < 0.8:
                widths.append(said.high / max(said.low, 1e-9))
    assert np.mean(inside) > 0.97
    # Few slots wait for no chain of jobs: what is said of them is sharper. With 64 most of a run is over before the first
    # job of its longest kind is, of which no more is known than its estimate.
    assert np.median(widths) < {1: 1.5, 8: 2.5, 64: 20}[slots]


def test_kinds_that_were_estimated_wrong_are_within_as_long_as_it_is_by_less_than_four_times():
    for wrong in (1 / 3.5, 3.5):
        jobs = study(np.random.default_rng(0), 60, 0.1, long=wrong)
        told_by = {Kind("extract", "c"): 20.0, Kind("align", "c"): 4.0, Kind("transfer", "c"): 60.0}
        told_by |= {Kind("tables", ""): 15.0, Kind("report", ""): 30.0}
        found = intervals(*run_of(jobs, 8, told_by))
        assert np.mean([said.low <= truth <= said.high for _, truth, said in found]) > 0.97


def test_an_estimate_that_ignores_what_waits_would_be_caught():
    """The test above has teeth: the same run with half of its jobs hidden from the board."""
    jobs = study(np.random.default_rng(0), 120, 0.3)
    _, events, end = run_of(jobs, 8)
    half = [(kind, seconds, []) for kind, seconds, _ in jobs[:180]]
    board, _, _ = run_of(half, 8)
    found = intervals(board, events, end)
    assert np.mean([said.low <= truth <= said.high for _, truth, said in found if said]) < 0.6


def test_nothing_is_said_of_time_before_a_job_has_finished():
    board, _, _ = run_of([(Kind("a", ""), 5.0, []), (Kind("b", ""), 5.0, [0])], 1)
    assert board.left(0.0) is None
    board.started(0, [0], 0.0)
    assert board.left(3.0) is None
    assert "time left not known yet" in told.line(board, None, False)
    board.finished(0, 5.0)
    assert board.left(5.0) is not None


def test_one_gpu_holds_up_what_many_cores_could_do():
    kinds = {n: Kind("train", "") for n in range(10)}
    asks = {kinds[0]: {"_cores": 1.0, "gpu": 1.0}}
    board = Board(kinds, {}, {kinds[0]: 1.0}, asks, {"_cores": 16.0, "gpu": 1.0})
    for n in range(3):
        board.started(n, [n], 100.0 * n)
        board.finished(n, 100.0 * (n + 1))
    assert board.left(300.0).low == pytest.approx(700)


def test_a_job_that_outlasts_all_others_may_take_as_long_again():
    kinds = {n: Kind("train", "") for n in range(4)}
    board = Board(kinds, {}, {}, {}, {})
    for n in range(4):
        board.started(n, [n], 0.0)
    for n in range(3):
        board.finished(n, 10.0)
    assert board.left(500.0) == Interval(0.0, 500.0)


def test_a_failure_blocks_what_needs_it_and_nothing_else():
    kind = Kind("a", "")
    board = Board(dict.fromkeys(range(6), kind), {1: [0], 2: [1], 4: [3]}, {}, {}, {})
    board.started(0, [0], 0.0)
    board.ended(0)
    assert board.count[WAITING] == 6  # it may be tried again
    board.started(0, [0], 1.0)
    board.ended(0)
    board.failed([0])
    assert (board.count[FAILED], board.count[BLOCKED], board.count[WAITING]) == (1, 2, 3)
    line = told.line(board, Interval(60, 180), False)
    assert "1 failed, and 2 that wait for them; 60 s to 3.0 min left" in line
    assert board.waiting[kind] == 3


def test_of_a_batch_that_fails_what_is_whole_is_done_and_the_rest_waits():
    kind = Kind("cell", "")
    board = Board(dict.fromkeys(range(6), kind), {}, {}, {}, {"_nodes": 100.0})
    board.started("batch-x", range(6), 0.0)
    assert board.count[RUNNING] == 6
    board.ended(4)
    for n in (0, 1, 2):
        board.finished(n, 30.0)
    assert (board.count[DONE], board.count[WAITING]) == (3, 3)
    board.started("batch-y", (3, 4, 5), 40.0)
    for n in (3, 4, 5):
        board.finished(n, 70.0)
    assert (board.count[DONE], board._times[kind].mean) == (6, 10.0)
    assert board.left(70.0) == Interval(0.0, 0.0)


def calls_of(n):
    """Functions called while a run of n cells, 40 kinds, is followed, with an estimate at every hundredth end."""
    jobs = [(Kind("a", str(i % 40)), 1.0, []) for i in range(n)]
    jobs += [(Kind("b", str(i % 40)), 1.0, [i]) for i in range(n)]
    board, events, _ = run_of(jobs, 16)
    count = 0

    def counted(frame, event, arg):
        nonlocal count
        count += event == "call"

    sys.setprofile(counted)
    try:
        for number, (now, what, job) in enumerate(events):
            if what == "start":
                board.started(job, [job], now)
            else:
                board.finished(job, now)
                if number % (len(events) // 100) == 0:
                    told.line(board, board.left(now), False)
    finally:
        sys.setprofile(None)
    return count


def test_following_costs_no_more_a_job_however_many_there_are():
    few, many = calls_of(1000), calls_of(10_000)
    assert many < 10 * few
    assert many < 12 * 20_000 + 100 * 2000


def test_a_day_s_log_has_some_two_hundred_lines():
    passed, lines = 0.0, 0
    while passed < 86_400:
        passed += progress.log_seconds(passed)
        lines += 1
    assert 150 < lines < 250
    assert progress.log_seconds(0) == 15


def test_times_in_words():
    words = [told.seconds(n) for n in (0, 59, 90, 600, 5400, 86_400, 1e6)]
    assert words == ["0 s", "59 s", "1.5 min", "10 min", "1.5 h", "24 h", "12 days"]
    assert told.between(Interval(540, 960)) == "9.0 to 16 min"
    assert told.between(Interval(50, 200)) == "50 s to 3.3 min"
    assert told.between(Interval(60, 60)) == "about 60 s"


def test_spreads_are_those_of_all_times():
    values = np.random.default_rng(0).lognormal(3, 1, 200)
    times = Times()
    for value in values:
        times.add(value)
    assert (times.mean, times.sd) == pytest.approx((values.mean(), values.std(ddof=1)))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--cores", "2"], ["--cores", "2"]),
        (["-F", "--cores", "2", "all"], ["--cores", "2", "all"]),
        (["--forcerun", "train", "sae", "--cores", "2"], ["--cores", "2"]),
        (["-R", "train", "-n", "x"], ["-n", "x"]),
        (["-Rtrain", "-Fn", "--forceal", "--cores", "2"], ["-n", "--cores", "2"]),
        (["--config", "a=b c"], ["--config", "'a=b c'"]),
    ],
)
def test_the_command_that_goes_on_makes_nothing_again(words, kept):
    said = told.going_on(["/nowhere/bin/snakemake", *words], "/a folder", incomplete=True)
    assert said == " ".join(["cd '/a folder' && /nowhere/bin/snakemake", *kept])
    without = told.going_on(["/nowhere/bin/snakemake", *words], "/", incomplete=False)
    assert without.count("--rerun-incomplete") == 1
    again = told.going_on(["/nowhere/bin/snakemake", "--rerun-incomplete"], "/", incomplete=False)
    assert again.count("--rerun-incomplete") == 1


def test_the_end_of_a_log_is_what_was_said_last(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("$ crossseed train --spec x\n" + "".join(f"step {n}\n" for n in range(100)))
    assert told.tail(log) == [f"step {n}" for n in range(85, 100)]
    log.write_text("half: 1/2\rhalf: 2/2\n" + "x" * 1000)
    assert [len(row) for row in told.tail(log)] == [9, 240]
    log.write_bytes(b"\xff\xfe" * 100_000 + b"\nlast\n")
    assert told.tail(log)[-1] == "last"
    log.write_text("$ crossseed train --spec x\n")
    assert "before it said anything" in told.tail(log)[0]
    assert "No such file" in told.tail(tmp_path / "none.log")[0]


def test_rules_have_the_seconds_of_their_verbs():
    run = load_files(Path(__file__).parent.parent / "config/toy-full.yaml")
    for device in ("cpu", "cuda"):
        seconds = seconds_of(run, device)
        assert seconds("train_toy_shared") == seconds("train") > 3
        assert seconds("sae_relu_l1_x8") == seconds("sae") > 3
        assert seconds("report") == seconds("all") == 3


def test_of_a_batch_that_failed_only_what_was_begun_failed(tmp_path):
    """Planted: of six cells one is done, one said something and stopped, one has a log of an earlier try, three have none;
    two jobs wait for the last of them."""
    kind = Kind("cell", "")
    board = Board(dict.fromkeys(range(8), kind), {6: [5], 7: [6]}, {}, {}, {})
    logs = [f"{n}.log" for n in range(6)]
    cells = [SimpleNamespace(jobid=n, log=[log]) for n, log in enumerate(logs)]
    (tmp_path / logs[2]).write_text("of yesterday")

    class Batch:
        jobid = "batch"

        def is_group(self):
            return True

        def __iter__(self):
            return iter(cells)

    batch = Batch()
    scheduler = SimpleNamespace(running=[batch], failed=set(), keepgoing=True, finished_jobs=0)
    workflow = SimpleNamespace(
        rundir=tmp_path, scheduler=scheduler,
        output_settings=SimpleNamespace(quiet=(), verbose=False, printshellcmds=False),
    )  # fmt: skip
    watcher = hooks.Watcher(workflow, board)

    def logged(event, **more):
        watcher.emit(logging.makeLogRecord({"event": event, **more}))

    logged(LogEvent.JOB_STARTED, jobs=["batch"])
    for n in (0, 1):
        (tmp_path / logs[n]).write_text("begun")
    logged(LogEvent.JOB_FINISHED, job_id=0)
    scheduler.running, scheduler.failed = [], {batch}
    line = watcher._line(time.monotonic())
    assert board.state == {0: DONE, 1: FAILED, **dict.fromkeys(range(2, 8), BLOCKED)}
    assert "1 failed, and 6 that wait for them" in line
