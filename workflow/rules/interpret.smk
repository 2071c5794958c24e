# Interpretability: at what latents of the first SAE seed fire, and how well that can be said.
#
# Needs: activations, dictionaries of the first two seeds, the table of single latents.
# Makes: a table of scores per cell and one over its latents, explanations, and a folder for delphi.


rule interpret:
    """Latents explained and scored, by the number of SAEs in which they are found."""
    input:
        # The one whose latents are explained, and the one that they are compared with.
        dictionaries=seeds_of_cell(plan.sae_seeds(RUN)[:2]),
        latents=layout.STABILITY_LATENTS,
        activations=layout.ACTIVATIONS,
        tokenizer=tokenizer_of,
    output:
        table=layout.INTERPRET,
        steps=layout.INTERPRET_STEPS,
        explanations=layout.EXPLANATIONS,
        delphi=directory(layout.DELPHI),
    log:
        f"results/{{cohort}}/logs/interpret/{layout.STABILITY_CELL}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/interpret/{layout.STABILITY_CELL}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=SCORER_GPU,
        device=DEVICE,
        mem_mb=memory_of_interpret,
        runtime=240,
    params:
        spec=spec("interpret"),
        code=code("interpret"),
    shell:
        "python -m crossseed interpret"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --dictionaries {input.dictionaries:q}"
        " --latents {input.latents:q}"
        " --activations {input.activations:q}"
        " --tokenizer {input.tokenizer:q}"
        " --explanations {output.explanations:q}"
        " --delphi {output.delphi:q}"
        " --steps {output.steps:q}"
        " --out {output.table:q}"
        " &> {log:q}"
