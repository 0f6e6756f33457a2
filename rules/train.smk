rule train:
    input:
        data=dataset,
        script=own("workflow/scripts/train.py"),
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
        runtime=minutes(training_passes),
    params:
        architecture=setting("architecture"),
        training=setting("training"),
        seed=seed,
    message:
        "train {wildcards.model} in PyTorch"
    shell:
        "python {input.script:q} --data {input.data:q}"
        " --architecture {params.architecture:q} --training {params.training:q}"
        " --seed {params.seed:q} --weights {output.weights:q} --history {output.history:q}"
        " > {log:q} 2>&1"


rule train_in_keras:
    input:
        data=dataset,
        script=own("workflow/scripts/train_in_keras.py"),
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
        runtime=minutes(training_passes),
    params:
        architecture=setting("architecture"),
        training=setting("training"),
        seed=seed,
    message:
        "train {wildcards.model} in Keras"
    shell:
        "python {input.script:q} --data {input.data:q}"
        " --architecture {params.architecture:q} --training {params.training:q}"
        " --seed {params.seed:q} --network {output.network:q} --history {output.history:q}"
        " > {log:q} 2>&1"
