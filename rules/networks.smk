rule published:
    input:
        weights=lambda wildcards: given(
            config["published"][wildcards.network]["weights"]
        ),
        data=lambda wildcards: (
            f"results/data/{config['published'][wildcards.network]['dataset']}.npz"
        ),
        script=own("workflow/scripts/published.py"),
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
        "python {input.script:q} --weights {input.weights:q} --data {input.data:q}"
        " --input-range {params.input_range:q} --metrics {output.metrics:q}"
        " --lumped {output.lumped:q} > {log:q} 2>&1"


rule imagenet:
    input:
        weights=lambda wildcards: given(
            config["imagenet"][wildcards.network]["weights"]
        ),
        script=own("workflow/scripts/imagenet.py"),
        code=code("workflow/scripts/imagenet.py"),
    output:
        networks=directory("results/imagenet/{network}"),
        table="results/imagenet/{network}.csv",
        timings="results/timings/imagenet/{network}.csv",
    log:
        "logs/imagenet/{network}.log",
    benchmark:
        "results/timings/jobs/imagenet/{network}.tsv"
    wildcard_constraints:
        network="|".join(map(re.escape, config["imagenet"])) or r"(?!)",
    conda:
        "../envs/networks.yaml"
    threads: 4
    resources:
        mem_mb=memory(16000),
        runtime=imagenet_minutes,
    params:
        architecture=lambda wildcards: json.dumps(imagenet("architecture")(wildcards)),
        layers=imagenet("layers"),
        methods=imagenet("methods"),
        bits=imagenet("bits"),
        scalars=imagenet("alphabet_scalars"),
        conv=imagenet("conv"),
        samples=imagenet("samples"),
        test_images=lambda wildcards: json.dumps(imagenet("test_images")(wildcards)),
        seed=lookup("seed", within=config),
    message:
        "quantize {wildcards.network} on ImageNet; its progress is in {log}"
    shell:
        "python {input.script:q} --weights {input.weights:q}"
        " --architecture {params.architecture:q} --resources resources"
        " --layers {params.layers:q} --methods {params.methods:q} --bits {params.bits:q}"
        " --alphabet-scalars {params.scalars:q} --conv {params.conv:q}"
        " --samples {params.samples:q} --test-images {params.test_images:q}"
        " --seed {params.seed:q} --networks {output.networks:q} --table {output.table:q}"
        " --timings {output.timings:q} > {log:q} 2>&1"


rule networks:
    input:
        expand("results/published/{network}.json", network=config["published"]),
        expand("results/imagenet/{network}.csv", network=config["imagenet"]),
    localrule: True
