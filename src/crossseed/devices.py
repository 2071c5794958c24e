"""Which device a job computes on, that no other job computes there, and what it took."""

from __future__ import annotations

import functools
import os
import sys
import time
from typing import NamedTuple

from crossseed import driver, leases
from crossseed.errors import UserError
from crossseed.leases import Lease

_held: Lease | None = None


@functools.cache
def n_gpus() -> int:
    """Number of usable CUDA devices, asked of the driver without importing torch.

    Respects CUDA_VISIBLE_DEVICES; 0 where there is no driver.
    """
    return driver.count()


def resolve(device: str) -> str:
    """``cpu`` or ``cuda`` for the config's ``auto | cpu | cuda``."""
    if device == "auto":
        return "cuda" if n_gpus() else "cpu"
    return device


def usable(device: str, spread: bool = False) -> str:
    """`resolve`, for a job about to compute: a GPU must be there and PyTorch able to use it. It is
    this job's until the process ends; where others hold it, this waits.

    Args:
        device: ``auto | cpu | cuda``.
        spread: the model is spread over all devices that are visible.

    Raises:
        UserError: the device is ``cuda`` and either is missing.
    """
    if device == "cpu":
        return device
    found = _lease(spread)
    if device == "auto" and not found:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise UserError(
            f"device is cuda, but PyTorch {torch.__version__} finds none ({n_gpus()} seen by the "
            "driver); set device: cpu, or install a CUDA build of PyTorch"
        )
    return "cuda"


def _lease(spread: bool) -> bool:
    """Takes a lease, once a process, and shows it to CUDA alone; False where there is no device."""
    global _held
    if _held is not None:
        return True
    devices = leases.visible()
    if not devices:
        return False
    _held = leases.take(devices, leases.slots_per_gpu(), spread)
    if len(_held.devices) < len(devices):
        # Before CUDA starts in this process; a device that the user left visible alone stays so.
        os.environ[leases.VISIBLE] = ",".join(device.uuid for device in _held.devices)
    return True


class Usage(NamedTuple):
    """What a job took of its GPUs.

    Attributes:
        device: name. devices: how many it held. device_seconds: how long, times how many.
        peak_gpu_bytes: most memory that PyTorch held at once, over devices.
    """

    device: str
    devices: int
    device_seconds: float
    peak_gpu_bytes: int


def usage() -> Usage | None:
    """What this process has taken so far; None if it holds no GPU."""
    if _held is None:
        return None
    torch = sys.modules.get("torch")
    peak = 0
    if torch is not None and torch.cuda.is_initialized():
        peak = sum(torch.cuda.max_memory_reserved(i) for i in range(torch.cuda.device_count()))
    n = len(_held.devices)
    seconds = round(n * (time.monotonic() - _held.began), 3)
    return Usage(_held.devices[0].name, n, seconds, peak)
