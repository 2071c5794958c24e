"""How a job imports what it runs."""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType


def imported(name: str) -> ModuleType:
    """A module; while it is imported, no garbage is looked for.

    An import makes hundreds of thousands of objects that stay. Python would go through all of them again and again,
    which is a fifth of what it takes to import PyTorch; and would go through them at every full collection of the job.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
