"""Which jobs of a run are done, running and left; each change costs what it changes, however many jobs there are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Hashable, Iterable, Mapping
from typing import Any

from crossseed.watch.left import Interval, Kind, Rest, Times, left

WAITING, RUNNING, DONE = "waiting", "running", "done"
FAILED, UNBEGUN, BLOCKED = "failed", "not begun", "blocked"


class Board:
    """Jobs by number, each in one of six states.

    Args:
        kinds: of each job.
        needs: numbers of jobs that each waits for.
        told: seconds that a job of a kind was estimated at. asks: what it takes of each limit.
        limits: what jobs together may take.
    """

    def __init__(
        self,
        kinds: Mapping[int, Kind],
        needs: Mapping[int, Iterable[int]],
        told: Mapping[Kind, float],
        asks: Mapping[Kind, Mapping[str, float]],
        limits: Mapping[str, float],
    ) -> None:
        self.kinds, self.limits = kinds, limits
        self.state = dict.fromkeys(kinds, WAITING)
        self.waiting = Counter(kinds.values())
        self.count = Counter({WAITING: len(kinds)})
        self._told, self._asks = told, asks
        self._times: dict[Kind, Times] = defaultdict(Times)
        # What was started together, with when; a job that was started alone is alone.
        self._units: dict[Hashable, tuple[float, frozenset[int]]] = {}
        self._unit_of: dict[int, Hashable] = {}
        self._needed_by: dict[int, list[int]] = defaultdict(list)
        after: dict[Kind, set[Kind]] = defaultdict(set)
        for job, others in needs.items():
            for other in others:
                if other in kinds:
                    self._needed_by[other].append(job)
                    if kinds[other] != kinds[job]:
                        after[kinds[job]].add(kinds[other])
        self._after = {kind: frozenset(others) for kind, others in after.items()}
        self._order = _ordered(dict.fromkeys(kinds.values()), self._after)

    def started(self, unit: Hashable, jobs: Iterable[int], now: float) -> None:
        """A job, or a batch of several that run one after another."""
        cells = frozenset(job for job in jobs if job in self.state)
        self._units[unit] = (now, cells)
        for job in cells:
            self._unit_of[job] = unit
            self._move(job, RUNNING)

    def finished(self, job: int, now: float) -> None:
        """A job is done; its time counts as an equal part of what it was started with."""
        if self.state.get(job) in (None, DONE):
            return
        began, cells = self._units.get(self._unit_of.pop(job, None), (now, frozenset((job,))))
        if self.state[job] == RUNNING:
            self._times[self.kinds[job]].add((now - began) / len(cells))
        self._move(job, DONE)

    def ended(self, job: int) -> None:
        """A job did not succeed; it may be tried again, as may what was to run after it in its batch."""
        unit = self._unit_of.get(job)
        for cell in self._units.pop(unit, (0.0, frozenset((job,))))[1]:
            if self.state.get(cell) == RUNNING:
                self._move(cell, WAITING)

    def failed(self, jobs: Iterable[int], unbegun: Container[int] = ()) -> None:
        """Jobs that are not tried again: what needs them will not be made.

        Args:
            unbegun: those that a batch had not come to when it failed.
        """
        reached = []
        for job in jobs:
            if self.state.get(job) in (WAITING, RUNNING, BLOCKED):
                self._move(job, UNBEGUN if job in unbegun else FAILED)
                reached.append(job)
        while reached:
            for job in self._needed_by.get(reached.pop(), ()):
                if self.state[job] == WAITING:
                    self._move(job, BLOCKED)
                    reached.append(job)

    def _move(self, job: int, state: str) -> None:
        kind, old = self.kinds[job], self.state[job]
        self.state[job] = state
        self.waiting[kind] += (state == WAITING) - (old == WAITING)
        self.count[old] -= 1
        self.count[state] += 1

    def running(self) -> Counter[str]:
        """Running jobs by rule; a batch counts as the jobs that it has left."""
        found: Counter[str] = Counter()
        for _, cells in self._units.values():
            found.update(self.kinds[job].rule for job in cells if self.state[job] == RUNNING)
        return found

    def left(self, now: float, stopping: bool = False) -> Interval | None:
        """Seconds until all is done that can be; None while no job has finished.

        Args:
            stopping: whether nothing more is begun, after a failure.
        """
        seconds: dict[Kind, list[float]] = defaultdict(list)
        for unit, (began, cells) in list(self._units.items()):
            rest = [job for job in cells if self.state[job] == RUNNING]
            if not rest:
                del self._units[unit]
            for place, job in enumerate(rest):
                # Cells of a batch run one after another, and which one runs now is not told.
                spent = (now - began) / len(cells) if len(cells) > 1 else now - began
                seconds[self.kinds[job]].append(spent if place == 0 or len(cells) == 1 else 0.0)
        rests = {
            kind: Rest(
                0 if stopping else self.waiting[kind],
                seconds.get(kind, ()),
                self._times[kind],
                self._told.get(kind, 0.0),
                self._asks.get(kind, {}),
            )
            for kind in self._order
        }
        return left(rests, self._after, self.limits)


def _ordered(kinds: Iterable[Kind], after: Mapping[Kind, frozenset[Kind]]) -> list[Kind]:
    """Kinds, each after those that it needs; where kinds need each other, in any order."""
    found: dict[Kind, Any] = {}
    begun: set[Kind] = set()
    for first in kinds:
        stack = [(first, False)]
        while stack:
            kind, ready = stack.pop()
            if ready:
                found[kind] = None
            elif kind not in begun:
                begun.add(kind)
                stack.append((kind, True))
                stack += [
                    (other, False) for other in sorted(after.get(kind, ())) if other not in begun
                ]
    return list(found)
