"""Progress of long verbs: a line that rewrites itself on a terminal, a line every so often in a log."""

from __future__ import annotations

import sys
import time

TERMINAL_SECONDS = 0.2
# Between lines of a log: at first, as a share of what has passed, and at most. A day has some two hundred lines.
LOG_SECONDS, LOG_SHARE, LOG_SECONDS_AT_MOST = 15.0, 0.05, 600.0
UNITS = ((86_400.0, "days"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def in_words(seconds: float) -> str:
    """A time in the unit that suits it."""
    size, unit = next((of for of in UNITS if seconds >= 1.5 * of[0]), UNITS[-1])
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 10 or unit == "s" else f"{value:.1f} {unit}"


def log_seconds(passed: float) -> float:
    """Seconds between lines of a log after so many seconds."""
    return min(max(LOG_SECONDS, LOG_SHARE * passed), LOG_SECONDS_AT_MOST)


class Progress:
    """Counts steps of one task.

    Args:
        task: what is being done, e.g. ``train dyck seed 0``.
        total: number of steps.
        start: steps already done (after a resume).
    """

    def __init__(self, task: str, total: int, start: int = 0) -> None:
        self.task, self.total, self.start = task, total, start
        self._stream = sys.stderr
        self._live = self._stream.isatty()
        self._began = self._shown = time.monotonic()

    def update(self, done: int, note: str = "") -> None:
        """Tells how many steps are done and when the rest will be; silent if it told a moment ago."""
        now = time.monotonic()
        if now - self._shown < (TERMINAL_SECONDS if self._live else log_seconds(now - self._began)):
            return
        self._shown = now
        rate = (done - self.start) / (now - self._began)
        left = f"{in_words((self.total - done) / rate)} left" if rate > 0 else "time left not known"
        text = f"{self.task}: {done:,}/{self.total:,} ({rate:,.1f}/s, {left}) {note}"
        self._stream.write(f"\r\x1b[K{text}" if self._live else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Clears the line of a terminal."""
        if self._live:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
