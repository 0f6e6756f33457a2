rule data:
    input:
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
    message:
        "dataset {wildcards.dataset}"
    shell:
        "python {input.script:q} --dataset {wildcards.dataset:q} --resources resources"
        " --output {output:q} > {log:q} 2>&1"
