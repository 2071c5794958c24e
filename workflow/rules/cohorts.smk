# Cohorts: the token sets and the members.
#
# Needs: the configuration; for a seed that shares tensors, the anchor's checkpoints.
# Makes: one token file a cohort, one file of checkpoints a seed, with its training tables.


rule tokens:
    """The sequences on which a cohort is compared, split into fit, train and eval."""
    output:
        layout.TOKENS,
    log:
        "results/{cohort}/logs/tokens.log",
    benchmark:
        "results/{cohort}/benchmarks/tokens.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=spec("tokens"),
        code=code("tokens"),
    shell:
        "python -m crossseed tokens"
        " --spec {params.spec:q}"
        " --out {output:q}"
        " &> {log:q}"


rule train:
    """One seed of a cohort; seeds that share tensors wait for the anchor."""
    input:
        anchor=anchor_model,
    output:
        checkpoints=layout.MODEL,
        curve="results/{cohort}/models/seed{seed}/training.csv",
        accuracy="results/{cohort}/models/seed{seed}/accuracy.csv",
    log:
        "results/{cohort}/logs/train/seed{seed}.log",
    benchmark:
        "results/{cohort}/benchmarks/train/seed{seed}.tsv"
    priority: 100  # models gate everything else
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=2000,
        runtime=240,
    params:
        spec=spec("train"),
        code=code("train"),
    shell:
        "python -m crossseed train"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --anchor {input.anchor:q}"
        " --out {output.checkpoints:q}"
        " --curve {output.curve:q}"
        " --accuracy {output.accuracy:q}"
        " &> {log:q}"
