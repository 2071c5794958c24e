# Dictionaries: the SAEs of every member and site, and how alike those of two members are.
#
# Needs: an activation file; for cosines, the moments of a pair.
# Makes: one SAELens folder per (seed, checkpoint, site, variant, expansion, init), and a
#        table of held-out metrics per job; a table of decoder cosines per pair and site.
#
# One rule a variant and expansion, of which a job trains all its inits; and one for each that is
# trained from several seeds, a job a seed: a seed more trains nothing twice.

for dictionary, inits in plan.trainings(RUN):
    # The init is a wildcard where it is a seed.
    fixed = {"dictionary": dictionary} | ({"init": inits} if inits else {})
    named = dictionary if inits else f"{dictionary}-{{init}}"

    rule:
        name:
            f"sae_{dictionary.replace('-', '_')}{'' if inits else '_seed'}"
        input:
            activations=layout.ACTIVATIONS,
            calibration=(
                layout.CALIBRATION.replace("{dictionary}", dictionary)
                if not inits and plan.matched(RUN, dictionary)
                else []
            ),
        output:
            cfg=expand(layout.DICTIONARY_CFG, allow_missing=True, **fixed),
            weights=expand(layout.DICTIONARY_WEIGHTS, allow_missing=True, **fixed),
            metrics=f"{layout.DICTIONARY_SITE}/{named}.csv",
        log:
            f"results/{{cohort}}/logs/sae/seed{{seed}}/{{checkpoint}}/{{site}}/{named}.log",
        benchmark:
            f"results/{{cohort}}/benchmarks/sae/seed{{seed}}/{{checkpoint}}/{{site}}/{named}.tsv"
        wildcard_constraints:
            init=r"(?:seed|shuffled)\d+",
        conda:
            "../../envs/crossseed.yaml"
        threads: 1
        resources:
            gpu=GPU,
            device=DEVICE,
            mem_mb=2000,
            runtime=240,
        params:
            spec=spec("sae", dictionary=dictionary),
            code=code("sae", dictionary=dictionary),
        shell:
            "python -m crossseed sae"
            " --spec {params.spec:q}"
            " --device {resources.device:q}"
            " --activations {input.activations:q}"
            " --calibration {input.calibration:q}"
            " --out {output.weights:q}"
            " --metrics {output.metrics:q}"
            " &> {log:q}"


rule cosine:
    """Decoder cosines of a pair: init × map, beside the random floor."""
    input:
        source=weights_of("source", "target"),
        target=weights_of("target", "source"),
        maps=layout.MAPS,
    output:
        layout.COSINE,
    log:
        f"results/{{cohort}}/logs/cosine/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/cosine/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        spec=spec("cosine"),
        code=code("cosine"),
    shell:
        "python -m crossseed cosine"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --maps {input.maps:q}"
        " --out {output:q}"
        " &> {log:q}"
