rule measure_analog:
    input:
        network="results/keras/{model}.h5",
        data=dataset,
        script=own("workflow/scripts/measure.py"),
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
        runtime=minutes(2),
    message:
        "measure analog {wildcards.model}"
    shell:
        "python {input.script:q} --network {input.network:q} --reference {input.network:q}"
        " --data {input.data:q} --metrics {output:q} > {log:q} 2>&1"


rule reduce:
    input:
        network=chain_parent,
        reference="results/keras/{model}.h5",
        data=dataset,
        script=own("workflow/scripts/reduce.py"),
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
        runtime=minutes(reduction_passes),
    params:
        step=lambda wildcards: str(last_step(wildcards)),
        samples=lookup("comparison/samples", within=config),
        seed=seed,
    message:
        "reduce {wildcards.model}: {wildcards.chain}"
    shell:
        "python {input.script:q} --network {input.network:q}"
        " --reference {input.reference:q} --data {input.data:q} --step {params.step:q}"
        " --samples {params.samples:q} --seed {params.seed:q} --output {output.network:q}"
        " --metrics {output.metrics:q} > {log:q} 2>&1"


rule evaluate:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        lumped=expand("results/lumped/{{model}}_{bits}bit.h5", bits=BITS),
        data=dataset,
        script=own("workflow/scripts/evaluate.py"),
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
        runtime=minutes(4 * len(BITS) + 2),
    params:
        bits=BITS,
    message:
        "evaluate {wildcards.model}: analog, quantized, lumped"
    shell:
        "python {input.script:q} --analog {input.analog:q} --bits {params.bits:q}"
        " --quantized {input.quantized:q} --lumped {input.lumped:q} --data {input.data:q}"
        " --output {output:q} > {log:q} 2>&1"


rule curves:
    input:
        network="results/keras/{model}.h5",
        data=dataset,
        published=[own(f"report/published/curves/{name}") for name in CURVES],
        script=own("workflow/scripts/curves.py"),
        code=code("workflow/scripts/curves.py"),
    output:
        "results/metrics/curves/{model}.csv",
    log:
        "logs/curves/{model}.log",
    benchmark:
        "results/timings/jobs/curves/{model}.tsv"
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(10),
    params:
        fractions=config["curves"]["fractions"],
        samples=config["curves"]["samples"],
    message:
        "{wildcards.model} with ever fewer neurons"
    shell:
        "python {input.script:q} --network {input.network:q} --data {input.data:q}"
        " --fractions {params.fractions:q} --samples {params.samples:q}"
        " --published {input.published:q} --output {output:q} > {log:q} 2>&1"


# Asks for many cores, so that nothing runs beside it, and computes on one.
rule latency_of_chains:
    input:
        networks=lambda wildcards: [
            (
                f"results/keras/{first_replicate(wildcards.model)}.h5"
                if chain == "analog"
                else f"results/chains/{first_replicate(wildcards.model)}/{chain}/network.h5"
            )
            for chain in TIMED_CHAINS
        ],
        data=dataset,
        script=own("workflow/scripts/latency.py"),
        code=code("workflow/scripts/latency.py"),
    output:
        "results/timings/latency/chains/{model}.csv",
    log:
        "logs/latency/chains/{model}.log",
    benchmark:
        "results/timings/jobs/latency/chains/{model}.tsv"
    conda:
        "../envs/export.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        networks=TIMED_CHAINS,
    message:
        "latency of {wildcards.model} and of what chains make of it"
    shell:
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python {input.script:q} --smaller"
        " --names {params.networks:q} --networks {input.networks:q}"
        " --data {input.data:q} --output {output:q} > {log:q} 2>&1"


rule comparison:
    input:
        metrics=[
            f"results/chains/{replicate(name, seed)}/{chain}/metrics.json"
            for name, seed, chain in COMPARED
        ],
        script=own("workflow/scripts/comparison.py"),
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
        "python {input.script:q} --rows <(printf '%s\\n' {params.rows:q})"
        " --metrics <(printf '%s\\n' {input.metrics:q}) --output {output:q} > {log:q} 2>&1"
