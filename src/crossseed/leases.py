"""Leases of GPUs: no two jobs of a user share one on a machine, unless they are told that they may.

A lease is a lock on a file named after the device, in one folder for each user of a machine. The kernel gives it
back when the process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NamedTuple

from crossseed import driver
from crossseed.errors import UserError

SLOTS = "CROSSSEED_SLOTS_PER_GPU"
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_SECONDS = 1.0
# Fixed: $TMPDIR and $XDG_RUNTIME_DIR differ between a login, tmux, cron and a job of a cluster.
SHARED = Path("/tmp")


class Device(NamedTuple):
    """A GPU. Attributes: uuid, as CUDA_VISIBLE_DEVICES takes it; name; bytes of its memory."""

    uuid: str
    name: str
    bytes: int


class Lease:
    """Devices held until this process ends, or `release`.

    Attributes:
        devices: those held. began: when, on the monotonic clock.
    """

    def __init__(self, devices: Sequence[Device], locks: Sequence[IO[str]]) -> None:
        self.devices, self._locks = list(devices), list(locks)
        self.began = time.monotonic()

    def release(self) -> None:
        """Gives the devices back."""
        for lock in self._locks:
            lock.close()


def visible() -> list[Device]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves this process, asked of the driver by a child.

    Raises:
        UserError: the child fails.
    """
    if driver.library() is None:
        return []
    asked = subprocess.run([sys.executable, driver.__file__], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(
            f"the CUDA driver cannot be asked for its devices ({asked.stderr.strip()[-300:]}); mend the "
            "driver, or set device: cpu"
        )
    return [Device(**found) for found in json.loads(asked.stdout)]


def slots_per_gpu() -> int:
    """How many jobs may hold one device, from the environment.

    Raises:
        UserError: the variable is no count.
    """
    text = os.environ.get(SLOTS, "1")
    if not text.isdecimal() or int(text) < 1:
        raise UserError(
            f"{SLOTS} = {text!r}: expected a whole number from 1 on; unset it, or set slots_per_gpu in the "
            "configuration"
        )
    return int(text)


def folder() -> Path:
    """Where this user's locks on this machine lie.

    Raises:
        UserError: what has its name is no folder, or somebody else's.
    """
    path = SHARED / f"crossseed-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UserError(
            f"{path}: is no folder of user {os.getuid()} but of user {found.st_uid}, or a link or a file, so that locks "
            "on GPUs cannot lie there; have it removed by who owns it"
        )
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)
    return path


def take(devices: Sequence[Device], slots: int, every: bool = False) -> Lease:
    """A lease of a device that is free, or of all; waits while there is none.

    Args:
        devices: to choose from, not empty. slots: jobs that may hold one.
        every: take all devices, whole: a model is spread over them.
    """
    home = folder()
    if every:
        # In one order, and by those alone who wait for several, so that no two wait for each other.
        names = sorted((device.uuid, slot) for device in devices for slot in range(slots))
        return Lease(devices, [_wait(home / f"{uuid}.{slot}") for uuid, slot in names])
    told = False
    while True:
        # An empty device before one that others hold a part of.
        for slot in range(slots):
            for device in devices:
                lock = _try(home / f"{device.uuid}.{slot}")
                if lock is not None:
                    return Lease([device], [lock])
        if not told:
            names_held = ", ".join(device.name for device in devices)
            print(
                f"waiting for a GPU: other jobs hold {names_held} ({slots} a device; slots_per_gpu)",
                file=sys.stderr,
                flush=True,
            )
            told = True
        time.sleep(POLL_SECONDS)


def _try(path: Path) -> IO[str] | None:
    """An open, locked file; None if another process holds the lock."""
    handle = open(path, "w")  # noqa: SIM115
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle


def _wait(path: Path) -> IO[str]:
    handle = _try(path)
    if handle is None:
        print(f"waiting for all GPUs: another job holds {path.name}", file=sys.stderr, flush=True)
    while handle is None:
        time.sleep(POLL_SECONDS)
        handle = _try(path)
    return handle
