"""Counts what planning calls: ``counted.py REMEMBER FOLDER CONFIG…`` prints a line of JSON for each configuration.

A line holds the jobs of the plan, the calls of functions of this package and of the rule files, and how often the file
system was asked after a file. With REMEMBER 0 nothing is kept of a run between two cells that ask the same.
"""

import cProfile
import json
import os
import re
import sys
from pathlib import Path

import snakemake.cli

from crossseed import once

ROOT = Path(__file__).parent.parent
OURS = (str(ROOT / "src"), str(ROOT / "workflow"))


def counts(profile: cProfile.Profile) -> dict[str, int]:
    found = {"calls": 0, "stats": 0}
    for entry in profile.getstats():
        if isinstance(entry.code, str):
            found["stats"] += entry.callcount if "posix.stat" in entry.code else 0
        elif entry.code.co_filename.startswith(OURS):
            found["calls"] += entry.callcount
    return found


remember, folder, *configs = sys.argv[1:]
if remember == "0":
    once.once_a_run = lambda function: function
for config in configs:
    out = Path(folder) / f"{Path(config).stem}.txt"
    sys.stdout.flush()
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, out.read_text()[-3000:]
        continue
    said = os.dup(1)
    for number in (1, 2):
        os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT), number)
    profile, end = cProfile.Profile(), 1
    profile.enable()
    try:
        args = ["--snakefile", str(ROOT / "Snakefile"), "--directory", folder, "--nolock"]
        snakemake.cli.main([*args, "--dry-run", "--quiet", "rules", "--configfile", config])
    except SystemExit as ended:
        end = ended.code or 0
    profile.disable()
    sys.stdout.flush()
    jobs = int(re.findall(r"^total +(\d+)$", out.read_text(), re.M)[-1]) if not end else 0
    os.write(said, json.dumps({"jobs": jobs, **counts(profile)}).encode() + b"\n")
    os._exit(end)
