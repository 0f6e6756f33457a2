SWEEP = expand("results/sweep/{{model}}/{bits}bit.csv", bits=BITS)

# What each figure of a model is drawn from: argument of its script → tables or networks.
FIGURES = {
    "training": {"history": "results/metrics/training/{model}.csv"},
    "alphabet_scalar": {"sweep": SWEEP},
    "bits": {"sweep": SWEEP},
    "cumulative": {"layers": "results/metrics/layers/{model}.csv"},
    "sensitivity": {"layers": "results/metrics/layers/{model}.csv"},
    "weights": {
        "analog": "results/keras/{model}.h5",
        "quantized": expand("results/quantized/{{model}}_{bits}bit.h5", bits=BITS),
    },
    "classes": {"lumping": "results/metrics/lumping/{model}.csv"},
    "tolerance": {"tolerance": "results/metrics/tolerance/{model}.csv"},
    "pareto": {"comparison": "results/metrics/comparison.csv"},
    "chains": {"comparison": "results/metrics/comparison.csv"},
    "sparsity": {"comparison": "results/metrics/comparison.csv"},
}
OF_TRAINED_MODELS = {"training"}
OF_COMPARED_MODELS = {"pareto", "chains", "sparsity"}
# Only a technique that removes weights, alone, is a point in the figure of sparsity; one point is no figure.
SPARSE = [
    chain
    for chain in CHAINS
    if "/" not in chain
    and steps.parse_path(chain)[0].technique.family in ("pruning", "factorization")
]
if len(SPARSE) < 2:
    del FIGURES["sparsity"]

for figure, tables in FIGURES.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            **tables,
            script=f"workflow/scripts/figures/{figure}.py",
            code=code(f"workflow/scripts/figures/{figure}.py"),
        output:
            report(
                f"results/figures/{{model}}/{figure}.svg",
                caption=f"../report/captions/{figure}.rst",
                category="{model}",
                labels={"figure": figure.replace("_", " ")},
            ),
        log:
            f"logs/figures/{{model}}/{figure}.log",
        benchmark:
            f"results/timings/jobs/figures/{{model}}/{figure}.tsv"
        conda:
            "../envs/report.yaml"
        threads: 1
        resources:
            mem_mb=memory(1000),
            runtime=10,
        params:
            arguments=figure_arguments(tables, figure in OF_COMPARED_MODELS),
        message:
            f"figure {figure} of {{wildcards.model}}"
        shell:
            "python {input.script} {params.arguments} --output {output} > {log} 2>&1"


DRAWN = [
    f"results/figures/{name}/{figure}.svg"
    for name in DETAILED
    for figure in FIGURES
    if (figure not in OF_TRAINED_MODELS or "weights" not in config["models"][name])
    and (figure not in OF_COMPARED_MODELS or name in config["comparison"]["models"])
]


if len(DETAILED) < len(MODELS):
    DRAWN.append("results/figures/architectures.svg")


rule figure_architectures:
    input:
        lumping=expand("results/metrics/lumping/{model}.csv", model=MODELS),
        script="workflow/scripts/figures/architectures.py",
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
        "python {input.script} --lumping {input.lumping} --output {output} > {log} 2>&1"


rule report_figures:
    input:
        DRAWN,
    localrule: True


rule provenance:
    input:
        requirements=["requirements.in", "requirements-torch.txt"],
        script="workflow/scripts/provenance.py",
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
        "python {input.script} --config {params.config:q} --commit {params.commit} --requirements {input.requirements}"
        " --output {output} > {log} 2>&1"


CHAPTERS = sorted(path.stem for path in Path("report/chapters").glob("*.typ"))
PUBLISHED = sorted(path.stem for path in Path("report/published").glob("*.csv"))
TRAINED = [name for name in MODELS if "weights" not in config["models"][name]]
CONVERTED = [name for name in TRAINED if config["models"][name]["framework"] == "torch"]
DATASETS = sorted({entry["dataset"] for entry in config["models"].values()})


rule summarize:
    input:
        provenance="results/provenance.json",
        figures=DRAWN,
        data=expand("results/data/{dataset}.npz", dataset=DATASETS),
        networks=expand("results/keras/{model}.h5", model=MODELS),
        training=expand("results/metrics/training/{model}.csv", model=TRAINED),
        conversion=expand("results/metrics/conversion/{model}.json", model=CONVERTED),
        sweep=expand("results/sweep/{model}/{bits}bit.csv", model=MODELS, bits=BITS),
        selected=expand(
            "results/metrics/quantized/{model}_{bits}bit.json", model=MODELS, bits=BITS
        ),
        measures=expand("results/metrics/networks/{model}.csv", model=MODELS),
        lumping=expand("results/metrics/lumping/{model}.csv", model=MODELS),
        tolerance=expand("results/metrics/tolerance/{model}.csv", model=DETAILED),
        elsewhere=expand(
            "results/published/{network}.json", network=config["published"]
        ),
        imagenet=expand("results/imagenet/{network}.csv", network=config["imagenet"]),
        comparison=branch(COMPARED, then="results/metrics/comparison.csv"),
        published=collect("report/published/{name}.csv", name=PUBLISHED),
        script="workflow/scripts/summarize.py",
        code=code("workflow/scripts/summarize.py"),
    output:
        "results/report/summary.json",
    log:
        "logs/summarize.log",
    benchmark:
        "results/timings/jobs/summarize.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    params:
        comparison="--comparison results/metrics/comparison.csv" if COMPARED else "",
    message:
        "gather the numbers of the thesis"
    shell:
        "python {input.script} --provenance {input.provenance} --published report/published --figures {input.figures}"
        " --data {input.data} --networks {input.networks} --training {input.training} --conversion {input.conversion}"
        " --sweep {input.sweep} --selected {input.selected} --measures {input.measures} --lumping {input.lumping}"
        " --tolerance {input.tolerance} --elsewhere {input.elsewhere} --imagenet {input.imagenet} {params.comparison} --output {output} > {log} 2>&1"


rule thesis:
    input:
        summary="results/report/summary.json",
        figures=DRAWN,
        source="report/thesis.typ",
        style="report/style.typ",
        chapters=collect("report/chapters/{name}.typ", name=CHAPTERS),
        references="report/references.bib",
        script="workflow/scripts/typeset.py",
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
        "python {input.script} --source {input.source} --summary {input.summary} --output {output} > {log} 2>&1"
