rule lump:
    input:
        network="results/quantized/{model}_{bits}bit.h5",
        script="workflow/scripts/lump.py",
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
        "python {input.script} --network {input.network} --input-range {params.input_range}"
        " --output {output.network} --record {output.record} > {log} 2>&1"


rule classes:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        chains=expand(
            "results/chains/{{model}}/{chain}/network.h5", chain=LUMPED_CHAINS
        ),
        script="workflow/scripts/classes.py",
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
        "python {input.script} --names {params.networks} --networks {input.analog} {input.quantized} {input.chains} --output {output} > {log} 2>&1"


rule tolerance:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        settings=expand("results/metrics/quantized/{{model}}_{bits}bit.json", bits=BITS),
        data=dataset,
        script="workflow/scripts/tolerance.py",
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
        runtime=60,
    params:
        bits=BITS,
        tolerances=lookup("lumping/tolerances", within=config),
        input_range=lookup("lumping/input_range", within=config),
        samples=samples,
        conv=lookup("sweep/conv", within=config),
        seed=seed,
    message:
        "lump {wildcards.model} at every tolerance, before and after quantization"
    shell:
        "python {input.script} --analog {input.analog} --bits {params.bits} --quantized {input.quantized} --settings {input.settings}"
        " --data {input.data} --tolerances {params.tolerances} --input-range {params.input_range}"
        " --samples {params.samples} --conv {params.conv} --seed {params.seed} --output {output} > {log} 2>&1"
