rule figure:
    input:
        unpack(figure_tables),
        script=lambda wildcards: own(f"workflow/scripts/figures/{wildcards.figure}.py"),
        code=lambda wildcards: code(f"workflow/scripts/figures/{wildcards.figure}.py"),
    output:
        report(
            "results/figures/{model}/{figure}.svg",
            caption="../report/captions/figure.rst",
            category="{model}",
            labels={"figure": "{figure}"},
        ),
    log:
        "logs/figures/{model}/{figure}.log",
    benchmark:
        "results/timings/jobs/figures/{model}/{figure}.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=10,
    params:
        arguments=figure_arguments,
    message:
        "figure {wildcards.figure} of {wildcards.model}"
    shell:
        "python {input.script:q} {params.arguments} --output {output:q} > {log:q} 2>&1"


rule figure_architectures:
    input:
        lumping=expand("results/metrics/lumping/{model}.csv", model=MODELS),
        script=own("workflow/scripts/figures/architectures.py"),
        code=code("workflow/scripts/figures/architectures.py"),
    output:
        report(
            "results/figures/architectures.svg",
            caption="../report/captions/architectures.rst",
            category="all networks",
            labels={"figure": "architectures"},
        ),
    log:
        "logs/figures/architectures.log",
    benchmark:
        "results/timings/jobs/figures/architectures.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=10,
    message:
        "figure architectures of all networks"
    shell:
        "python {input.script:q} --lumping {input.lumping:q} --output {output:q}"
        " > {log:q} 2>&1"


rule report_figures:
    input:
        DRAWN,
    localrule: True


rule provenance:
    input:
        requirements=[own("requirements.in"), own("requirements-torch.txt")],
        script=own("workflow/scripts/provenance.py"),
        code=code("workflow/scripts/provenance.py"),
    output:
        "results/provenance.json",
    log:
        "logs/provenance.log",
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(500),
        runtime=5,
    params:
        config=json.dumps(config),
        commit=commit(),
    message:
        "record configuration, commit and versions"
    shell:
        "python {input.script:q} --config <(printf '%s' {params.config:q})"
        " --commit {params.commit:q} --requirements {input.requirements:q} --output {output:q}"
        " > {log:q} 2>&1"


CHAPTERS = sorted(path.name for path in (HOME / "report/chapters").glob("*.typ"))
PUBLISHED = sorted(path.name for path in (HOME / "report/published").glob("*.csv"))
TRAINED = [name for name in MODELS if "weights" not in config["models"][name]]
CONVERTED = [name for name in TRAINED if config["models"][name]["framework"] == "torch"]
DATASETS = [entry["dataset"] for entry in config["models"].values()]


rule chapter_lumping:
    input:
        script=own("workflow/scripts/chapters/lumping.py"),
        code=code("workflow/scripts/chapters/lumping.py"),
    output:
        "results/report/lumping.json",
    log:
        "logs/chapters/lumping.log",
    benchmark:
        "results/timings/jobs/chapters/lumping.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "numbers of the chapter on lumping"
    shell:
        "python {input.script:q} --output {output:q} > {log:q} 2>&1"


rule chapter_experiments:
    input:
        data=expand("results/data/{dataset}.npz", dataset=sorted(set(DATASETS))),
        networks=expand("results/keras/{model}.h5", model=MODELS),
        training=expand("results/metrics/training/{model}.csv", model=TRAINED),
        conversion=expand("results/metrics/conversion/{model}.json", model=CONVERTED),
        script=own("workflow/scripts/chapters/experiments.py"),
        code=code("workflow/scripts/chapters/experiments.py"),
    output:
        "results/report/experiments.json",
    log:
        "logs/chapters/experiments.log",
    benchmark:
        "results/timings/jobs/chapters/experiments.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        results=results_folder,
        datasets=sorted(set(DATASETS)),
        models=MODELS,
        trained=TRAINED,
        converted=CONVERTED,
    message:
        "numbers of the chapter on the experiments"
    shell:
        "python {input.script:q} --results {params.results:q}"
        " --datasets {params.datasets:q} --models {params.models:q}"
        " --trained {params.trained:q} --converted {params.converted:q}"
        " --output {output:q} > {log:q} 2>&1"


