"""Asks the server of `warm.py` for a job: in the place of ``python -m crossseed``, and as fast as Python starts."""

import json
import os
import signal
import socket
import sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["WARM_SOCKET"])
    request = {
        "arguments": sys.argv[1:],
        "folder": os.getcwd(),
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("WARM_")},
    }
    data = json.dumps(request).encode() + b"\n"
    sent = socket.send_fds(server, [data], [0, 1, 2])
    server.sendall(data[sent:])
    with server.makefile() as said:
        job = int(said.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(job, number))
        status = int(said.readline() or 1)
# A negative one is the signal that ended the job.
sys.exit(status if status >= 0 else 128 - status)
