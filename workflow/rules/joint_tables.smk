# Joint SAEs: the map against others, edited sentences, and what pairs have in common.
#
# Needs: SAEs of a pair, retrainings, all that is clean of both models; the run's joined tables.
# Makes: per pair tests of its map and what edits of sentences do; tables over the pairs of a cohort.


rule joint_tests:
    """Whether the map is better than others: retrained, and by what needs no training."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
        maps=layout.JOINT_MAPS,
        retrained=retrained_of,
        saes=tested_sae,
    output:
        layout.JOINT_TESTS,
    log:
        f"results/{{cohort}}/logs/joint_tests/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_tests/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_joint,
        runtime=240,
    params:
        spec=spec("joint_tests"),
        code=code("joint_tests"),
    shell:
        "python -m crossseed joint_tests"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --maps {input.maps:q}"
        " --retrained {input.retrained:q}"
        " --saes {input.saes:q}"
        " --out {output:q}"
        " &> {log:q}"


rule joint_counterfactuals:
    """Latents that tell classes apart, in sentences that are edited as little as can be."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
        source_model=model_of(role="source"),
        target_model=model_of(role="target"),
        source_whole=trained_with(role="source"),
        target_whole=trained_with(role="target"),
        saes=edited_sae,
        edits=lambda wildcards: EDITS[wildcards.cohort],
        grammar=lambda wildcards: GRAMMARS[wildcards.cohort],
        tokenizer=tokenizer_of,
    output:
        table=layout.JOINT_COUNTERFACTUALS,
        single=layout.JOINT_ITEMS,
        contexts=layout.JOINT_CONTEXTS,
    log:
        f"results/{{cohort}}/logs/joint_counterfactuals/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_counterfactuals/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_joint,
        runtime=120,
    params:
        spec=spec("joint_counterfactuals"),
        code=code("joint_counterfactuals"),
    shell:
        "python -m crossseed joint_counterfactuals"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-model {input.source_model:q}"
        " --target-model {input.target_model:q}"
        " --saes {input.saes:q}"
        " --edits {input.edits:q}"
        " --grammar {input.grammar:q}"
        " --tokenizer {input.tokenizer:q}"
        " --items {output.single:q}"
        " --contexts {output.contexts:q}"
        " --out {output.table:q}"
        " &> {log:q}"


rule joint_tables:
    """Means over pairs, and what the error of a map says of the latents it makes universal."""
    input:
        conditions=f"{layout.REPORT}/tables/joint_conditions.csv",
        nulls=tables_among(["joint_nulls"]),
    output:
        pooled=report(
            layout.JOINT_POOLED, category="Tables", caption="../report/table.rst"
        ),
        regression=report(
            layout.JOINT_REGRESSION, category="Tables", caption="../report/table.rst"
        ),
    log:
        f"{layout.REPORT}/logs/joint_tables.log",
    benchmark:
        f"{layout.REPORT}/benchmarks/joint_tables.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("joint_tables"),
        code=code("joint_tables"),
    shell:
        "python -m crossseed joint_tables"
        " --spec {params.spec:q}"
        " --conditions {input.conditions:q}"
        " --nulls {input.nulls:q}"
        " --regression {output.regression:q}"
        " --out {output.pooled:q}"
        " &> {log:q}"
