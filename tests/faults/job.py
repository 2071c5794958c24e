"""A verb as ``python -m crossseed`` runs it, that keeps its state often and may die at a chosen moment:

    python job.py SECONDS DEATH VERB ...

SECONDS: least time between two saves of training state. DEATH: ``-`` for none; ``replace:3:before`` for SIGKILL before the
third file is put in its place, ``:after`` for after it, ``fsync:1:before`` likewise; ``count`` for telling at the end
how often each is called, as the last line of stderr; ``meet`` for waiting, whole file written, until another process of the same
folder is about to put the same result in place.
"""

import atexit
import json
import os
import signal
import sys
import time
from pathlib import Path

from crossseed import resume
from crossseed.__main__ import entry

CALLS = {"replace": 0, "fsync": 0}
MEET_SECONDS = 60


def meet(name):
    """Waits for the other process that is at this file."""
    Path(f"meet-{name}-{os.getpid()}").touch()
    began = time.monotonic()
    while len(list(Path().glob(f"meet-{name}-*"))) < 2:
        if time.monotonic() - began > MEET_SECONDS:
            raise TimeoutError(name)
        time.sleep(0.01)


def watched(name, death):
    """A function of `os` that ends the process around one of its calls."""
    real = getattr(os, name)

    def call(*args):
        CALLS[name] += 1
        if death == ["meet"] and name == "replace" and not str(args[1]).endswith(".resume"):
            meet(str(args[1]).replace("/", "_"))
        chosen = death[:2] == [name, str(CALLS[name])]
        if chosen and death[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = real(*args)
        if chosen:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return call


seconds, death, *argv = sys.argv[1:]
resume.Resume.__init__.__defaults__ = (float(seconds),)
for name in CALLS:
    setattr(os, name, watched(name, death.split(":")))
if death == "count":
    atexit.register(lambda: print(json.dumps(CALLS), file=sys.stderr))
sys.argv = ["crossseed", *argv]
entry()
