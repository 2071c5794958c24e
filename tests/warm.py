"""Jobs of a workflow forked from one process that has imported what verbs import.

Most of what a smoke run takes is the start of its jobs: PyTorch takes 1.5 s to import, transformers 5 s, and there are
hundreds. A server imports them, and this package, once and forks for each job; `warm.sh` makes a rule's
`python -m crossseed` ask it. The job has the environment, folder and files of its own shell; nothing of an earlier job
is in it, since no job runs in the server. That processes of their own give the same bytes is tested in a second place.

``python warm.py SOCKET`` serves until its standard input ends, as when the process that started it does; then the folder of
the socket is removed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
# What a request holds at most: a command line and an environment.
REQUEST_BYTES = 1 << 22
# Third-party modules that jobs import.
MODULES = (
    "torch",
    "transformers",
    "transformers.models.gpt_neox.modeling_gpt_neox",
    "transformers.models.bert.modeling_bert",
    "h5py",
    "jinja2",
    "matplotlib.pyplot",
    "pandas",
    "pydantic",
    "safetensors.torch",
    "scipy.optimize",
    "scipy.sparse",
    "scipy.stats",
    "seaborn",
    "tokenizers",
)


def environment(path: Path) -> dict[str, str]:
    """What makes jobs of a child process ask the server at `path`."""
    return {
        "BASH_ENV": str(HERE / "warm.sh"),
        "WARM_CLIENT": str(HERE / "warm_client.py"),
        "WARM_PYTHON": sys.executable,
        "WARM_SOCKET": str(path),
    }


def _run(request: dict, files: list[int]) -> int:
    """The job of a request, in a fork; its exit status."""
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["crossseed", *request["arguments"]]
    sys.path[:] = [part for part in sys.path if Path(part or ".").resolve() != HERE]
    try:
        runpy.run_module("crossseed", run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    # As when Python ends, without taking the imported modules apart.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def _request(client: socket.socket) -> tuple[dict, list[int]]:
    """What a client asks: sent with its three standard files, and ended by a line feed."""
    data, files, _, _ = socket.recv_fds(client, REQUEST_BYTES, 3)
    while not data.endswith(b"\n"):
        data += client.recv(REQUEST_BYTES)
    return json.loads(data), files


def serve(path: Path) -> None:
    """Forks for each request; tells the client its number, and how it ended."""
    import crossseed

    ours = (found.name for found in pkgutil.walk_packages(crossseed.__path__, "crossseed."))
    for name in (*MODULES, *ours):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    running: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listening, woken, 0], [], [])
            if 0 in ready:
                shutil.rmtree(path.parent)
                return
            if woken in ready:
                os.read(woken, 4096)
                while running:
                    child, status = os.waitpid(-1, os.WNOHANG)
                    if child == 0:
                        break
                    with running.pop(child) as client:
                        client.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))
            if listening in ready:
                client, _ = listening.accept()
                request, files = _request(client)
                child = os.fork()
                if child == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listening.close()
                    for other in running.values():
                        other.close()
                    client.close()
                    os._exit(_run(request, files))
                for file in files:
                    os.close(file)
                client.sendall(b"%d\n" % child)
                running[child] = client


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
