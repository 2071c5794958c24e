"""Which device a job computes on."""

from __future__ import annotations

import ctypes
import functools

from crossseed.errors import UserError


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


def usable(device: str) -> str:
    """`resolve`, for a job about to compute: a GPU must be there and PyTorch able to use it.

    Raises:
        UserError: the device is ``cuda`` and either is missing.
    """
    import torch

    device = resolve(device)
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(
            f"device is cuda, but PyTorch {torch.__version__} finds none ({n_gpus()} seen by the "
            "driver); set device: cpu, or install a CUDA build of PyTorch"
        )
    return device
