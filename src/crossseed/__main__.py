"""``python -m crossseed``."""

import os
import signal
import sys

from crossseed.cli import main


def entry() -> None:
    """The ``crossseed`` command."""
    # As Ctrl-C: what is half written goes before the process does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    status = main()
    if status:
        # HDF5 that could not write, as to a full disk, tries once more when Python ends, and crashes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


if __name__ == "__main__":
    entry()
