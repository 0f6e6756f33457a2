# What a run needs of the project, and what explains it.
PROJECT = [
    *["Snakefile", "config", "config.yaml", "envs", "networks", "profiles", "report"],
    *["rules", "src", "workflow", "Makefile", "pyproject.toml", "README.md", "docs"],
    *["LICENSE", "requirements.in", "requirements.txt", "requirements-torch.txt"],
]


rule bundle:
    input:
        thesis="results/report/thesis.pdf",
        networks=rules.networks.input,
        provenance="results/provenance.json",
        script=own("workflow/scripts/bundle.py"),
        code=code("workflow/scripts/bundle.py"),
    output:
        "results/bundle.zip",
    log:
        "logs/bundle.log",
    benchmark:
        "results/timings/jobs/bundle.tsv"
    conda:
        "../envs/bundle.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=30,
    params:
        home=lambda wildcards, input: str(Path(input.script).parents[2]),
        project=[own(name) for name in PROJECT if (HOME / name).exists()],
        images=[] if config["bundle"]["images"] else ["--without-images"],
    message:
        "bundle the results with all that made them"
    shell:
        "python {input.script:q} --results {input.thesis:q} {input.networks:q}"
        " --provenance {input.provenance:q} --records .snakemake/metadata"
        " --home {params.home:q} --project {params.project:q} {params.images:q}"
        " --output {output:q} > {log:q} 2>&1"
