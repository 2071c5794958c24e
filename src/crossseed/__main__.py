"""``python -m crossseed``."""

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
    status = main()
    if status:
        # HDF5 that could not write, as to a full disk, tries once more when Python ends, and crashes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


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
