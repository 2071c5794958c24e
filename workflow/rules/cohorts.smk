# Cohorts: the members, and the token sets they are compared on.
#
# Needs: the configuration; for a seed that shares tensors, the anchor's checkpoints.
# Makes: for models from elsewhere, a check of them all before any job needs one; for models
#        trained here, their tokenizer, checkpoints and training tables; one token file a cohort.
#
# One rule a cohort where files differ with its kind.


rule check:
    """Whether all members exist and fit together; every problem is reported at once."""
    output:
        layout.CHECK,
    log:
        "results/{cohort}/logs/check/{number}.log",
    benchmark:
        "results/{cohort}/benchmarks/check/{number}.tsv"
    priority: 200
    localrule: True  # on many clusters only the submit node reaches the hub
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        members=members_of_check,
        passes=lambda wildcards: layout.CHECK_PASSES.format(**wildcards),
        mem_mb=1000,
        runtime=60,
    params:
        spec=spec("check"),
        code=code("check"),
    shell:
        "python -m crossseed check"
        " --spec {params.spec:q}"
        " --members {resources.members:q}"
        " --passes {resources.passes:q}"
        " --number {wildcards.number:q}"
        " --out {output:q}"
        " &> {log:q}"


rule tokens:
    """The sequences on which a cohort is compared, split into fit, train and eval."""
    input:
        tokenizer=tokenizer_of,
        data=data_of,
    output:
        layout.TOKENS,
    log:
        "results/{cohort}/logs/tokens.log",
    benchmark:
        "results/{cohort}/benchmarks/tokens.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=120,
    params:
        spec=spec("tokens"),
        code=code("tokens"),
    shell:
        "python -m crossseed tokens"
        " --spec {params.spec:q}"
        " --tokenizer {input.tokenizer:q}"
        " --data {input.data:q}"
        " --out {output:q}"
        " &> {log:q}"


for cohort in plan.trained(RUN):
    if RUN.cohorts[cohort].tokenizer_files:

        rule:
            name:
                f"tokenizer_{cohort.replace('-', '_')}"
            input:
                data=[RESOURCES[name] for name in RUN.cohorts[cohort].resource_files],
            output:
                expand(RUN.cohorts[cohort].tokenizer_files, cohort=cohort),
            log:
                f"results/{cohort}/logs/tokenizer.log",
            benchmark:
                f"results/{cohort}/benchmarks/tokenizer.tsv"
            priority: 100
            conda:
                "../../envs/crossseed.yaml"
            threads: 1
            resources:
                mem_mb=2000,
                runtime=60,
            params:
                spec=spec("tokenizer", cohort=cohort),
                code=code("tokenizer", cohort=cohort),
            shell:
                "python -m crossseed tokenizer"
                " --spec {params.spec:q}"
                " --data {input.data:q}"
                " --out {output:q}"
                " &> {log:q}"

    rule:
        name:
            f"train_{cohort.replace('-', '_')}"
        input:
            anchor=anchor_of(cohort),
            tokenizer=expand(RUN.cohorts[cohort].tokenizer_files, cohort=cohort),
            data=[RESOURCES[name] for name in RUN.cohorts[cohort].resource_files],
        output:
            weights=expand(
                RUN.cohorts[cohort].trained_files, cohort=cohort, allow_missing=True
            ),
            curve=f"results/{cohort}/models/seed{{seed}}/training.csv",
            quality=f"results/{cohort}/models/seed{{seed}}/quality.csv",
        log:
            f"results/{cohort}/logs/train/seed{{seed}}.log",
        benchmark:
            f"results/{cohort}/benchmarks/train/seed{{seed}}.tsv"
        priority: 100  # models gate everything else
        conda:
            "../../envs/crossseed.yaml"
        threads: 1
        resources:
            gpu=GPU,
            device=DEVICE,
            mem_mb=estimate.training_mb(RUN.cohorts[cohort]),
            runtime=240,
        params:
            spec=spec("train", cohort=cohort),
            code=code("train", cohort=cohort),
        shell:
            "python -m crossseed train"
            " --spec {params.spec:q}"
            " --device {resources.device:q}"
            " --anchor {input.anchor:q}"
            " --tokenizer {input.tokenizer:q}"
            " --data {input.data:q}"
            " --out {output.weights:q}"
            " --curve {output.curve:q}"
            " --quality {output.quality:q}"
            " &> {log:q}"
