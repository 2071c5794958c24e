"""Packages of the system that tests want, installed where this can be done: as root, on a Debian or Ubuntu."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence


class PackageError(Exception):
    """Packages cannot be had here; the message says why and what to do."""


def install(packages: Sequence[str]) -> None:
    """Installs packages with apt-get.

    Raises:
        PackageError: the user is not root, it is another system, or apt-get fails.
    """
    if os.geteuid() != 0:
        raise PackageError(f"Install them: sudo apt-get install {' '.join(packages)}")
    if shutil.which("apt-get") is None:
        raise PackageError("Install them with this system's own means")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    options = ["-y", "-q", "--no-install-recommends"]
    for command in (["update", "-q"], ["install", *options, *packages]):
        done = subprocess.run(
            ["apt-get", *command], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip()[-500:]
            raise PackageError(f"apt-get {command[0]} failed: {last}")
