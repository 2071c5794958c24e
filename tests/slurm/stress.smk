# Cells that a cluster gives trouble: each writes what its number and `--config value=` say, at once and whole, and a
# line of how often it began. `--config trouble=NAME` says which trouble the second of them, or the third to begin, has.

from crossseed import batches, environment

batches.in_one_job(workflow)


onstart:
    environment.mark_what_is_made_again(workflow)


TROUBLE = config.get("trouble", "none")
HELD = "python3 -c 'import time; held = bytearray(400 * 2**20); time.sleep(6)'"
THIRD = 'test $(wc -l < began) -ne 3 || echo {} > .third; test "$(cat .third 2> /dev/null)" != {} || '
TROUBLES = {
    "none": "",
    "fails": "test -e tried || { touch tried; exit 3; }",
    "always": "exit 3",
    "time": "test -e .state.resume || { touch .state.resume; sleep 600; }",
    "memory": HELD,
}
OF_THIRD = {
    "third-time": "test -e .state.resume || { touch .state.resume; sleep 600; }",
    "third-memory": HELD,
}


def trouble(wildcards):
    if TROUBLE in OF_THIRD:
        return THIRD.replace("{}", wildcards.n) + "{ " + OF_THIRD[TROUBLE] + "; }"
    return TROUBLES[TROUBLE] if wildcards.n == "1" else ""


def minutes(wildcards):
    """Of a batch they add up."""
    if TROUBLE == "third-time":
        return 1 if wildcards.n == "0" else 0
    return 1 if TROUBLE == "time" else 5


rule all:
    input:
        "all.txt",


rule cell:
    output:
        "cells/{n}.txt",
    threads: 1
    resources:
        mem_mb=400,
        runtime=minutes,
        gpu=config.get("gpu", 0),
    params:
        trouble=trouble,
        value=config.get("value", "none"),
        seconds=config.get("seconds", 1),
    shell:
        "echo {wildcards.n} >> began; {params.trouble}\n"
        "sleep {params.seconds}\n"
        "(echo {params.value}; seq {wildcards.n} 5000) > {output}.tmp; mv {output}.tmp {output}"


rule collect:
    input:
        expand("cells/{n}.txt", n=range(int(config.get("cells", 4)))),
    output:
        "all.txt",
    localrule: True
    shell:
        "cat {input} > {output}"


batches.ask_for_more_when_tried_again(workflow)
