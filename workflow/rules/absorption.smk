# Absorption: first letters of tokens in the SAEs of cohorts that read text.
#
# Needs: activations, dictionaries of several seeds, the table of their latents, the cohort's tokenizer.
# Makes: a table per cell of SAE seeds.


rule absorption:
    """Whether a letter has a latent, and whether latents of single tokens take it over."""
    input:
        dictionaries=seeds_of_cell(plan.sae_seeds(RUN)),
        latents=layout.STABILITY_LATENTS,
        activations=layout.ACTIVATIONS,
        tokenizer=tokenizer_of,
    output:
        layout.ABSORPTION,
    log:
        f"results/{{cohort}}/logs/absorption/{layout.STABILITY_CELL}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/absorption/{layout.STABILITY_CELL}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=memory_of_absorption,
        runtime=240,
    params:
        spec=spec("absorption"),
        code=code("absorption"),
    shell:
        "python -m crossseed absorption"
        " --spec {params.spec:q}"
        " --dictionaries {input.dictionaries:q}"
        " --latents {input.latents:q}"
        " --activations {input.activations:q}"
        " --tokenizer {input.tokenizer:q}"
        " --out {output:q}"
        " &> {log:q}"
