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
