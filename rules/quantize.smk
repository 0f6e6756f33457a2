# Rules cannot vary their outputs from model to model, so there is one of each for every list of methods in the config.
for methods, models in models_by_methods().items():

    rule:
        name:
            f"sweep_{'_'.join(methods)}"
        input:
            network="results/keras/{model}.h5",
            data=dataset,
            script="workflow/scripts/sweep.py",
            code=code("workflow/scripts/sweep.py"),
        output:
            networks=expand(
                "results/sweep/{{model}}/{method}_{{bits}}bit_{scalar}.h5",
                method=methods,
                scalar=SCALARS,
            ),
            table="results/sweep/{model}/{bits}bit.csv",
            timings="results/timings/sweep/{model}_{bits}bit.csv",
        log:
            "logs/sweep/{model}_{bits}bit.log",
        benchmark:
            "results/timings/jobs/sweep/{model}_{bits}bit.tsv"
        wildcard_constraints:
            model=models,
        conda:
            "../envs/quantize.yaml"
        threads: 1
        resources:
            mem_mb=memory(4000),
            runtime=120,
        params:
            methods=methods,
            scalars=SCALARS,
            samples=samples,
            conv=lookup("sweep/conv", within=config),
            seed=seed,
        message:
            "quantize {wildcards.model} to {wildcards.bits} bits: every method and alphabet scalar"
        shell:
            "python {input.script} --network {input.network} --data {input.data} --bits {wildcards.bits}"
            " --methods {params.methods} --alphabet-scalars {params.scalars} --samples {params.samples} --conv {params.conv}"
            " --seed {params.seed} --networks {output.networks} --table {output.table} --timings {output.timings} > {log} 2>&1"

    rule:
        name:
            f"select_{'_'.join(methods)}"
        input:
            networks=expand(
                "results/sweep/{{model}}/{method}_{{bits}}bit_{scalar}.h5",
                method=methods,
                scalar=SCALARS,
            ),
            table="results/sweep/{model}/{bits}bit.csv",
            script="workflow/scripts/select_setting.py",
            code=code("workflow/scripts/select_setting.py"),
        output:
            network="results/quantized/{model}_{bits}bit.h5",
            best=expand(
                "results/best/{{model}}/{method}_{{bits}}bit.h5", method=methods
            ),
            setting="results/metrics/quantized/{model}_{bits}bit.json",
        log:
            "logs/select_setting/{model}_{bits}bit.log",
        benchmark:
            "results/timings/jobs/select_setting/{model}_{bits}bit.tsv"
        wildcard_constraints:
            model=models,
        group:
            "select"
        conda:
            "../envs/quantize.yaml"
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=5,
        params:
            methods=methods,
            scalars=SCALARS,
        message:
            "best {wildcards.bits}-bit {wildcards.model} on validation"
        shell:
            "python {input.script} --networks {input.networks} --table {input.table} --methods {params.methods}"
            " --alphabet-scalars {params.scalars} --network {output.network} --best {output.best} --setting {output.setting} > {log} 2>&1"


rule layers:
    input:
        analog="results/keras/{model}.h5",
        quantized=lambda wildcards: expand(
            "results/best/{model}/{method}_{bits}bit.h5",
            model=wildcards.model,
            method=methods_of(wildcards.model),
            bits=BITS,
        ),
        data=dataset,
        script="workflow/scripts/layers.py",
        code=code("workflow/scripts/layers.py"),
    output:
        "results/metrics/layers/{model}.csv",
    log:
        "logs/layers/{model}.log",
    benchmark:
        "results/timings/jobs/layers/{model}.tsv"
    conda:
        "../envs/quantize.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=60,
    params:
        images=json.dumps(config["sweep"].get("layer_images")),
    message:
        "accuracy of {wildcards.model} layer by layer"
    shell:
        "python {input.script} --analog {input.analog} --quantized {input.quantized} --data {input.data} --images {params.images} --output {output} > {log} 2>&1"
