rule export:
    input:
        network="results/quantized/{model}_{bits}bit.h5",
        script=own("workflow/scripts/export.py"),
        code=code("workflow/scripts/export.py"),
    output:
        "results/exported/{model}_{bits}bit.{format}",
    log:
        "logs/export/{model}_{bits}bit_{format}.log",
    benchmark:
        "results/timings/jobs/export/{model}_{bits}bit_{format}.tsv"
    wildcard_constraints:
        format="onnx|tflite",
    conda:
        "../envs/export.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=10,
    message:
        "export {wildcards.model} at {wildcards.bits} bits to {wildcards.format}"
    shell:
        "python {input.script:q} --network {input.network:q} --output {output:q}"
        " > {log:q} 2>&1"


use rule export as export_analog with:
    input:
        network="results/keras/{model}.h5",
        script=own("workflow/scripts/export.py"),
        code=code("workflow/scripts/export.py"),
    output:
        "results/exported/{model}_analog.{format}",
    log:
        "logs/export/{model}_analog_{format}.log",
    benchmark:
        "results/timings/jobs/export/{model}_analog_{format}.tsv"
    message:
        "export analog {wildcards.model} to {wildcards.format}"


# Asks for many cores, so that nothing runs beside it, and computes on one.
rule latency:
    input:
        analog="results/keras/{model}.h5",
        quantized=expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
        data=dataset,
        script=own("workflow/scripts/latency.py"),
        code=code("workflow/scripts/latency.py"),
    output:
        "results/timings/latency/{model}.csv",
    log:
        "logs/latency/{model}.log",
    benchmark:
        "results/timings/jobs/latency/{model}.tsv"
    conda:
        "../envs/export.yaml"
    threads: 8
    resources:
        mem_mb=memory(4000),
        runtime=30,
    params:
        networks=["analog", *BITS],
    message:
        "latency of {wildcards.model}, analog and at every bit width"
    shell:
        "OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python {input.script:q}"
        " --names {params.networks:q} --networks {input.analog:q} {input.quantized:q}"
        " --data {input.data:q} --output {output:q} > {log:q} 2>&1"


rule latencies:
    input:
        expand("results/timings/latency/{model}.csv", model=MODELS),
    localrule: True
