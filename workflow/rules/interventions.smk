# Interventions: what is carried from one member to another, and what it does there.
#
# Needs: members, their cohort's token sets, moments of pairs, dictionaries, resources/prompts/*.yaml.
# Makes: dictionaries for other members, each with its card; a table of steering per pair and site.


rule port:
    """A dictionary of the source written for the target, and what it is worth there."""
    input:
        source=activations_of("source"),
        target=activations_of("target"),
        maps=layout.MAPS,
        dictionary=layout.DICTIONARY_OF_SOURCE,
        own=own_of_target,
        model=model_of(role="target"),
        whole=trained_with(role="target"),
        tokens=layout.TOKENS,
    output:
        expand(f"{layout.PORT}/{{file}}", file=layout.PORT_FILES, allow_missing=True),
    log:
        f"results/{{cohort}}/logs/port/{layout.PAIR}/{{dictionary}}-{{init}}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/port/{layout.PAIR}/{{dictionary}}-{{init}}.tsv"
    conda:
        "../../envs/crossseed.yaml"
    threads: 1
    resources:
        gpu=GPU,
        device=DEVICE,
        device_map=device_map_of,
        mem_mb=memory_of_port,
        runtime=120,
        out=lambda wildcards: layout.PORT.format(**wildcards),
    params:
        spec=spec("port"),
        code=code("port"),
    shell:
        "python -m crossseed port"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --from {input.source:q}"
        " --to {input.target:q}"
        " --maps {input.maps:q}"
        " --sae {input.dictionary:q}"
        " --own {input.own:q}"
        " --model {input.model:q}"
        " --tokens {input.tokens:q}"
        " --out {resources.out:q}"
        " &> {log:q}"


rule steer:
    """The target steered by its own vectors, by the source's carried in several ways, and at random."""
    input:
        source=model_of(role="source"),
        target=model_of(role="target"),
        whole=trained_with(role="target"),
        whole_source=trained_with(role="source"),
        tokens=layout.TOKENS,
        tokenizer=tokenizer_of,
        prompts=prompts_of,
        maps=layout.MAPS,
        mismatched=mismatched_of,
    output:
        layout.STEERING,
    log:
        f"results/{{cohort}}/logs/steer/{layout.PAIR}.log",
    benchmark:
        f"results/{{cohort}}/benchmarks/steer/{layout.PAIR}.tsv"
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
        spec=spec("steer"),
        code=code("steer"),
    shell:
        "python -m crossseed steer"
        " --spec {params.spec:q}"
        " --device {resources.device:q}"
        " --device-map {resources.device_map:q}"
        " --source-model {input.source:q}"
        " --target-model {input.target:q}"
        " --tokens {input.tokens:q}"
        " --tokenizer {input.tokenizer:q}"
        " --prompts {input.prompts:q}"
        " --maps {input.maps:q}"
        " --mismatched {input.mismatched:q}"
        " --out {output:q}"
        " &> {log:q}"
