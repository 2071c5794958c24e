# Joint SAEs: trained through both models, measured, and with other maps.
#
# Needs: all that is clean of each model of a pair, its maps, and both members.
# Makes: per pair an SAE of each training, the table of each condition and of its latents, and of
#        retrainings with other maps.


rule joint_train:
    """One SAE; what lies below the site is read, what lies above is passed through."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
        source_model=model_of(role="source"),
        target_model=model_of(role="target"),
        source_whole=trained_with(role="source"),
        target_whole=trained_with(role="target"),
        maps=map_of_training,
    output:
        weights=layout.JOINT_SAE,
        history=layout.JOINT_HISTORY,
    log:
        f"results/{{cohort}}/logs/joint_train/{layout.PAIR}/{{training}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_train/{layout.PAIR}/{{training}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_joint,
        runtime=240,
    params:
        spec=spec("joint_train"),
        code=code("joint_train"),
    shell:
        "python -m crossseed joint_train"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-model {input.source_model:q}"
        " --target-model {input.target_model:q}"
        " --maps {input.maps:q}"
        " --history {output.history:q}"
        " --out {output.weights:q}"
        " &> {log:q}"


rule joint_null:
    """The published null: short retrainings with other maps, some in a job; weights are not kept."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
        source_model=model_of(role="source"),
        target_model=model_of(role="target"),
        source_whole=trained_with(role="source"),
        target_whole=trained_with(role="target"),
    output:
        layout.JOINT_NULL,
    log:
        f"results/{{cohort}}/logs/joint_null/{layout.PAIR}/{{null}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_null/{layout.PAIR}/{{null}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_joint,
        runtime=240,
    params:
        spec=spec("joint_null"),
        code=code("joint_null"),
    shell:
        "python -m crossseed joint_null"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-model {input.source_model:q}"
        " --target-model {input.target_model:q}"
        " --out {output:q}"
        " &> {log:q}"


rule joint_evaluate:
    """Universality, reconstruction, behaviour and geometry of one condition, on held-out sentences."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
        source_model=model_of(role="source"),
        target_model=model_of(role="target"),
        source_whole=trained_with(role="source"),
        target_whole=trained_with(role="target"),
        maps=map_of_condition,
        saes=saes_of_condition,
        independent=independent_of,
    output:
        table=layout.JOINT_CONDITION,
        latents=layout.JOINT_LATENTS,
    log:
        f"results/{{cohort}}/logs/joint_evaluate/{layout.PAIR}/{{condition}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_evaluate/{layout.PAIR}/{{condition}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_joint,
        runtime=120,
    params:
        spec=spec("joint_evaluate"),
        code=code("joint_evaluate"),
    shell:
        "python -m crossseed joint_evaluate"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-model {input.source_model:q}"
        " --target-model {input.target_model:q}"
        " --maps {input.maps:q}"
        " --saes {input.saes:q}"
        " --independent {input.independent:q}"
        " --latents {output.latents:q}"
        " --out {output.table:q}"
        " &> {log:q}"
