"""A run as its user sees it: what is done, running and left, what failed and why, and how to go on.

Snakemake tells of every job in a dozen lines; here a run of 20,000 jobs says what it is at in one. Everything that
Snakemake says stays in its own log, `.snakemake/log`; with ``--verbose`` or ``--printshellcmds`` on the screen too.

    left   how long the rest takes
    board  which jobs are done, running and left
    told   lines for people: times, failures, the command that goes on
    hooks  for Snakemake's onstart, onsuccess and onerror
"""

from __future__ import annotations

from crossseed.watch.hooks import begin, end

__all__ = ["begin", "end"]
