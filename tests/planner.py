"""Runs Snakemake many times: it is imported once, and forked for each.

Reads lines of JSON: where to write what Snakemake says, and its arguments beside those of this process. Says ``done`` or
how the fork ended.

What a plan does whatever the configuration is done once: the first fork tells which modules it imported, which regular
expressions it compiled, and what the rule files are as Python, and later forks start with all of it.
"""

import gc
import importlib
import json
import os
import pickle
import re
import sys

import snakemake.cli
import snakemake.workflow

from crossseed import cli, closure

for name in ("config.load", "estimate", "specs"):
    importlib.import_module(f"crossseed.{name}")
closure.closure(f"crossseed.verbs.{verb}" for verb in cli.VERBS)
for path in closure.ROOT.rglob("*.py"):
    closure._parsed(path)
# A plan compiles more than are kept otherwise.
re._MAXCACHE = 1 << 14

# Rule files as Python, by place and by how many rules come before them.
PARSED = {}
parse = snakemake.workflow.parse


def parse_once(path, workflow, linemap, overwrite_shellcmd=None, rulecount=0):
    key = str(path.get_path_or_uri(secret_free=True)), rulecount
    if key not in PARSED:
        PARSED[key] = (*parse(path, workflow, linemap, overwrite_shellcmd, rulecount), linemap)
    code, count, lines = PARSED[key]
    linemap |= lines
    return code, count


snakemake.workflow.parse = parse_once


def learnt() -> bytes:
    """What later plans need not find out again."""
    patterns = [(pattern, flags) for kind, pattern, flags in re._cache if kind is str]
    return pickle.dumps((sorted(sys.modules), patterns, PARSED))


def learn(told: bytes) -> None:
    names, patterns, parsed = pickle.loads(told)
    for name in names:
        # Some are made up by others, such as Snakefiles.
        if name not in sys.modules and name.partition(".")[0] in sys.modules:
            try:
                importlib.import_module(name)
            except ImportError:
                continue
    for pattern, flags in patterns:
        re.compile(pattern, flags)
    PARSED.update(parsed)
    gc.freeze()


def plan(out: str, args: list[str], first: bool) -> int:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        # Memory is given back when the fork ends.
        gc.disable()
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        status = 0
        try:
            snakemake.cli.main([*sys.argv[1:], *args])
        except SystemExit as end:
            status = int(end.code or 0)
        sys.stdout.flush()
        if first:
            with open(writing, "wb") as told:
                told.write(learnt())
        os._exit(status)
    os.close(writing)
    with open(reading, "rb") as told:
        found = told.read()
    if found:
        learn(found)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


for number, line in enumerate(sys.stdin):
    status = plan(*json.loads(line), first=number == 0)
    print("done" if status == 0 else f"exit status {status}", flush=True)
