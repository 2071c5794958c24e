"""The environment of child processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from crossseed.leases import SLOTS


def use_this_installation() -> None:
    """Lets child processes find this interpreter as ``python``, and this package.

    So that jobs run whether or not the interpreter's environment is activated. An environment
    that a job activates itself still comes first on PATH.
    """
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)


def share_gpus(slots: int) -> None:
    """Tells child processes how many of them may hold one GPU, unless the user's environment does."""
    os.environ.setdefault(SLOTS, str(slots))
