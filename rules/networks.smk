rule published:
    input:
        weights=lambda wildcards: config["published"][wildcards.network]["weights"],
        data=lambda wildcards: f"results/data/{config['published'][wildcards.network]['dataset']}.npz",
        script="workflow/scripts/published.py",
        code=code("workflow/scripts/published.py"),
    output:
        metrics="results/published/{network}.json",
        lumped="results/published/{network}_lumped.h5",
    log:
        "logs/published/{network}.log",
    benchmark:
        "results/timings/jobs/published/{network}.tsv"
    wildcard_constraints:
        network="|".join(map(re.escape, config["published"])) or r"(?!)",
    conda:
        "../envs/compare.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        input_range=lookup("lumping/input_range", within=config),
    message:
        "evaluate and lump {input.weights}, and find its alphabets"
    shell:
        "python {input.script} --weights {input.weights:q} --data {input.data} --input-range {params.input_range}"
        " --metrics {output.metrics} --lumped {output.lumped} > {log} 2>&1"
