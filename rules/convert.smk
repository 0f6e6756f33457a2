rule text:
    input:
        weights="results/trained/{model}.pth",
        script=own("workflow/scripts/text.py"),
        code=code("workflow/scripts/text.py"),
    output:
        "results/txt/{model}.txt",
    log:
        "logs/text/{model}.log",
    benchmark:
        "results/timings/jobs/text/{model}.tsv"
    group:
        "convert"
    conda:
        "../envs/convert.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "write {wildcards.model} as text"
    shell:
        "python {input.script:q} --weights {input.weights:q} --output {output:q}"
        " > {log:q} 2>&1"


rule rebuild:
    input:
        text="results/txt/{model}.txt",
        weights="results/trained/{model}.pth",
        data=dataset,
        script=own("workflow/scripts/rebuild.py"),
        code=code("workflow/scripts/rebuild.py"),
    output:
        network="results/keras/{model}.h5",
        metrics="results/metrics/conversion/{model}.json",
    log:
        "logs/rebuild/{model}.log",
    benchmark:
        "results/timings/jobs/rebuild/{model}.tsv"
    wildcard_constraints:
        model=TRAINED_IN_TORCH,
    group:
        "convert"
    conda:
        "../envs/convert.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=minutes(4),
    params:
        architecture=setting("architecture"),
    message:
        "rebuild {wildcards.model} in Keras from its text"
    shell:
        "python {input.script:q} --text {input.text:q} --weights {input.weights:q}"
        " --data {input.data:q} --architecture {params.architecture:q}"
        " --network {output.network:q} --metrics {output.metrics:q} > {log:q} 2>&1"


rule bring_in:
    input:
        weights=lambda wildcards: given(model(wildcards.model)["weights"]),
        data=dataset,
        script=own("workflow/scripts/bring_in.py"),
        code=code("workflow/scripts/bring_in.py"),
    output:
        "results/keras/{model}.h5",
    log:
        "logs/bring_in/{model}.log",
    benchmark:
        "results/timings/jobs/bring_in/{model}.tsv"
    wildcard_constraints:
        model=IMPORTED,
    conda:
        "../envs/convert.yaml"
    threads: 1
    resources:
        mem_mb=memory(4000),
        runtime=15,
    params:
        architecture=setting("architecture"),
    message:
        "bring in {wildcards.model} from {input.weights}"
    shell:
        "python {input.script:q} --weights {input.weights:q}"
        " --architecture {params.architecture:q} --data {input.data:q} --network {output:q}"
        " > {log:q} 2>&1"
