for (method, tried), names in SWEEPS.items():

    rule:
        name:
            sweep_rule(method, names)
        input:
            network="results/keras/{model}.h5",
            data=dataset,
            script=own("workflow/scripts/sweep.py"),
            code=code("workflow/scripts/sweep.py"),
        output:
            networks=expand(
                "results/sweep/{{model}}/{{method}}_{{bits}}bit_{setting}.h5",
                setting=json.loads(tried),
            ),
            best="results/best/{model}/{method}_{bits}bit.h5",
            table="results/sweep/{model}/{method}_{bits}bit.csv",
            timings="results/timings/sweep/{model}/{method}_{bits}bit.csv",
        log:
            "logs/sweep/{model}/{method}_{bits}bit.log",
        benchmark:
            "results/timings/jobs/sweep/{model}/{method}_{bits}bit.tsv"
        wildcard_constraints:
            model="(?:" + "|".join(map(re.escape, names)) + r")(?:-seed\d+)?",
            method=method,
        conda:
            "../envs/quantize.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=minutes(4 * len(json.loads(tried))),
        params:
            settings=tried,
            samples=samples,
            seed=seed,
        message:
            "quantize {wildcards.model} to {wildcards.bits} bits by {wildcards.method}: every alphabet"
        shell:
            "python {input.script:q} --network {input.network:q} --data {input.data:q}"
            " --bits {wildcards.bits:q} --method {wildcards.method:q}"
            " --settings {params.settings:q} --samples {params.samples:q}"
            " --seed {params.seed:q} --networks {output.networks:q}"
            " --best {output.best:q} --table {output.table:q} --timings {output.timings:q}"
            " > {log:q} 2>&1"


rule analog:
    input:
        network="results/keras/{model}.h5",
        data=dataset,
        script=own("workflow/scripts/analog.py"),
        code=code("workflow/scripts/analog.py"),
    output:
        "results/metrics/analog/{model}.json",
    log:
        "logs/analog/{model}.log",
    benchmark:
        "results/timings/jobs/analog/{model}.tsv"
    conda:
        "../envs/quantize.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(2),
    message:
        "measure the analog {wildcards.model}"
    shell:
        "python {input.script:q} --network {input.network:q} --data {input.data:q}"
        " --output {output:q} > {log:q} 2>&1"


rule select:
    input:
        analog="results/metrics/analog/{model}.json",
        networks=of_methods("results/best/{model}/{method}_{bits}bit.h5"),
        # Not read: a new alphabet is a new file.
        sweep=swept,
        tables=of_methods("results/sweep/{model}/{method}_{bits}bit.csv"),
        timings=of_methods("results/timings/sweep/{model}/{method}_{bits}bit.csv"),
        script=own("workflow/scripts/select_setting.py"),
        code=code("workflow/scripts/select_setting.py"),
    output:
        network="results/quantized/{model}_{bits}bit.h5",
        setting="results/metrics/quantized/{model}_{bits}bit.json",
        table="results/sweep/{model}/{bits}bit.csv",
        timings="results/timings/sweep/{model}_{bits}bit.csv",
    log:
        "logs/select_setting/{model}_{bits}bit.log",
    benchmark:
        "results/timings/jobs/select_setting/{model}_{bits}bit.tsv"
    group:
        "select"
    conda:
        "../envs/quantize.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=5,
    message:
        "best {wildcards.bits}-bit {wildcards.model} on validation"
    shell:
        "python {input.script:q} --networks {input.networks:q} --tables {input.tables:q}"
        " --timings {input.timings:q} --analog {input.analog:q} --network {output.network:q}"
        " --setting {output.setting:q} --table {output.table:q}"
        " --all-timings {output.timings:q} > {log:q} 2>&1"


rule layers:
    input:
        analog="results/keras/{model}.h5",
        quantized=lambda wildcards: expand(
            "results/best/{model}/{method}_{bits}bit.h5",
            model=wildcards.model,
            method=methods(wildcards.model),
            bits=BITS,
        ),
        data=dataset,
        script=own("workflow/scripts/layers.py"),
        code=code("workflow/scripts/layers.py"),
    output:
        accuracy="results/metrics/layers/{model}.csv",
        sensitivity="results/metrics/layers/{model}/sensitivity.csv",
    log:
        "logs/layers/{model}.log",
    benchmark:
        "results/timings/jobs/layers/{model}.tsv"
    conda:
        "../envs/quantize.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=minutes(
            lambda wildcards: 10 * len(BITS) * len(methods(wildcards.model))
        ),
    params:
        images=json.dumps(config["sweep"].get("layer_images")),
    message:
        "accuracy of {wildcards.model} layer by layer"
    shell:
        "python {input.script:q} --analog {input.analog:q} --quantized {input.quantized:q}"
        " --data {input.data:q} --images {params.images:q} --output {output.accuracy:q}"
        " --sensitivity {output.sensitivity:q}"
        " > {log:q} 2>&1"
