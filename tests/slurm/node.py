"""A real SLURM of one node, for tests: started in a scratch folder, stopped without a trace.

python tests/slurm/node.py --packages          installs slurm-wlm and munge where it can
python tests/slurm/node.py -- COMMAND …        runs a command beside a running SLURM
python tests/slurm/node.py                     keeps one running until Ctrl-C

SLURM's commands read /etc/slurm, whatever SLURM_CONF says: Snakemake's jobs lose that variable.
So the configuration is put there, never over one that is not ours, and taken away again.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

# Beside the tests, whether it is run by its name or imported by one of them.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import system_packages
from slurm import configuration

ETC = Path("/etc/slurm")
OURS = ("slurm.conf", "gres.conf", "slurmdbd.conf")
# What Debian's slurm-client puts there; it configures nothing.
PACKAGED = {"plugstack.conf", "plugstack.conf.d"}
MARK = re.compile(r"# crossseed's one-node SLURM for tests: process (\d+), folder (.+)\n")
COMMANDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "sinfo", "scancel")
PACKAGES = ("slurm-wlm", "munge")
# For accounting; `make test-slurm` does without where they are not there.
ACCOUNTING = ("mariadbd", "mariadb-install-db", "slurmdbd", "sacctmgr", "sacct")
ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
READY_SECONDS = 60
STOP_SECONDS = 20


class NodeError(Exception):
    """SLURM cannot be had here; the message says why and what to do."""


def missing(commands: tuple[str, ...] = COMMANDS) -> list[str]:
    """The commands, of SLURM and munge, that are not installed."""
    return [name for name in commands if find(name) is None]


def find(command: str) -> str | None:
    return shutil.which(command, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def install() -> None:
    """Installs what is missing, as root on a Debian or Ubuntu.

    Raises:
        NodeError: it is another system or user, apt-get fails, or no SLURM may be started here.
    """
    absent = missing()
    told = (
        f"{', '.join(absent)}: not installed; the packages are {' and '.join(PACKAGES)} on Debian "
        "and Ubuntu"
    )
    # Before the machine is looked at, which root alone could use.
    if absent and os.geteuid() != 0:
        raise NodeError(f"{told}. Install them: sudo apt-get install {' '.join(PACKAGES)}")
    refuse_elsewhere()
    if not absent:
        return
    try:
        system_packages.install(PACKAGES)
    except system_packages.PackageError as error:
        raise NodeError(f"{told}. {error}") from None
    if missing():
        raise NodeError(f"{', '.join(missing())}: not there after installing {PACKAGES}")


def refuse_elsewhere() -> None:
    """Refuses a user who cannot, and a machine on which nobody should, put a configuration.

    Raises:
        NodeError: the user is not root, or the machine has a SLURM of its own.
    """
    if os.geteuid() != 0:
        raise NodeError(f"{ETC}: only root can put a configuration there; run as root")
    found = sorted(path.name for path in ETC.iterdir()) if ETC.exists() else []
    foreign = [name for name in found if name not in PACKAGED and not ours(ETC / name)]
    if foreign:
        raise NodeError(
            f"{ETC}/{foreign[0]}: this machine has a SLURM configuration of its own, which is not "
            "overwritten; run the test in a container or on another machine"
        )


def ours(path: Path) -> bool:
    """Whether a file of `ETC` was put there by a run of this test."""
    return path.name in OURS and MARK.match(path.read_text()) is not None


@contextlib.contextmanager
def running(accounting: bool = False) -> Iterator[Path]:
    """A SLURM with 3 CPUs, one pretended GPU and the partition ``debug``; yields its folder.

    With accounting, which starts a database, `sacct` knows its jobs.

    Raises:
        NodeError: SLURM is not installed, the user is not root, the machine has a SLURM of its
            own, or the daemons do not come up.
    """
    if missing():
        raise NodeError(
            f"{', '.join(missing())}: not installed. Run: python tests/slurm/node.py --packages"
        )
    if accounting and missing(ACCOUNTING):
        raise NodeError(
            f"{', '.join(missing(ACCOUNTING))}: not installed; accounting needs the packages "
            f"{' and '.join(ACCOUNTING_PACKAGES)}"
        )
    refuse_elsewhere()
    # Sockets have short names, and munged wants folders that others may enter.
    folder = Path(tempfile.mkdtemp(prefix="crossseed-slurm-"))
    folder.chmod(0o755)
    with terminable():
        try:
            made = claim(folder, accounting)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        try:
            start(folder, accounting)
            yield folder
        finally:
            with uninterrupted():
                stop(folder)
                release(made)
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM becomes an exception like SIGINT, so that what was started is stopped."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """A second Ctrl-C does not cut the cleaning up short."""
    handlers = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def claim(folder: Path, accounting: bool) -> bool:
    """Puts the configuration into `ETC`; True if the folder had to be made."""
    take_over_leftover()
    made = not ETC.exists()
    ETC.mkdir(exist_ok=True)
    host = socket.gethostname().split(".")[0]
    controller_port, node_port, port, storage_port = free_ports(4)
    mark = f"# crossseed's one-node SLURM for tests: process {os.getpid()}, folder {folder}\n"
    text = configuration.SLURM_CONF.format(
        host=host,
        folder=folder,
        controller_port=controller_port,
        node_port=node_port,
        accounting=configuration.WITH_ACCOUNTING.format(port=port, folder=folder)
        if accounting
        else configuration.NO_ACCOUNTING,
    )
    try:
        # Exclusively: of two that start at once, one goes on.
        with open(ETC / "slurm.conf", "x") as file:
            file.write(mark + text)
    except FileExistsError:
        raise NodeError(f"{ETC}/slurm.conf: another run of this test was quicker; wait") from None
    (ETC / "gres.conf").write_text(mark + configuration.GRES_CONF.format(host=host))
    if accounting:
        path = ETC / "slurmdbd.conf"
        path.touch(mode=0o600)
        path.write_text(
            mark
            + configuration.SLURMDBD_CONF.format(
                folder=folder, port=port, storage_port=storage_port
            )
        )
        (folder / "storage.port").write_text(str(storage_port))
    return made


def take_over_leftover() -> None:
    """Removes what a killed run of this test left; refuses while that run is alive."""
    path = ETC / "slurm.conf"
    mark = MARK.match(path.read_text()) if path.exists() else None
    if mark is None:
        return
    owner, folder = int(mark[1]), Path(mark[2])
    if Path(f"/proc/{owner}").exists():
        raise NodeError(
            f"{path}: in use by another run of this test, process "
            f"{owner}; wait for it, or delete the file if that process is something else"
        )
    stop(folder)
    release(made=False)
    shutil.rmtree(folder, ignore_errors=True)


def release(made: bool) -> None:
    for name in OURS:
        (ETC / name).unlink(missing_ok=True)
    if made:
        ETC.rmdir()


def free_ports(n: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start_storage(folder: Path) -> None:
    """The database of the accounting."""
    data, sql = folder / "database", folder / "storage.sql"
    sql.write_text(configuration.STORAGE_SQL)
    made = [str(find("mariadb-install-db")), "--no-defaults", "--user=root", f"--datadir={data}"]
    subprocess.run(
        [*made, "--skip-test-db", "--auth-root-authentication-method=normal"],
        capture_output=True,
        check=True,
    )
    words = [str(find("mariadbd")), "--no-defaults", "--user=root", f"--datadir={data}"]
    words += [f"--socket={folder}/mariadb.socket", f"--pid-file={folder}/mariadbd.pid"]
    words += [f"--port={(folder / 'storage.port').read_text()}", "--bind-address=127.0.0.1"]
    words += ["--skip-name-resolve", f"--init-file={sql}"]
    with open(folder / "mariadbd.out", "w") as out:
        subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    # It writes the file when it listens.
    if not wait(lambda: (folder / "mariadbd.pid").exists()):
        raise NodeError(f"mariadbd did not start:\n{last_words(folder)}")


def has_cluster() -> bool:
    """Whether the accounting knows the cluster, which is added where it does not."""
    ask("sacctmgr", "--immediate", "add", "cluster", "crossseed")
    return "crossseed" in ask("sacctmgr", "--noheader", "list", "cluster", "format=cluster")


def start(folder: Path, accounting: bool = False) -> None:
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    daemons = {
        "munged": [
            "--force",
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log",
            f"--seed-file={folder}/munged.seed",
        ],
        **({"slurmdbd": []} if accounting else {}),
        "slurmctld": [],
        "slurmd": [],
    }
    if accounting:
        start_storage(folder)
    for name, arguments in daemons.items():
        # To a file, not to pipes, which a daemon would keep open.
        with open(folder / f"{name}.out", "w") as out:
            done = subprocess.run(
                [str(find(name)), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                check=False,
            )
        if done.returncode != 0:
            raise NodeError(f"{name} did not start (exit {done.returncode}):\n{last_words(folder)}")
        if name == "slurmdbd" and not wait(has_cluster):
            raise NodeError(f"slurmdbd does not answer:\n{last_words(folder)}")
    end = time.monotonic() + READY_SECONDS
    while ask("sinfo", "--noheader", "--format=%T") != "idle":
        if time.monotonic() > end:
            raise NodeError(f"no node after {READY_SECONDS} s:\n{last_words(folder)}")
        time.sleep(0.5)


def stop(folder: Path) -> None:
    """Cancels all jobs and ends the daemons, by the process ids they wrote down."""
    if pid_of(folder, "slurmctld"):
        jobs = ask("squeue", "--noheader", "--format=%A").split()
        if jobs:
            ask("scancel", *jobs)
        # A job that runs has a socket in the spool folder.
        wait(lambda: not any(path.is_socket() for path in (folder / "spool").iterdir()))
    for name in ("slurmd", "slurmctld", "slurmdbd", "mariadbd", "munged"):
        pid = pid_of(folder, name)
        if pid is None:
            continue
        os.kill(pid, signal.SIGTERM)
        if not wait(lambda name=name: pid_of(folder, name) is None):
            os.kill(pid, signal.SIGKILL)


def pid_of(folder: Path, name: str) -> int | None:
    """The process of a daemon of this folder; None if it has ended."""
    try:
        pid = int((folder / f"{name}.pid").read_text())
        # An id may have passed on to another process.
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    except (OSError, ValueError):
        return None
    return pid if Path(command).name.startswith(name) else None


def wait(condition) -> bool:
    end = time.monotonic() + STOP_SECONDS
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def ask(command: str, *arguments: str) -> str:
    """What a command of SLURM prints; nothing where it fails or the controller is silent."""
    try:
        done = subprocess.run(
            [str(find(command)), *arguments],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def last_words(folder: Path) -> str:
    paths = [*sorted(folder.glob("*.out")), *sorted(folder.glob("*.log"))]
    return "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in paths)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--packages", action="store_true", help="install slurm-wlm and munge")
    parser.add_argument("--accounting", action="store_true", help="with a database for sacct")
    parser.add_argument("command", nargs="*", help="run this, then stop")
    given = parser.parse_args()
    try:
        if given.packages:
            install()
            return 0
        with running(given.accounting) as folder:
            if given.command:
                return subprocess.run(given.command, check=False).returncode
            print(f"SLURM runs in {folder}; Ctrl-C stops it", flush=True)
            signal.pause()
    except NodeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
