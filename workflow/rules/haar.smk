# Haar: is the rotation between two members what chance alone would give?
#
# Needs: moments of pairs.
# Makes: null draws and a power table per size, shared by all cohorts; a table of tests per pair and
# site.


rule null:
    """Draws of every statistic under Haar measure."""
    output:
        layout.NULL,
    log:
        "results/nulls/logs/d{width}-draws{draws}.log",
    benchmark:
        "results/nulls/benchmarks/d{width}-draws{draws}.tsv"
    priority: 10
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=120,
    params:
        spec=spec("null"),
        code=code("null"),
    shell:
        "python -m crossseed null"
        " --spec {params.spec:q}"
        " --out {output:q}"
        " &> {log:q}"


rule power:
    """What each test rejects: its size, and its power against stated alternatives."""
    input:
        layout.NULL,
    output:
        layout.POWER,
    log:
        "results/nulls/logs/power-d{width}-draws{draws}-{power_draws}.log",
    benchmark:
        "results/nulls/benchmarks/power-d{width}-draws{draws}-{power_draws}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        spec=spec("power"),
        code=code("power"),
    shell:
        "python -m crossseed power"
        " --spec {params.spec:q}"
        " --null {input:q}"
        " --out {output:q}"
        " &> {log:q}"


rule haar:
    """The battery on one pair, whole and in its identified subspace."""
    input:
        maps=layout.MAPS,
        nulls=nulls_of,
    output:
        layout.HAAR,
    log:
        f"results/{{cohort}}/logs/haar/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/haar/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("haar"),
        code=code("haar"),
    shell:
        "python -m crossseed haar"
        " --spec {params.spec:q}"
        " --maps {input.maps:q}"
        " --nulls {input.nulls:q}"
        " --out {output:q}"
        " &> {log:q}"
