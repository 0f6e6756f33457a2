SWEEP = expand("results/sweep/{{model}}/{bits}bit.csv", bits=BITS)

# What each figure of a model is drawn from: argument of its script → tables or networks.
FIGURES = {
    "training": {"history": "results/metrics/training/{model}.csv"},
    "alphabet_scalar": {"sweep": SWEEP},
    "bits": {"sweep": SWEEP},
    "cumulative": {"layers": "results/metrics/layers/{model}.csv", "sweep": SWEEP},
    "sensitivity": {"layers": "results/metrics/layers/{model}.csv", "sweep": SWEEP},
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
            mem_mb=1000,
            runtime=10,
        params:
            arguments=figure_arguments(tables, figure in OF_COMPARED_MODELS),
        message:
            f"figure {figure} of {{wildcards.model}}"
        shell:
            "python {input.script} {params.arguments} --output {output} > {log} 2>&1"


def figures():
    """Every figure of the report."""
    return [
        f"results/figures/{name}/{figure}.svg"
        for name in MODELS
        for figure in FIGURES
        if (figure not in OF_TRAINED_MODELS or "weights" not in config["models"][name])
        and (figure not in OF_COMPARED_MODELS or name in config["comparison"]["models"])
    ]


rule report_figures:
    input:
        figures(),
    localrule: True


rule provenance:
    input:
        requirements="requirements.in",
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
        mem_mb=500,
        runtime=5,
    params:
        config=json.dumps(config),
        commit=commit(),
    message:
        "record configuration, commit and versions"
    shell:
        "python {input.script} --config {params.config:q} --commit {params.commit} --requirements {input.requirements}"
        " --output {output} > {log} 2>&1"
