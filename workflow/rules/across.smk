# Across: the rotations of several pairs together.
#
# Needs: moments of the anchor's pairs, null draws; activations of all seeds for the cocycle.
# Makes: per site, tests of all pairs together, their pooled eigenphases, and whether rotations
# compose; per cohort, eigenphases pooled over pairs and sites.


rule across:
    """The rotations of all pairs of a site together, their eigenphases pooled."""
    input:
        maps=anchored_maps,
        null=null_of,
    output:
        table=layout.ACROSS,
        phases=layout.PHASES,
    log:
        "results/{cohort}/logs/across/{checkpoint}/{site}.log",
    benchmark:
        "results/{cohort}/benchmarks/across/{checkpoint}/{site}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("across"),
        code=code("across"),
    shell:
        "python -m crossseed across"
        " --spec {params.spec:q}"
        " --maps {input.maps:q}"
        " --null {input.null:q}"
        " --out {output.table:q}"
        " --phases {output.phases:q}"
        " &> {log:q}"


rule ks:
    """Eigenphases pooled over pairs and sites, under the published test and a calibrated one."""
    input:
        maps=maps_of_cohort,
        null=null_of,
    output:
        layout.KS,
    log:
        "results/{cohort}/logs/ks/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/ks/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("ks"),
        code=code("ks"),
    shell:
        "python -m crossseed ks"
        " --spec {params.spec:q}"
        " --maps {input.maps:q}"
        " --null {input.null:q}"
        " --out {output:q}"
        " &> {log:q}"


rule cocycle:
    """Whether the rotations of three seeds compose, on disjoint documents."""
    input:
        activations_of_seeds,
    output:
        layout.COCYCLE,
    log:
        "results/{cohort}/logs/cocycle/{checkpoint}/{site}.log",
    benchmark:
        "results/{cohort}/benchmarks/cocycle/{checkpoint}/{site}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("cocycle"),
        code=code("cocycle"),
    shell:
        "python -m crossseed cocycle"
        " --spec {params.spec:q}"
        " --activations {input:q}"
        " --out {output:q}"
        " &> {log:q}"
