# Cells that a cluster gives trouble: each writes what its number says, at once and whole, and a line
# of how often it began. `--config trouble=NAME` says which trouble the second of them has.

from crossseed import batches

batches.in_one_job()
batches.ask_slurm_again()

TROUBLE = config.get("trouble", "none")
TROUBLES = {
    "none": "",
    "fails": "test -e tried || { touch tried; exit 3; }",
    "always": "exit 3",
    "time": "test -e .state.resume || { touch .state.resume; sleep 600; }",
    "memory": "python3 -c 'import time; held = bytearray(400 * 2**20); time.sleep(6)'",
}


rule all:
    input:
        "all.txt",


rule cell:
    output:
        "cells/{n}.txt",
    threads: 1
    resources:
        mem_mb=400,
        runtime=1 if TROUBLE == "time" else 5,
    params:
        trouble=lambda wildcards: TROUBLES[TROUBLE] if wildcards.n == "1" else "",
        seconds=config.get("seconds", 1),
    shell:
        "echo {wildcards.n} >> began; {params.trouble}\n"
        "sleep {params.seconds}\n"
        "seq {wildcards.n} 5000 > {output}.tmp; mv {output}.tmp {output}"


rule collect:
    input:
        expand("cells/{n}.txt", n=range(int(config.get("cells", 4)))),
    output:
        "all.txt",
    localrule: True
    shell:
        "cat {input} > {output}"


batches.ask_for_more_when_tried_again(workflow)
