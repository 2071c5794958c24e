"""Which heavy modules verbs import: ``imported.py`` reads a line of JSON, {label: [modules]}, and prints one.

Each label is imported in a fork, so that nothing of another is in it; those that name PyTorch first are forked from a process
that has it, since they are many.
"""

import json
import os
import sys

HEAVY, TORCH, labels = json.loads(sys.stdin.readline())


def found(names):
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            for name in names:
                __import__(name)
            heavy = [name for name in HEAVY if name in sys.modules]
            os.write(writing, json.dumps(heavy).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        return json.loads(pipe.read() or '"it cannot be imported"')


light = {label: found(names) for label, names in labels.items() if label not in TORCH}
import torch  # noqa: F401

print(json.dumps(light | {label: found(labels[label]) for label in TORCH}))
