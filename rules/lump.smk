rule lump:
    input:
        network="results/quantized/{model}_{bits}bit.h5",
        data=dataset,
        script=own("workflow/scripts/lump.py"),
        code=code("workflow/scripts/lump.py"),
    output:
        network="results/lumped/{model}_{bits}bit.h5",
        record="results/lumped/{model}_{bits}bit.json",
    log:
        "logs/lump/{model}_{bits}bit.log",
    benchmark:
        "results/timings/jobs/lump/{model}_{bits}bit.tsv"
    group:
        "select"
    conda:
        "../envs/lump.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        input_range=lookup("lumping/input_range", within=config),
    message:
        "lump {wildcards.bits}-bit {wildcards.model} exactly"
    shell:
        "python {input.script:q} --network {input.network:q} --data {input.data:q}"
        " --input-range {params.input_range:q} --output {output.network:q}"
        " --record {output.record:q} > {log:q} 2>&1"


rule classes:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        chains=expand(
            "results/chains/{{model}}/{chain}/network.h5", chain=LUMPED_CHAINS
        ),
        script=own("workflow/scripts/classes.py"),
        code=code("workflow/scripts/classes.py"),
    output:
        "results/metrics/lumping/{model}.csv",
    log:
        "logs/classes/{model}.log",
    benchmark:
        "results/timings/jobs/classes/{model}.tsv"
    conda:
        "../envs/lump.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        networks=["analog", *BITS, *LUMPED_CHAINS],
    message:
        "equivalence classes of {wildcards.model}, layer by layer"
    shell:
        "python {input.script:q} --names {params.networks:q}"
        " --networks {input.analog:q} {input.quantized:q} {input.chains:q}"
        " --output {output:q} > {log:q} 2>&1"


rule tolerance:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        settings=expand("results/metrics/quantized/{{model}}_{bits}bit.json", bits=BITS),
        data=dataset,
        script=own("workflow/scripts/tolerance.py"),
        code=code("workflow/scripts/tolerance.py"),
    output:
        "results/metrics/tolerance/{model}.csv",
    log:
        "logs/tolerance/{model}.log",
    benchmark:
        "results/timings/jobs/tolerance/{model}.tsv"
    conda:
        "../envs/lump.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=tolerance_minutes,
    params:
        balls=ball_arguments,
        bits=BITS,
        tolerances=lookup("lumping/tolerances", within=config),
        input_range=lookup("lumping/input_range", within=config),
        samples=samples,
        seed=seed,
    message:
        "lump {wildcards.model} at every tolerance, before and after quantization"
    shell:
        "python {input.script:q} --analog {input.analog:q} --bits {params.bits:q}"
        " --quantized {input.quantized:q} --settings {input.settings:q}"
        " --data {input.data:q} --tolerances {params.tolerances:q}"
        " --input-range {params.input_range:q} --samples {params.samples:q}"
        " --seed {params.seed:q} {params.balls} --output {output:q}"
        " > {log:q} 2>&1"
