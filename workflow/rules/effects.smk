# Effects: what single latents and components do, in one member and in another.
#
# Needs: members, their cohort's token sets, moments of pairs, dictionaries, resources/prompts/*.yaml.
# Makes: a table of single latents per pair and site, tables of attribution per member.


rule features:
    """Single latents of the source patched in both members, and put in each other's place."""
    input:
        source=model_of(role="source"),
        target=model_of(role="target"),
        whole=trained_with(role="target"),
        whole_source=trained_with(role="source"),
        tokens=layout.TOKENS,
        tokenizer=tokenizer_of,
        prompts=prompts_of,
        maps=layout.MAPS,
        dictionary=studied_dictionary_of("source"),
        own=studied_dictionary_of("target"),
    output:
        layout.FEATURES,
    log:
        f"results/{{cohort}}/logs/features/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/features/{layout.PAIR}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        device_map=device_map_of,
        mem_mb=memory_of_interventions,
        runtime=240,
    params:
        spec=spec("features"),
        code=code("features"),
    shell:
        "python -m crossseed features"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --source-model {input.source:q}"
        " --target-model {input.target:q}"
        " --tokens {input.tokens:q}"
        " --tokenizer {input.tokenizer:q}"
        " --prompts {input.prompts:q}"
        " --maps {input.maps:q}"
        " --dictionary {input.dictionary:q}"
        " --own {input.own:q}"
        " --out {output:q}"
        " &> {log:q}"


rule attribute:
    """Components ablated one by one, and what attributions make of it beforehand."""
    input:
        model=model_of(),
        whole=trained_with(),
        tokens=layout.TOKENS,
    output:
        table=layout.ATTRIBUTION,
        cells=layout.ATTRIBUTION_CELLS,
    log:
        "results/{cohort}/logs/attribute/seed{seed}/{checkpoint}.log",
    benchmark:
        "results/{cohort}/benchmarks/attribute/seed{seed}/{checkpoint}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        device_map=device_map_of,
        mem_mb=memory_of_interventions,
        runtime=240,
    params:
        spec=spec("attribute"),
        code=code("attribute"),
    shell:
        "python -m crossseed attribute"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --out {output.table:q}"
        " --cells {output.cells:q}"
        " &> {log:q}"
