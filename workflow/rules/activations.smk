# Activations: one forward pass a member, one file a site.
#
# Needs: a member's checkpoints, its cohort's token sets.
# Makes: one HDF5 file per (seed, checkpoint, site).
#
# One rule a cohort and pass: cohorts differ in their sites, and a site added later gets a pass
# of its own (see `crossseed.passes`), so that nothing that reads the others runs again.

for number, (cohort, sites) in enumerate(passes_of_cohorts()):

    rule:
        name:
            f"extract_{cohort.replace('-', '_')}_{number}"
        input:
            model=model_of(cohort=cohort),
            whole=trained_with(cohort),
            tokens=f"results/{cohort}/tokens/tokens.h5",
        output:
            kept(
                expand(
                    layout.ACTIVATIONS,
                    cohort=cohort,
                    site=sites,
                    allow_missing=True,
                )
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
            device_map=RUN.cohorts[cohort].device_map or "none",
            passes=layout.PASSES.format(cohort=cohort),
            mem_mb=estimate.memory_mb(RUN.cohorts[cohort], models=1),
            runtime=60,
        params:
            spec=spec("extract", cohort=cohort),
            code=code("extract", cohort=cohort),
        shell:
            "python -m crossseed extract"
            " --spec {params.spec:q}"
            " --device {resources.device:q}"
            " --device-map {resources.device_map:q}"
            " --model {input.model:q}"
            " --tokens {input.tokens:q}"
            " --passes {resources.passes:q}"
            " --out {output:q}"
            " &> {log:q}"
