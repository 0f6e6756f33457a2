rule certify:
    input:
        original="results/keras/{model}.h5",
        reduced=certified_network,
        data=dataset,
        script=own("workflow/scripts/certify.py"),
        code=code("workflow/scripts/certify.py"),
    output:
        "results/certificates/{model}/{network}.json",
    log:
        "logs/certify/{model}/{network}.log",
    benchmark:
        "results/timings/jobs/certify/{model}/{network}.tsv"
    wildcard_constraints:
        network=r"[^/]+(?:/[^/]+)*",
    conda:
        "../envs/certify.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=certify_minutes(1),
    params:
        images=lookup("certificates/images", within=config, default=None),
        radius=lookup("certificates/radius", within=config, default=None),
        seconds=json.dumps(config.get("certificates", {}).get("seconds")),
        input_range=lookup("lumping/input_range", within=config),
    message:
        "certify {wildcards.model} around test images: {wildcards.network}"
    shell:
        "python {input.script:q} --original {input.original:q} --reduced {input.reduced:q}"
        " --data {input.data:q} --images {params.images:q} --radius {params.radius:q}"
        " --input-range {params.input_range:q} --seconds {params.seconds:q}"
        " --output {output:q} > {log:q} 2>&1"


rule certificates:
    input:
        certificates=[certificate(*row) for row in CERTIFIED],
        script=own("workflow/scripts/certificates.py"),
        code=code("workflow/scripts/certificates.py"),
    output:
        "results/metrics/certificates.csv",
    log:
        "logs/certificates.log",
    benchmark:
        "results/timings/jobs/certificates.tsv"
    conda:
        "../envs/certify.yaml"
    threads: 1
    resources:
        mem_mb=memory(1000),
        runtime=5,
    params:
        rows=[f"{name},{seed},{network}" for name, seed, network in CERTIFIED],
    message:
        "table of all certificates"
    shell:
        "python {input.script:q} --rows <(printf '%s\\n' {params.rows:q})"
        " --certificates <(printf '%s\\n' {input.certificates:q}) --output {output:q}"
        " > {log:q} 2>&1"


rule chapter_certified:
    input:
        certificates="results/metrics/certificates.csv",
        script=own("workflow/scripts/chapters/certified.py"),
        code=code("workflow/scripts/chapters/certified.py"),
    output:
        "results/report/certified.json",
    log:
        "logs/chapters/certified.log",
    benchmark:
        "results/timings/jobs/chapters/certified.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=memory(2000),
        runtime=10,
    message:
        "numbers of the chapter on certified networks"
    shell:
        "python {input.script:q} --certificates {input.certificates:q} --output {output:q}"
        " > {log:q} 2>&1"
