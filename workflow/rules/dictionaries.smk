# Dictionaries: the SAEs of every member and site.
#
# Needs: an activation file.
# Makes: one SAELens folder per (seed, checkpoint, site, variant, expansion, init), and a
#        table of held-out metrics per job.
#
# One rule a variant and expansion; a job trains all its inits.

for dictionary, inits, *_ in plan.dictionaries(RUN):

    rule:
        name:
            f"sae_{dictionary.replace('-', '_')}"
        input:
            activations=layout.ACTIVATIONS,
        output:
            cfg=expand(
                layout.DICTIONARY_CFG,
                dictionary=dictionary,
                init=inits,
                allow_missing=True,
            ),
            weights=expand(
                layout.DICTIONARY_WEIGHTS,
                dictionary=dictionary,
                init=inits,
                allow_missing=True,
            ),
            metrics=expand(
                layout.DICTIONARY_METRICS, dictionary=dictionary, allow_missing=True
            ),
        log:
            f"results/{{cohort}}/logs/sae/seed{{seed}}/{{checkpoint}}/{{site}}/{dictionary}.log",
        benchmark:
            f"results/{{cohort}}/benchmarks/sae/seed{{seed}}/{{checkpoint}}/{{site}}/{dictionary}.tsv"
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
            " --out {output.weights:q}"
            " --metrics {output.metrics:q}"
            " &> {log:q}"
