rule deploy:
    input:
        network="results/keras/{model}.h5",
        data=dataset,
        script=own("workflow/scripts/deploy.py"),
        code=code("workflow/scripts/deploy.py"),
    output:
        exports=expand(
            "results/exported/{{model}}_w{{weights}}a{{activations}}.{format}",
            format=["onnx", "tflite"],
        ),
        metrics="results/metrics/deployed/{model}_w{weights}a{activations}.json",
    log:
        "logs/deploy/{model}_w{weights}a{activations}.log",
    benchmark:
        "results/timings/jobs/deploy/{model}_w{weights}a{activations}.tsv"
    wildcard_constraints:
        weights=r"1\.58|[2-8]",
        activations="[2-8]",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(6000),
        runtime=minutes(10),
    params:
        method=lookup("deployment/method", within=config),
        samples=samples,
        seed=seed,
        preprocessing=(
            "--preprocessing" if config["deployment"]["preprocessing"] else ""
        ),
    message:
        "{wildcards.model} in integers: weights of {wildcards.weights} bits, activations of"
        " {wildcards.activations}"
    shell:
        "python {input.script:q} --network {input.network:q} --data {input.data:q}"
        " --weights {wildcards.weights:q} --activations {wildcards.activations:q}"
        " --method {params.method:q} --samples {params.samples:q} --seed {params.seed:q}"
        " {params.preprocessing} --exports {output.exports:q} --metrics {output.metrics:q} > {log:q} 2>&1"


# Asks for many cores, so that nothing runs beside it.
rule deployed_latency:
    input:
        files=lambda wildcards: [
            f"results/exported/{wildcards.model}_{what}.{suffix}"
            for what in [
                "analog",
                *(
                    f"w{weights}a{activations}"
                    for name, weights, activations in DEPLOYED
                    if name == wildcards.model
                ),
            ]
            for suffix in ("onnx", "tflite")
        ],
        data=dataset,
        script=own("workflow/scripts/deployed_latency.py"),
        code=code("workflow/scripts/deployed_latency.py"),
    output:
        "results/timings/deployed/{model}.csv",
    log:
        "logs/deployed_latency/{model}.log",
    benchmark:
        "results/timings/jobs/deployed_latency/{model}.tsv"
    conda:
        "../envs/export.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        limit=5,
    message:
        "latency of the exported files of {wildcards.model}"
    shell:
        "python {input.script:q} --files {input.files:q} --data {input.data:q}"
        " --limit {params.limit:q} --output {output:q} > {log:q} 2>&1"


rule deployed:
    input:
        measures=[
            f"results/metrics/deployed/{name}_w{weights}a{activations}.json"
            for name, weights, activations in DEPLOYED
        ],
        analog=expand(
            "results/exported/{model}_analog.{format}",
            model=dict.fromkeys(name for name, *_ in DEPLOYED),
            format=["onnx", "tflite"],
        ),
        networks=expand(
            "results/metrics/networks/{model}.csv",
            model=dict.fromkeys(name for name, *_ in DEPLOYED),
        ),
        script=own("workflow/scripts/deployed.py"),
        code=code("workflow/scripts/deployed.py"),
    output:
        "results/metrics/deployed.csv",
    log:
        "logs/deployed.log",
    benchmark:
        "results/timings/jobs/deployed.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=5,
    message:
        "table of the files that run in integers"
    shell:
        "python {input.script:q} --measures {input.measures:q} --analog {input.analog:q}"
        " --networks {input.networks:q} --output {output:q} > {log:q} 2>&1"
