rule data:
    input:
        script="workflow/scripts/data.py",
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
        runtime=15,
    message:
        "dataset {wildcards.dataset}"
    shell:
        "python {input.script} --dataset {wildcards.dataset} --resources resources --output {output} > {log} 2>&1"
