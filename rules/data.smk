rule data:
    input:
        own=own_files,
        script=own("workflow/scripts/data.py"),
        code=code("workflow/scripts/data.py"),
    output:
        "results/data/{dataset}.npz",
    log:
        "logs/data/{dataset}.log",
    benchmark:
        "results/timings/jobs/data/{dataset}.tsv"
    conda:
        "../envs/data.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        own=lambda wildcards: json.dumps(own_data(wildcards)),
        seed=config["seed"],
    message:
        "dataset {wildcards.dataset}"
    shell:
        "python {input.script:q} --dataset {wildcards.dataset:q} --resources resources"
        " --own {params.own:q} --seed {params.seed:q} --output {output:q} > {log:q} 2>&1"
