"""Products of float32 matrices on a CPU, by the library that is fast there."""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

# Inner products of so many terms tell float32, off by some 1e-7, from operands rounded to 8 bits, off by some 1e-3.
PROBE = 256
LARGEST_ERROR = 1e-5


@contextmanager
def fast() -> Iterator[None]:
    """Within it PyTorch makes large float32 products as fast as this CPU can; still in float32.

    PyTorch multiplies by MKL, which on an AMD processor leaves its 512-bit registers idle; there oneDNN takes half as long.
    PyTorch goes to oneDNN where products may round operands to bfloat16, which oneDNN does on processors with tile registers
    and on no other: that it does not here is tried. Small products, as those in attention, take longer so: this is for large
    ones alone.
    """
    if not by_onednn():
        yield
        return
    before = _set("bf16")
    try:
        yield
    finally:
        _set(before)


@functools.cache
def by_onednn() -> bool:
    """Whether `fast` goes to oneDNN: on an AMD processor with 512-bit registers, if its products are float32 there."""
    # Before 2.9 PyTorch has no such setting.
    here = hasattr(torch.backends.mkldnn, "matmul") and torch.backends.mkldnn.is_available()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512" and _vendor() == "AuthenticAMD"
    if not (here and wide):
        return False
    before = _set("bf16")
    try:
        return are_float32(torch.mm)
    finally:
        _set(before)


def _set(precision: str) -> str:
    """Of products in oneDNN; returns what was set."""
    # Typed nowhere in PyTorch.
    matmul = cast(Any, torch.backends.mkldnn).matmul
    before: str = matmul.fp32_precision
    matmul.fp32_precision = precision
    return before


def are_float32(multiply: Callable[[Tensor, Tensor], Tensor]) -> bool:
    """Whether products of matrices, (n, m) of (n, k) and (k, m), are as precise as float32."""
    a, b = torch.randn((2, PROBE, PROBE), generator=torch.Generator().manual_seed(0))
    exact = a.double() @ b.double()
    return bool((multiply(a, b) - exact).norm() < LARGEST_ERROR * exact.norm())


def _vendor() -> str:
    """Of the processor, as ``AuthenticAMD``; empty where Linux does not say."""
    told = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not told.exists():
        return ""
    lines = (line.partition(":") for line in told.read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == "vendor_id"), "")
