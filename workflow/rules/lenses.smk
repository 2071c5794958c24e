# Lenses: what can be seen of the components of one member.
#
# Needs: trained members of cohorts whose symmetries are known, their token sets.
# Makes: a table per member.


rule lenses:
    """Components of a member seen through weights, dictionaries, cuts, regions and roles."""
    input:
        model=model_of(),
        tokens=layout.TOKENS,
    output:
        layout.LENSES,
    log:
        "results/{cohort}/logs/lenses/seed{seed}/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/lenses/seed{seed}/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_interventions,
        runtime=240,
    params:
        spec=spec("lenses"),
        code=code("lenses"),
    shell:
        "python -m crossseed lenses"
        " --spec {params.spec:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --out {output:q}"
        " &> {log:q}"
