"""What the Haar tests reject: no matter of speed, but as long to compute."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossseed.haar import null, power


def power_tables() -> list[dict[str, Any]]:
    """What the Haar tests reject at the sizes of the toy and of Pythia-70m. At the larger, where a
    draw takes a third of a second, power comes from fewer draws than size, and without curves."""
    found = power.table(null.draw(64, 9999), 1000)
    at_512 = null.draw(512, 9999)
    found += power.table(at_512, 1000, ["haar"], curves=())
    others = [name for name in power.ALTERNATIVES if name != "haar"]
    found += power.table(at_512, 150, others, curves=())
    return [{**r, "strength": "" if np.isnan(r["strength"]) else r["strength"]} for r in found]
