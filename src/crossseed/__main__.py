"""``python -m crossseed``."""

import atexit
import os
import signal
import sys
from typing import Any

from crossseed import failures
from crossseed.cli import main


def entry() -> None:
    """The ``crossseed`` command."""
    # As Ctrl-C: what is half written goes before the process does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    _hush_about_full_disks()
    _end(main())


def _end(status: int) -> None:
    """Ends the process without taking Python apart: with PyTorch imported that takes 0.7 s of processor and frees nothing
    that the system would not; and HDF5 that could not write, as to a full disk, would try once more, and crash.

    What was registered to run at exit runs; a log that cannot be written is an error as any other.
    """
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _hush_about_full_disks() -> None:
    """HDF5 says of each array that it could not write it, with a traceback; the command line says it once."""
    raised, unraised = sys.excepthook, sys.unraisablehook

    def on_error(kind: Any, error: Any, trace: Any) -> None:
        if not failures.is_disk(error):
            raised(kind, error, trace)

    def on_unraised(about: Any) -> None:
        if not failures.is_disk(about.exc_value):
            unraised(about)

    sys.excepthook, sys.unraisablehook = on_error, on_unraised


if __name__ == "__main__":
    entry()
