"""What is found out of a run once, however many of its cells ask.

A plan asks the same of a run for each of its thousands of jobs: which pairs there are, what decides a member's
activations. Found anew each time, planning would take the square of the number of cells.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

from crossseed.config.schema import RunConfig

P = ParamSpec("P")
T = TypeVar("T")


def once_a_run(
    function: Callable[Concatenate[RunConfig, P], T],
) -> Callable[Concatenate[RunConfig, P], T]:
    """Keeps what a function gives for a run and plain arguments, for as long as the run lives.

    A run's values never change. What is given is shared, and not to be changed either.
    """
    # By identity: a run is large, and holds lists.
    kept: dict[int, dict[Any, T]] = {}

    def forget(number: int) -> None:
        kept.pop(number, None)

    @functools.wraps(function)
    def found(run: RunConfig, /, *args: P.args, **named: P.kwargs) -> T:
        if id(run) not in kept:
            kept[id(run)] = {}
            weakref.finalize(run, forget, id(run))
        of_run = kept[id(run)]
        key = (args, tuple(sorted(named.items())))
        if key not in of_run:
            of_run[key] = function(run, *args, **named)
        return of_run[key]

    return found