rule chapter_quantized:
    input:
        networks=expand("results/keras/{model}.h5", model=MODELS),
        sweep=expand("results/sweep/{model}/{bits}bit.csv", model=MODELS, bits=BITS),
        selected=expand(
            "results/metrics/quantized/{model}_{bits}bit.json", model=MODELS, bits=BITS
        ),
        measures=expand("results/metrics/networks/{model}.csv", model=MODELS),
        layers=expand("results/metrics/layers/{model}/sensitivity.csv", model=DETAILED),
        script=own("workflow/scripts/chapters/quantized.py"),
        code=code("workflow/scripts/chapters/quantized.py"),
    output:
        "results/report/quantized.json",
    log:
        "logs/chapters/quantized.log",
    benchmark:
        "results/timings/jobs/chapters/quantized.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        results=results_folder,
        models=MODELS,
        bits=BITS,
        detailed=DETAILED,
    message:
        "numbers of the chapter on quantized networks"
    shell:
        "python {input.script:q} --results {params.results:q}"
        " --models {params.models:q} --bits {params.bits:q}"
        " --detailed {params.detailed:q} --output {output:q} > {log:q} 2>&1"


rule chapter_lumped:
    input:
        lumping=expand("results/metrics/lumping/{model}.csv", model=MODELS),
        tolerance=expand("results/metrics/tolerance/{model}.csv", model=DETAILED),
        published=expand(
            "results/published/{network}.json", network=config["published"]
        ),
        script=own("workflow/scripts/chapters/lumped.py"),
        code=code("workflow/scripts/chapters/lumped.py"),
    output:
        "results/report/lumped.json",
    log:
        "logs/chapters/lumped.log",
    benchmark:
        "results/timings/jobs/chapters/lumped.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        results=results_folder,
        models=MODELS,
        detailed=DETAILED,
        published=list(config["published"]),
    message:
        "numbers of the chapter on lumped networks"
    shell:
        "python {input.script:q} --results {params.results:q}"
        " --models {params.models:q} --detailed {params.detailed:q}"
        " --published {params.published:q} --output {output:q} > {log:q} 2>&1"


rule chapter_comparison:
    input:
        comparison="results/metrics/comparison.csv",
        latency=LATENCIES,
        script=own("workflow/scripts/chapters/comparison.py"),
        code=code("workflow/scripts/chapters/comparison.py"),
    output:
        "results/report/comparison.json",
    log:
        "logs/chapters/comparison.log",
    benchmark:
        "results/timings/jobs/chapters/comparison.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "numbers of the chapter that compares chains"
    shell:
        "python {input.script:q} --comparison {input.comparison:q}"
        " --latency {input.latency:q} --output {output:q} > {log:q} 2>&1"


rule chapter_neurons:
    input:
        curves=expand("results/metrics/curves/{model}.csv", model=CURVED),
        script=own("workflow/scripts/chapters/neurons.py"),
        code=code("workflow/scripts/chapters/neurons.py"),
    output:
        "results/report/neurons.json",
    log:
        "logs/chapters/neurons.log",
    benchmark:
        "results/timings/jobs/chapters/neurons.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=10,
    message:
        "numbers of the chapter on fewer neurons"
    shell:
        "python {input.script:q} --curves {input.curves:q} --output {output:q} > {log:q} 2>&1"


rule chapter_deployment:
    input:
        deployed="results/metrics/deployed.csv",
        latency=expand("results/timings/deployed/{model}.csv", model=TIMED),
        script=own("workflow/scripts/chapters/deployment.py"),
        code=code("workflow/scripts/chapters/deployment.py"),
    output:
        "results/report/deployment.json",
    log:
        "logs/chapters/deployment.log",
    benchmark:
        "results/timings/jobs/chapters/deployment.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "numbers of the chapter on files that run in integers"
    shell:
        "python {input.script:q} --deployed {input.deployed:q} --latency {input.latency:q}"
        " --output {output:q}"
        " > {log:q} 2>&1"


