"""``python -m crossseed``."""

import sys

from crossseed.cli import main


def entry() -> None:
    """The ``crossseed`` command."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
