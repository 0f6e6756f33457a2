# A network that names no model, or bits that make no alphabet, is an error of its own and not a missing rule.
rule unknown_network:
    input:
        refuse,
    output:
        "results/{stage}/{target}.{suffix}",
    log:
        "logs/unknown/{stage}_{target}_{suffix}.log",
    wildcard_constraints:
        stage="trained|txt|keras|quantized|lumped",
        target=rf"(?!(?:{matching(lambda entry: True)}|{MODEL}_(?:1\.58|[2-8])bit)\.)[^/]+",
        suffix="pth|txt|h5|json",
    conda:
        "../envs/data.yaml"
    shell:
        "false"


# Every sweep names the models that it is for.
rule unknown_model:
    input:
        lambda wildcards: model(wildcards.unknown),
    output:
        "results/{stage}/{unknown}/{method}_{setting}.{suffix}",
    log:
        "logs/unknown/{stage}_{unknown}_{method}_{setting}_{suffix}.log",
    wildcard_constraints:
        stage="best|sweep",
        unknown=rf"(?!(?:{matching(lambda entry: True)})/)[^/]+",
        setting="[^/]+",
        suffix="h5|csv",
    conda:
        "../envs/data.yaml"
    shell:
        "false"
