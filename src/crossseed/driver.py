"""What the CUDA driver shows: run as a program, ``python driver.py``, it prints a JSON list.

A process that asks the driver has it read CUDA_VISIBLE_DEVICES for good. A job that has still to choose among
several devices therefore asks through a child. Needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import uuid
from typing import Any


def library() -> Any:
    """The driver, not yet initialised; None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def count() -> int:
    """How many devices the driver shows to this process."""
    driver = library()
    found = ctypes.c_int(0)
    if driver is None or driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(found)) != 0:
        return 0
    return found.value


def devices() -> list[dict[str, Any]]:
    """``uuid`` as CUDA_VISIBLE_DEVICES takes it, ``name`` and ``bytes`` of each device, in the driver's order."""
    driver, found = library(), []
    for number in range(count()):
        name, total = ctypes.create_string_buffer(256), ctypes.c_size_t(0)
        handle, identity = ctypes.c_int(0), (ctypes.c_ubyte * 16)()
        driver.cuDeviceGet(ctypes.byref(handle), number)
        driver.cuDeviceGetName(name, len(name), handle)
        driver.cuDeviceTotalMem_v2(ctypes.byref(total), handle)
        ask = getattr(driver, "cuDeviceGetUuid_v2", driver.cuDeviceGetUuid)
        ask(ctypes.byref(identity), handle)
        called = name.value.decode(errors="replace")
        kind = "MIG" if " MIG " in f"{called} " else "GPU"
        text = f"{kind}-{uuid.UUID(bytes=bytes(identity))}"
        found.append({"uuid": text, "name": called, "bytes": total.value})
    return found


if __name__ == "__main__":
    print(json.dumps(devices()))
