"""What dictionaries are called: their variant and expansion, e.g. ``relu-x8``."""

from __future__ import annotations

BETWEEN = "-x"


def name_of(variant: str, expansion: int | str) -> str:
    """The name of a variant's dictionary whose latents are `expansion` times the width."""
    return f"{variant}{BETWEEN}{expansion}"


def parts_of(name: str) -> tuple[str, str]:
    """Variant and expansion, the latter as text; both empty of an empty name."""
    variant, _, expansion = name.rpartition(BETWEEN)
    return variant, expansion


def variant_of(name: str) -> str:
    """The variant alone."""
    return parts_of(name)[0]


def expansion_of(name: str) -> int:
    """The expansion alone.

    Raises:
        ValueError: the name has none.
    """
    return int(parts_of(name)[1])