rule chapter_reproduction:
    input:
        networks=expand("results/keras/{model}.h5", model=MODELS),
        sweep=expand("results/sweep/{model}/{bits}bit.csv", model=MODELS, bits=BITS),
        measures=expand("results/metrics/networks/{model}.csv", model=MODELS),
        imagenet=expand("results/imagenet/{network}.csv", network=config["imagenet"]),
        comparison=["results/metrics/comparison.csv"] if COMPARED else [],
        published=[own(f"report/published/{name}") for name in PUBLISHED],
        script=own("workflow/scripts/chapters/reproduction.py"),
        code=code("workflow/scripts/chapters/reproduction.py"),
    output:
        "results/report/reproduction.json",
    log:
        "logs/chapters/reproduction.log",
    benchmark:
        "results/timings/jobs/chapters/reproduction.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        results=results_folder,
        models=MODELS,
        datasets=DATASETS,
        samples=[samples_of(name) for name in MODELS],
        bits=BITS,
        imagenet=list(config["imagenet"]),
    message:
        "numbers of the chapter on published results"
    shell:
        "python {input.script:q} --results {params.results:q}"
        " --models {params.models:q} --datasets {params.datasets:q}"
        " --samples {params.samples:q} --bits {params.bits:q}"
        " --published {input.published:q} --imagenet {params.imagenet:q}"
        " --comparison {input.comparison:q} --output {output:q} > {log:q} 2>&1"


rule landing:
    input:
        comparison=["results/report/comparison.json"] if COMPARED else [],
        pipeline=own("report/pipeline.svg"),
        script=own("workflow/scripts/landing.py"),
        code=code("workflow/scripts/landing.py"),
    output:
        report(
            "results/report/landing.html",
            caption="../report/captions/landing.rst",
            category="thesis",
            labels={"figure": "headline table and rules"},
        ),
    log:
        "logs/landing.log",
    benchmark:
        "results/timings/jobs/landing.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=10,
    message:
        "landing page of Snakemake's report"
    shell:
        "python {input.script:q} --comparison {input.comparison:q}"
        " --pipeline {input.pipeline:q} --output {output:q} > {log:q} 2>&1"


# Chapters with data of their own.
TOLD = ["lumping", "experiments", "quantized", "lumped", "reproduction"]
if COMPARED:
    TOLD.append("comparison")
if CURVED:
    TOLD.append("neurons")
if DEPLOYED:
    TOLD.append("deployment")
if CERTIFIED:
    TOLD.append("certified")


rule thesis:
    input:
        data=[
            "results/provenance.json",
            *expand("results/report/{chapter}.json", chapter=TOLD),
        ],
        figures=DRAWN,
        pipeline=own("report/pipeline.svg"),
        source=own("report/thesis.typ"),
        style=own("report/style.typ"),
        chapters=[own(f"report/chapters/{name}") for name in CHAPTERS],
        references=own("report/references.bib"),
        script=own("workflow/scripts/typeset.py"),
        code=code("workflow/scripts/typeset.py"),
    output:
        report(
            "results/report/thesis.pdf",
            caption="../report/captions/thesis.rst",
            category="thesis",
            labels={"figure": "thesis"},
        ),
    log:
        "logs/thesis.log",
    benchmark:
        "results/timings/jobs/thesis.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "typeset the thesis"
    shell:
        "python {input.script:q} --source {input.source:q} --data {input.data:q}"
        " --figures <(printf '%s\\n' {input.figures:q}) --pipeline {input.pipeline:q}"
        " --output {output:q} > {log:q} 2>&1"


rule latex:
    input:
        data=rules.thesis.input.data,
        figures=DRAWN,
        pipeline=own("report/pipeline.svg"),
        source=own("report/thesis.typ"),
        style=own("report/style.typ"),
        chapters=[own(f"report/chapters/{name}") for name in CHAPTERS],
        references=own("report/references.bib"),
        script=own("workflow/scripts/latex.py"),
        code=code("workflow/scripts/latex.py"),
    output:
        "results/report/latex.zip",
    log:
        "logs/latex.log",
    benchmark:
        "results/timings/jobs/latex.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "tables and figures of the thesis for LaTeX"
    shell:
        "python {input.script:q} --source {input.source:q} --data {input.data:q}"
        " --figures <(printf '%s\\n' {input.figures:q}) --pipeline {input.pipeline:q}"
        " --output {output:q} > {log:q} 2>&1"
