"""``python -m crossseed``."""

import signal
import sys

from crossseed.cli import main


def entry() -> None:
    """The ``crossseed`` command."""
    # As Ctrl-C: what is half written goes before the process does.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.exit(main())


if __name__ == "__main__":
    entry()
