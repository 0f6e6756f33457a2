rule train:
    input:
        data=dataset,
        script="workflow/scripts/train.py",
        code=code("workflow/scripts/train.py"),
    output:
        weights="results/trained/{model}.pth",
        history="results/metrics/training/{model}.csv",
    log:
        "logs/train/{model}.log",
    benchmark:
        "results/timings/jobs/train/{model}.tsv"
    wildcard_constraints:
        model=TRAINED_IN_TORCH,
    conda:
        "../envs/train.yaml"
    threads: training_threads
    resources:
        mem_mb=memory(4000),
        runtime=240,
    params:
        architecture=setting("architecture"),
        training=setting("training"),
        seed=seed,
    message:
        "train {wildcards.model} in PyTorch"
    shell:
        "python {input.script} --data {input.data} --architecture {params.architecture:q} --training {params.training:q}"
        " --seed {params.seed} --weights {output.weights} --history {output.history} > {log} 2>&1"


rule train_in_keras:
    input:
        data=dataset,
        script="workflow/scripts/train_in_keras.py",
        code=code("workflow/scripts/train_in_keras.py"),
    output:
        network="results/keras/{model}.h5",
        history="results/metrics/training/{model}.csv",
    log:
        "logs/train_in_keras/{model}.log",
    benchmark:
        "results/timings/jobs/train_in_keras/{model}.tsv"
    wildcard_constraints:
        model=TRAINED_IN_KERAS,
    conda:
        "../envs/convert.yaml"
    threads: training_threads
    resources:
        mem_mb=memory(6000),
        runtime=240,
    params:
        architecture=setting("architecture"),
        training=setting("training"),
        seed=seed,
    message:
        "train {wildcards.model} in Keras"
    shell:
        "python {input.script} --data {input.data} --architecture {params.architecture:q} --training {params.training:q}"
        " --seed {params.seed} --network {output.network} --history {output.history} > {log} 2>&1"
