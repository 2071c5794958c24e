# Claims: every published figure beside what the run measured and its control.
#
# Needs: activations of pairs and the source's dictionaries; the run's joined tables;
#        resources/published/*.csv.
# Makes: one table by the published protocol per pair and site, and the run's claims.

# Figures of each study whose quantities the run measures.
PUBLISHED = [
    resource("published/rotation.csv"),
    *([resource("published/stability.csv")] if RUN.stability else []),
    *([resource("published/joint.csv")] if RUN.joint else []),
]


rule published:
    """A pair by the study's own protocol: for the claims table alone."""
    input:
        source=activations_of("source"),
        target=activations_of("target"),
        dictionaries=published_dictionaries,
    output:
        layout.PUBLISHED,
    log:
        f"results/{{cohort}}/logs/published/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/published/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=lambda wildcards: estimate.published_mb(RUN, wildcards.cohort),
        runtime=120,
    params:
        spec=spec("published"),
        code=code("published"),
    shell:
        "python -m crossseed published"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --dictionaries {input.dictionaries:q}"
        " --out {output:q}"
        " &> {log:q}"


rule claims:
    """A verdict on each published figure."""
    input:
        tables=tables_among(plan.CLAIMED_TABLES),
        published=PUBLISHED,
    output:
        report(
            layout.CLAIMS,
            category="Tables",
            caption="../report/table.rst",
        ),
    log:
        f"{layout.REPORT}/logs/claims.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/claims.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        spec=spec("claims"),
        code=code("claims"),
    shell:
        "python -m crossseed claims"
        " --spec {params.spec:q}"
        " --tables {input.tables:q}"
        " --published {input.published:q}"
        " --out {output:q}"
        " &> {log:q}"
