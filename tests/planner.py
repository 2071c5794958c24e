"""Plans many configurations of one finished run: Snakemake is imported once, and forked for each.

Reads lines ``CONFIG OUT`` and writes the run's `--detailed-summary` under that configuration to OUT; says ``done`` or
how the fork ended. Arguments are those of Snakemake but for the configuration.
"""

import importlib
import os
import sys

import snakemake.cli

from crossseed import closure

# What every plan imports, and parses; the forks have it already.
for name in ("config.load", "estimate", "specs"):
    importlib.import_module(f"crossseed.{name}")
for path in closure.ROOT.rglob("*.py"):
    closure._parsed(path)


def plan(config: str, out: str) -> int:
    child = os.fork()
    if child == 0:
        file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, 1)
        os.dup2(file, 2)
        try:
            snakemake.cli.main([*sys.argv[1:], "--detailed-summary", "--configfile", config])
        except SystemExit as end:
            sys.stdout.flush()
            os._exit(int(end.code or 0))
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


for line in sys.stdin:
    status = plan(*line.split())
    print("done" if status == 0 else f"exit status {status}", flush=True)
