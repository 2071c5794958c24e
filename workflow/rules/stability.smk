# Stability: SAEs of one member and site that differ in nothing but their seed.
#
# Needs: activations, dictionaries of several seeds.
# Makes: the penalty of a cell whose L0 is matched; how two large SAEs match; a table per cell, and
#        one of its latents; a table per pair of members.


rule calibrate:
    """The penalty with which a cell's SAEs have the wanted L0, by bisection on short runs."""
    input:
        activations=layout.ACTIVATIONS,
    output:
        layout.CALIBRATION,
    log:
        f"results/{{cohort}}/logs/calibrate/{layout.STABILITY_CELL}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/calibrate/{layout.STABILITY_CELL}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        mem_mb=2000,
        runtime=240,
    params:
        spec=spec("calibrate"),
        code=code("calibrate"),
    shell:
        "python -m crossseed calibrate"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --activations {input.activations:q}"
        " --out {output:q}"
        " &> {log:q}"


rule match:
    """Two SAEs of one member and site matched, where they are so large that this is a job."""
    input:
        dictionaries=two_of_cell,
        activations=layout.ACTIVATIONS,
    output:
        layout.MATCHED,
    log:
        f"results/{{cohort}}/logs/match/{layout.STABILITY_CELL}/{{first}}-{{second}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/match/{layout.STABILITY_CELL}/{{first}}-{{second}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_two,
        runtime=240,
    params:
        spec=spec("match"),
        code=code("match"),
    shell:
        "python -m crossseed match"
        " --spec {params.spec:q}"
        " --dictionaries {input.dictionaries:q}"
        " --activations {input.activations:q}"
        " --out {output:q}"
        " &> {log:q}"


rule stability:
    """SAEs of several seeds matched, two by two and all together."""
    input:
        dictionaries=seeds_of_cell(plan.sae_seeds(RUN)),
        shuffled=seeds_of_cell(plan.shuffled_seeds(RUN)),
        matched=matched_of_cell,
        activations=layout.ACTIVATIONS,
    output:
        table=layout.STABILITY,
        latents=layout.STABILITY_LATENTS,
    log:
        f"results/{{cohort}}/logs/stability/{layout.STABILITY_CELL}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/stability/{layout.STABILITY_CELL}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_matching,
        runtime=240,
    params:
        spec=spec("stability"),
        code=code("stability"),
    shell:
        "python -m crossseed stability"
        " --spec {params.spec:q}"
        " --dictionaries {input.dictionaries:q}"
        " --shuffled {input.shuffled:q}"
        " --matched {input.matched:q}"
        " --activations {input.activations:q}"
        " --latents {output.latents:q}"
        " --out {output.table:q}"
        " &> {log:q}"


rule bridge:
    """SAEs of two members matched after each map, beside two SAEs of one member."""
    input:
        source=bridged_seeds_of("source"),
        target=bridged_seeds_of("target"),
        source_latents=latents_of("source"),
        target_latents=latents_of("target"),
        maps=layout.MAPS,
    output:
        layout.BRIDGE,
    log:
        f"results/{{cohort}}/logs/bridge/{layout.PAIR}/{{dictionary}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/bridge/{layout.PAIR}/{{dictionary}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_matching,
        runtime=240,
    params:
        spec=spec("bridge"),
        code=code("bridge"),
    shell:
        "python -m crossseed bridge"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --source-latents {input.source_latents:q}"
        " --target-latents {input.target_latents:q}"
        " --maps {input.maps:q}"
        " --out {output:q}"
        " &> {log:q}"
