"""For which sizes of matrices null draws are made."""

from __future__ import annotations

# Below this size a spectrum has too few angles for spacings or a law of traces to mean anything.
SMALLEST = 8


def sizes(width: int) -> list[int]:
    """Sizes whose nulls a site of this width may need: the width, halved until `SMALLEST`."""
    found = [width]
    while found[-1] // 2 >= SMALLEST:
        found.append(found[-1] // 2)
    return found
