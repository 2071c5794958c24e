# Activations: one forward pass a member, one file a site.
#
# Needs: a member's checkpoints, its cohort's token sets.
# Makes: one HDF5 file per (seed, checkpoint, site).
#
# One rule a cohort, since cohorts differ in their sites.

for cohort in RUN.cohorts:

    rule:
        name:
            f"extract_{cohort.replace('-', '_')}"
        input:
            model=f"results/{cohort}/models/seed{{seed}}/checkpoints.safetensors",
            tokens=f"results/{cohort}/tokens/tokens.h5",
        output:
            expand(
                layout.ACTIVATIONS,
                cohort=cohort,
                site=plan.sites(RUN, cohort),
                allow_missing=True,
            ),
        log:
            f"results/{cohort}/logs/extract/seed{{seed}}/{{checkpoint}}.log",
        benchmark:
            f"results/{cohort}/benchmarks/extract/seed{{seed}}/{{checkpoint}}.tsv"
        priority: 50
        conda:
            "../../envs/crossseed.yaml"
        threads: 1
        resources:
            gpu=GPU,
            device=DEVICE,
            mem_mb=2000,
            runtime=60,
        params:
            spec=spec("extract", cohort=cohort),
            code=code("extract", cohort=cohort),
        shell:
            "python -m crossseed extract"
            " --spec {params.spec:q}"
            " --device {resources.device:q}"
            " --model {input.model:q}"
            " --tokens {input.tokens:q}"
            " --out {output:q}"
            " &> {log:q}"
