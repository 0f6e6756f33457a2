rule measure_analog:
    input:
        network="results/keras/{model}.h5",
        data=dataset,
        script="workflow/scripts/measure.py",
        code=code("workflow/scripts/measure.py"),
    output:
        "results/chains/{model}/analog/metrics.json",
    log:
        "logs/reduce/{model}/analog.log",
    benchmark:
        "results/timings/jobs/reduce/{model}/analog.tsv"
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    message:
        "measure analog {wildcards.model}"
    shell:
        "python {input.script} --network {input.network} --reference {input.network} --data {input.data} --metrics {output} > {log} 2>&1"


rule reduce:
    input:
        network=chain_parent,
        reference="results/keras/{model}.h5",
        data=dataset,
        script="workflow/scripts/reduce.py",
        code=lambda wildcards: code(
            "workflow/scripts/reduce.py", *last_step(wildcards).modules
        ),
    output:
        network="results/chains/{model}/{chain}/network.h5",
        metrics="results/chains/{model}/{chain}/metrics.json",
    log:
        "logs/reduce/{model}/{chain}.log",
    benchmark:
        "results/timings/jobs/reduce/{model}/{chain}.tsv"
    wildcard_constraints:
        chain=r"(?!analog/)[^/]+(?:/[^/]+)*",
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=60,
    params:
        step=lambda wildcards: str(last_step(wildcards)),
        samples=lookup("comparison/samples", within=config),
        seed=seed,
    message:
        "reduce {wildcards.model}: {wildcards.chain}"
    shell:
        "python {input.script} --network {input.network} --reference {input.reference} --data {input.data}"
        " --step {params.step:q} --samples {params.samples} --seed {params.seed}"
        " --output {output.network} --metrics {output.metrics} > {log} 2>&1"


rule evaluate:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        lumped=expand("results/lumped/{{model}}_{bits}bit.h5", bits=BITS),
        data=dataset,
        script="workflow/scripts/evaluate.py",
        code=code("workflow/scripts/evaluate.py"),
    output:
        "results/metrics/networks/{model}.csv",
    log:
        "logs/evaluate/{model}.log",
    benchmark:
        "results/timings/jobs/evaluate/{model}.tsv"
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        bits=BITS,
    message:
        "evaluate {wildcards.model}: analog, quantized, lumped"
    shell:
        "python {input.script} --analog {input.analog} --bits {params.bits} --quantized {input.quantized} --lumped {input.lumped}"
        " --data {input.data} --output {output} > {log} 2>&1"


rule comparison:
    input:
        metrics=[
            f"results/chains/{replicate(name, seed)}/{chain}/metrics.json"
            for name, seed, chain in COMPARED
        ],
        script="workflow/scripts/comparison.py",
        code=code("workflow/scripts/comparison.py"),
    output:
        "results/metrics/comparison.csv",
    log:
        "logs/comparison.log",
    benchmark:
        "results/timings/jobs/comparison.tsv"
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=5,
    params:
        rows=[f"{name},{seed},{chain}" for name, seed, chain in COMPARED],
    message:
        "table of all chains"
    shell:
        "python {input.script} --rows {params.rows:q} --metrics {input.metrics} --output {output} > {log} 2>&1"
