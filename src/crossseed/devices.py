"""Which device a job computes on."""

from __future__ import annotations

import ctypes
import functools


@functools.cache
def n_gpus() -> int:
    """Number of usable CUDA devices, asked of the driver without importing torch.

    Respects CUDA_VISIBLE_DEVICES; 0 where there is no driver.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def resolve(device: str) -> str:
    """``cpu`` or ``cuda`` for the config's ``auto | cpu | cuda``."""
    if device == "auto":
        return "cuda" if n_gpus() else "cpu"
    return device
