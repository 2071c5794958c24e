"""Parts of documentation that programs write, between two marks of a page."""

from __future__ import annotations

from pathlib import Path

from crossseed.errors import UserError


def between(page: Path, begin: str, end: str, text: str) -> str:
    """A page with a text between its marks, which are whole lines.

    Raises:
        UserError: it has no such marks.
    """
    before, begins, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ends, after = rest.partition(end)
    if not begins or not ends:
        raise UserError(f"{page}: has no lines {begin.strip()!r} and {end.strip()!r}; add them")
    return f"{before}{begin}{text}{end}{after}"
