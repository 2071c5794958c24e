# The constructive spec: weights aligned by symmetry, components and edges cut, four bars.
#
# Needs: trained members of cohorts whose symmetries are known, their token sets.
# Makes: errors, curves and elements per pair of members; effects per member; bars per pair and member.


rule weights:
    """Weights of one member moved to another's by the symmetries of the model."""
    input:
        source=model_of(role="source"),
        target=model_of(role="target"),
        tokens=layout.TOKENS,
    output:
        table=layout.WEIGHTS,
        joint=layout.JOINT,
        elements=layout.ELEMENTS,
    log:
        f"results/{{cohort}}/logs/weights/{layout.JOURNEY}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/weights/{layout.JOURNEY}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=estimate.SMALL_MB + 800,
        runtime=60,
    params:
        spec=spec("weights"),
        code=code("weights"),
    shell:
        "python -m crossseed weights"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --tokens {input.tokens:q}"
        " --out {output.table:q}"
        " --joint {output.joint:q}"
        " --elements {output.elements:q}"
        " &> {log:q}"


rule causes:
    """Every component and every edge of a member cut, and predictions of it."""
    input:
        model=model_of(),
        tokens=layout.TOKENS,
    output:
        layout.CAUSES,
    log:
        "results/{cohort}/logs/causes/seed{seed}/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/causes/seed{seed}/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_interventions,
        runtime=120,
    params:
        spec=spec("causes"),
        code=code("causes"),
    shell:
        "python -m crossseed causes"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --out {output:q}"
        " &> {log:q}"


rule bars:
    """A member, and decoys made from it, or another member, held against one by four bars."""
    input:
        source=model_of(role="source"),
        target=model_of(role="target"),
        source_causes=layout.CAUSES.replace("{seed}", "{source}"),
        target_causes=layout.CAUSES.replace("{seed}", "{target}"),
        tokens=layout.TOKENS,
        weights=judged_weights(layout.WEIGHTS),
        elements=judged_weights(layout.ELEMENTS),
    output:
        layout.BARS,
    log:
        f"results/{{cohort}}/logs/bars/{layout.JOURNEY}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/bars/{layout.JOURNEY}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_interventions,
        runtime=240,
    params:
        spec=spec("bars"),
        code=code("bars"),
    shell:
        "python -m crossseed bars"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-causes {input.source_causes:q}"
        " --target-causes {input.target_causes:q}"
        " --tokens {input.tokens:q}"
        " --weights {input.weights:q}"
        " --elements {input.elements:q}"
        " --out {output:q}"
        " &> {log:q}"
