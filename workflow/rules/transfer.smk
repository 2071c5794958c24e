# Transfer: maps between members, and what a dictionary is worth through each of them.
#
# Needs: activations of two members, the source's dictionaries (the target's too for cosines).
# Makes: one file of moments, from which all maps are fitted, and tables of how well each map
# carries activations, of transfer, of the claim rule and of cosines, per pair and site.


rule align:
    """Moments of a source and a target on the same tokens: all maps are fitted from them."""
    input:
        source=activations_of("source"),
        target=activations_of("target"),
        untrained=untrained_of,
    output:
        layout.MAPS,
    log:
        f"results/{{cohort}}/logs/align/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/align/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        spec=spec("align"),
        code=code("align"),
    shell:
        "python -m crossseed align"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --untrained {input.untrained:q}"
        " --out {output:q}"
        " &> {log:q}"


rule fits:
    """How well each map carries the activations themselves, on held-out tokens."""
    input:
        source=activations_of("source"),
        target=activations_of("target"),
        untrained=untrained_of,
        maps=layout.MAPS,
    output:
        table=layout.FITS,
        directions=layout.DIRECTIONS,
    log:
        f"results/{{cohort}}/logs/fits/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/fits/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("fits"),
        code=code("fits"),
    shell:
        "python -m crossseed fits"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --untrained {input.untrained:q}"
        " --maps {input.maps:q}"
        " --out {output.table:q}"
        " --directions {output.directions:q}"
        " &> {log:q}"


rule shared:
    """One rotation for all sites of a pair, beside a rotation for each."""
    input:
        source=at_all_sites(layout.ACTIVATIONS, seed="source"),
        target=at_all_sites(layout.ACTIVATIONS, seed="target"),
        maps=at_all_sites(layout.MAPS),
    output:
        layout.SHARED,
    log:
        "results/{cohort}/logs/shared/seed{source}-seed{target}/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/shared/seed{source}-seed{target}/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("shared"),
        code=code("shared"),
    shell:
        "python -m crossseed shared"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --maps {input.maps:q}"
        " --out {output:q}"
        " &> {log:q}"


rule transfer:
    """The source's dictionaries on the target, arm by arm, on held-out tokens."""
    input:
        source=activations_of("source"),
        target=activations_of("target"),
        untrained=untrained_of,
        dictionaries=weights_of("source"),
        maps=maps_of,
    output:
        table=layout.TRANSFER,
        evidence=layout.EVIDENCE,
    log:
        f"results/{{cohort}}/logs/transfer/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/transfer/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        spec=spec("transfer"),
        code=code("transfer"),
    shell:
        "python -m crossseed transfer"
        " --spec {params.spec:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --untrained {input.untrained:q}"
        " --dictionaries {input.dictionaries:q}"
        " --maps {input.maps:q}"
        " --out {output.table:q}"
        " --evidence {output.evidence:q}"
        " &> {log:q}"


rule splice:
    """The source run with the target's carried activations in place of its own."""
    input:
        model=model_of(role="source"),
        whole=trained_with(role="source"),
        tokens=layout.TOKENS,
        source=activations_of("source"),
        target=activations_of("target"),
        dictionaries=weights_of("source"),
        maps=layout.MAPS,
    output:
        table=layout.SPLICE,
        evidence=layout.SPLICE_EVIDENCE,
    log:
        f"results/{{cohort}}/logs/splice/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/splice/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        device_map=lambda wildcards: RUN.cohorts[wildcards.cohort].device_map or "none",
        mem_mb=memory_of_splice,
        runtime=60,
    params:
        spec=spec("splice"),
        code=code("splice"),
    shell:
        "python -m crossseed splice"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --source {input.source:q}"
        " --target {input.target:q}"
        " --maps {input.maps:q}"
        " --dictionaries {input.dictionaries:q}"
        " --out {output.table:q}"
        " --evidence {output.evidence:q}"
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
