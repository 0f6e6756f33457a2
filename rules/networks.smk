rule published:
    input:
        weights=lambda wildcards: config["published"][wildcards.network]["weights"],
        data=lambda wildcards: f"results/data/{config['published'][wildcards.network]['dataset']}.npz",
        script="workflow/scripts/published.py",
        code=code("workflow/scripts/published.py"),
    output:
        metrics="results/published/{network}.json",
        lumped="results/published/{network}_lumped.h5",
    log:
        "logs/published/{network}.log",
    benchmark:
        "results/timings/jobs/published/{network}.tsv"
    wildcard_constraints:
        network="|".join(map(re.escape, config["published"])) or r"(?!)",
    conda:
        "../envs/networks.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        input_range=lookup("lumping/input_range", within=config),
    message:
        "evaluate and lump {input.weights}, and find its alphabets"
    shell:
        "python {input.script} --weights {input.weights:q} --data {input.data} --input-range {params.input_range}"
        " --metrics {output.metrics} --lumped {output.lumped} > {log} 2>&1"


# The outputs of a rule cannot depend on its wildcards, and each network has methods and scalars of its own: so a rule for each.
for network, entry in config["imagenet"].items():

    rule:
        name:
            f"imagenet_{network.replace('-', '_')}"
        input:
            weights=entry["weights"],
            script="workflow/scripts/imagenet.py",
            code=code("workflow/scripts/imagenet.py"),
        output:
            networks=expand(
                f"results/imagenet/{network}/{{method}}_{text(entry['bits'])}bit_{{scalar}}.h5",
                method=entry["methods"],
                scalar=map(text, entry["alphabet_scalars"]),
            ),
            table=f"results/imagenet/{network}.csv",
            timings=f"results/timings/imagenet/{network}.csv",
        log:
            f"logs/imagenet/{network}.log",
        benchmark:
            f"results/timings/jobs/imagenet/{network}.tsv"
        conda:
            "../envs/networks.yaml"
        threads: 4
        resources:
            mem_mb=memory(16000),
            runtime=1440,
        params:
            **{
                key: json.dumps(entry.get(key))
                for key in ("architecture", "test_images")
            },
            **{
                key: entry[key]
                for key in (
                    "layers",
                    "methods",
                    "bits",
                    "alphabet_scalars",
                    "conv",
                    "samples",
                )
            },
            seed=config["seed"],
        message:
            f"quantize {network} on ImageNet; its progress is in {{log}}"
        shell:
            "python {input.script} --weights {input.weights:q} --architecture {params.architecture:q} --resources resources"
            " --layers {params.layers} --methods {params.methods} --bits {params.bits} --alphabet-scalars {params.alphabet_scalars}"
            " --conv {params.conv} --samples {params.samples} --test-images {params.test_images} --seed {params.seed}"
            " --networks {output.networks} --table {output.table} --timings {output.timings} > {log} 2>&1"


rule networks:
    input:
        expand("results/published/{network}.json", network=config["published"]),
        expand("results/imagenet/{network}.csv", network=config["imagenet"]),
    localrule: True
