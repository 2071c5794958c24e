"""Files and folders written whole or not at all.

They are written under a temporary name in the same folder and renamed, so that a killed job leaves nothing that looks
finished; what it leaves under that name goes when the file is written again.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

# Of a file or folder being written: its name, the machine and the process that writes it.
TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<host>[^.]*)-(?P<pid>\d+)\.tmp")
# Where this process wrote something, in order.
WRITTEN: list[Path] = []


def _host() -> str:
    return socket.gethostname().replace(".", "_")


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{_host()}-{os.getpid()}.tmp")


def sweep(path: Path) -> None:
    """Deletes what processes of this machine that are no more left half written under temporary names
    of `path`."""
    for other in path.parent.glob(".*.tmp"):
        found = TEMPORARY.fullmatch(other.name)
        if found is None or (found["name"], found["host"]) != (path.name, _host()):
            continue
        if not alive(_host(), int(found["pid"])):
            if other.is_dir():
                shutil.rmtree(other, ignore_errors=True)
            else:
                other.unlink(missing_ok=True)


def alive(host: str, pid: int) -> bool:
    """Whether a process is there; of other machines' that is not known, and taken as no."""
    if host != _host():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; renames it to `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = _temporary(path)
    try:
        yield temporary
        _onto_disk(temporary)
        os.replace(temporary, path)
        WRITTEN.append(path)
    finally:
        temporary.unlink(missing_ok=True)


def _onto_disk(path: Path) -> None:
    with open(path, "rb") as handle:
        os.fsync(handle.fileno())


@contextmanager
def writing_folder(path: Path) -> Iterator[Path]:
    """Yields an empty folder beside `path`, under a temporary name; deletes it afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    temporary = _temporary(path)
    # Of a killed job that had the number of this process.
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def move_into_place(paths: Sequence[Path]) -> Iterator[Path]:
    """Yields an empty folder; files that the block writes there are moved to `paths` by name.

    For libraries that write folders: the files, all of one folder, appear only when complete.

    Raises:
        RuntimeError: the block did not write one of them.
    """
    home = Path(paths[0]).parent
    with writing_folder(Path(paths[0])) as folder:
        yield folder
        written = {path.name for path in folder.iterdir()}
        missing = {path.name for path in paths} - written
        if missing:
            raise RuntimeError(
                f"{home}: {sorted(missing)} were not written, only {sorted(written)}"
            )
        for path in paths:
            _onto_disk(folder / path.name)
        for path in paths:
            os.replace(folder / path.name, path)
            WRITTEN.append(path)
