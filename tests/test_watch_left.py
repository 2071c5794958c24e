"""How long the rest of a run takes, as it is said while it runs: planted times are within the interval."""

import heapq
import sys

import numpy as np
import pytest

from crossseed.watch import told
from crossseed.watch.board import Board
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


def test_spreads_are_those_of_all_times():
    values = np.random.default_rng(0).lognormal(3, 1, 200)
    times = Times()
    for value in values:
        times.add(value)
    assert (times.mean, times.sd) == pytest.approx((values.mean(), values.std(ddof=1)))
