# Joint SAEs: all that is clean of each model, and the maps between them.
#
# Needs: members, token sets.
# Makes: an HDF5 file per member and site; per pair its maps, their errors, and how many sequences
#        decide them.


rule joint_cache:
    """What no training of a joint SAE has to compute again."""
    input:
        model=model_of(),
        whole=trained_with(),
        tokens=layout.TOKENS,
    output:
        layout.JOINT_CACHE,
    log:
        "results/{cohort}/logs/joint_cache/seed{seed}/{checkpoint}/{site}.log",
    benchmark:
        "results/{cohort}/benchmarks/joint_cache/seed{seed}/{checkpoint}/{site}.tsv"
    priority: 50
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=memory_of_cache,
        runtime=120,
    params:
        spec=spec("joint_cache"),
        code=code("joint_cache"),
    shell:
        "python -m crossseed joint_cache"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --out {output:q}"
        " &> {log:q}"


rule joint_maps:
    """The rotation that carries model B into the frame of A, and the linear map it is compared with."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
    output:
        layout.JOINT_MAPS,
    log:
        f"results/{{cohort}}/logs/joint_maps/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_maps/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_joint,
        runtime=60,
    params:
        spec=spec("joint_maps"),
        code=code("joint_maps"),
    shell:
        "python -m crossseed joint_maps"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --out {output:q}"
        " &> {log:q}"


rule joint_fits:
    """Errors of maps on held-out sentences, centred and not."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
    output:
        layout.JOINT_FITS,
    log:
        f"results/{{cohort}}/logs/joint_fits/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_fits/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_joint,
        runtime=60,
    params:
        spec=spec("joint_fits"),
        code=code("joint_fits"),
    shell:
        "python -m crossseed joint_fits"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --out {output:q}"
        " &> {log:q}"


rule joint_size:
    """The rotation from fewer sequences, and from halves."""
    input:
        source=cut_of("source"),
        target=cut_of("target"),
    output:
        table=layout.JOINT_SIZES,
        halves=layout.JOINT_HALVES,
    log:
        f"results/{{cohort}}/logs/joint_size/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/joint_size/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_joint,
        runtime=120,
    params:
        spec=spec("joint_size"),
        code=code("joint_size"),
    shell:
        "python -m crossseed joint_size"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --halves {output.halves:q}"
        " --out {output.table:q}"
        " &> {log:q}"
