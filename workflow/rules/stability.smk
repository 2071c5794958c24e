# Stability: SAEs of one member and site that differ in nothing but their seed.
#
# Needs: activations, dictionaries of several seeds.
# Makes: the penalty of a cell whose L0 is matched; a table per cell, and one of its latents.


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


rule stability:
    """SAEs of several seeds matched, two by two and all together."""
    input:
        dictionaries=seeds_of_cell,
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
        " --activations {input.activations:q}"
        " --latents {output.latents:q}"
        " --out {output.table:q}"
        " &> {log:q}"
