"""The environment of child processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def use_this_installation() -> None:
    """Lets child processes find this interpreter as ``python``, and this package.

    So that jobs run whether or not the interpreter's environment is activated. An environment
    that a job activates itself still comes first on PATH.
    """
    here = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent)
