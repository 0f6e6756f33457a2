from snakemake.utils import min_version

min_version("9.27")


# A --configfile takes the place of config.yaml; it is not laid over it.
if not workflow.config_settings.configfiles:

    configfile: "config.yaml"


shell.prefix(
    "set -euo pipefail; export PYTHONPATH=src NUMBA_NUM_THREADS=${{OMP_NUM_THREADS:-1}} PYTHONHASHSEED=0; "
)


# Snakemake's limit of jobs per second starts a timer for every job, and another whenever one fires: with hundreds of jobs it takes a whole core.
onstart:
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


report: "report/captions/workflow.rst"


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/convert.smk"
include: "rules/quantize.smk"
include: "rules/lump.smk"
include: "rules/compare.smk"
include: "rules/export.smk"
include: "rules/networks.smk"
include: "rules/report.smk"
include: "rules/bundle.smk"
include: "rules/unknown.smk"


rule all:
    default_target: True
    input:
        "results/report/thesis.pdf",
        rules.networks.input,
    localrule: True
