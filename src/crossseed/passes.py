"""Which sites are read in one forward pass, remembered from run to run.

One forward pass writes the files of all its sites, and Snakemake reruns every reader of every
file of a job that runs again. So a site added later gets a pass of its own, which leaves the
files of the others alone. A cohort's passes are kept beside its activations; deleting the
record, or the folder, only means that all sites are read in one pass again. Checks of members are
remembered likewise; their record and their tables go together, so delete the folder as a whole.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Sequence
from pathlib import Path

from crossseed.store import write_text


def recorded(path: Path) -> list[list[str]]:
    """The passes recorded at `path`; none if there is no readable record."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [[str(site) for site in sites] for sites in found if isinstance(sites, list)]


def planned(path: Path, sites: Sequence[str]) -> list[list[str]]:
    """The passes that read `sites`: recorded ones first, one more for sites in none of them."""
    old = recorded(path)
    known, wanted = {site for group in old for site in group}, set(sites)
    new = [site for site in sites if site not in known]
    return [[site for site in group if site in wanted] for group in old] + ([new] if new else [])


def record(path: Path, sites: Sequence[str]) -> None:
    """Adds a pass to the record, unless all its sites are in it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        old = recorded(path)
        known = {site for group in old for site in group}
        new = [site for site in sites if site not in known]
        if new:
            write_text(path, json.dumps([*old, new], indent=1) + "\n")
