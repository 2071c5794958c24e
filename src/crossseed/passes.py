"""Which sites are read in one forward pass, remembered from run to run.

One forward pass writes the files of all its sites, and Snakemake reruns every reader of every
file of a job that runs again. So a site added later gets a pass of its own, which leaves the
files of the others alone. A cohort's passes are kept beside its activations; deleting the
record, or the folder, only means that all sites are read in one pass again. Checks of members are
remembered likewise; their record and their tables go together, so delete the folder as a whole. A check
names its members on a command line, which holds 131,072 characters, so that thousands are several checks.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from crossseed.errors import UserError
from crossseed.store import canonical_json, write_text

# Members of one check: `seed1/step1000=organisation/name@revision` is some 60 characters.
MOST_MEMBERS = 800


def recorded(path: Path) -> list[list[str]]:
    """The passes recorded at `path`; none where there is no record.

    Raises:
        UserError: the record is not as it was written.
    """
    try:
        found = json.loads(Path(path).read_bytes())
    except FileNotFoundError:
        return []
    except ValueError:
        found = None
    if isinstance(found, list) and all(isinstance(sites, list) for sites in found):
        # As records were before they had a digest.
        found = {"passes": found, "digest": _digest(found)}
    groups = found.get("passes") if isinstance(found, dict) else None
    if not isinstance(groups, list) or found.get("digest") != _digest(groups):
        raise UserError(
            f"{path}: is damaged; restore it, or delete it together with its folder: what is in there is then made again"
        )
    return [[str(site) for site in sites] for sites in groups]


def _digest(groups: list[list[str]]) -> str:
    return hashlib.sha256(canonical_json(groups).encode()).hexdigest()[:32]


def planned(path: Path, sites: Sequence[str], most: int | None = None) -> list[list[str]]:
    """The passes that read `sites`: recorded ones first, then those for sites in none of them.

    Args:
        most: of one new pass; None puts all new sites into one. New passes have the numbers that passes between recorded
            ones left open, so that they keep theirs while others of them end.
    """
    old = recorded(path)
    known, wanted = {site for group in old for site in group}, set(sites)
    new = [site for site in sites if site not in known]
    size = most or max(len(new), 1)
    groups = iter([new[start : start + size] for start in range(0, len(new), size)])
    filled = [
        [site for site in group if site in wanted] if group else next(groups, []) for group in old
    ]
    return [*filled, *groups]


def record(path: Path, sites: Sequence[str], number: int | None = None) -> None:
    """Adds a pass to the record, unless all its sites are in it; at its number, if that is still open."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        groups = recorded(path)
        known = {site for group in groups for site in group}
        new = [site for site in sites if site not in known]
        if not new:
            return
        if number is None or (number < len(groups) and groups[number]):
            number = len(groups)
        groups += [[] for _ in range(number + 1 - len(groups))]
        groups[number] = new
        content = {"digest": _digest(groups), "passes": groups}
        write_text(path, json.dumps(content, indent=1) + "\n")
