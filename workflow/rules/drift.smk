# Drift: how each member moves over training, and away from its siblings.
#
# Needs: the members compared and their cohort's token sets; where dictionaries are tried, those
#        of the reference checkpoint.
# Makes: one table a (seed, checkpoint) for all its sites; activations are never stored.


rule drift:
    """One member beside its own reference checkpoint and the anchor at the same step."""
    input:
        member=model_of(),
        reference=model_of(checkpoint=REFERENCE),
        anchor=model_of(anchor=True),
        whole=trained_with(anchor=True),
        tokens=layout.TOKENS,
        dictionaries=drift_dictionaries_of,
    output:
        layout.DRIFT,
    log:
        "results/{cohort}/logs/drift/seed{seed}/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/drift/seed{seed}/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        device_map=lambda wildcards: RUN.cohorts[wildcards.cohort].device_map or "none",
        mem_mb=memory_of_drift,
        runtime=120,
    params:
        spec=spec("drift"),
        code=code("drift"),
    shell:
        "python -m crossseed drift"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --member {input.member:q}"
        " --reference {input.reference:q}"
        " --anchor {input.anchor:q}"
        " --tokens {input.tokens:q}"
        " --dictionaries {input.dictionaries:q}"
        " --out {output:q}"
        " &> {log:q}"


rule drift_of_seed:
    """The checkpoints of one seed, so that no command line grows with the whole sweep."""
    input:
        drift_of_seed,
    output:
        layout.DRIFT_SEED,
    log:
        "results/{cohort}/logs/drift/seed{seed}.log",
    benchmark:
        "results/{cohort}/benchmarks/drift_of_seed/seed{seed}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        spec=spec("collect", table="drift"),
        code=code("collect"),
    shell:
        "python -m crossseed collect"
        " --spec {params.spec:q}"
        " --cells {input:q}"
        " --out {output:q}"
        " &> {log:q}"
