import shlex
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.27")

HOME = Path(workflow.current_basedir.get_path_or_uri(secret_free=False))
if set("{}") & set(str(HOME)):
    raise WorkflowError(
        f"{HOME}: Snakemake takes braces in this path for wildcards; expected a clone of netreduce"
        " in a folder without { and }"
    )
if not (HOME / "src/netreduce").is_dir():
    raise WorkflowError(
        f"{HOME}: netreduce runs from a clone of its repository, expected src/netreduce there"
    )

# Run by itself, or as a module of another workflow, which then says what else happens.
BY_ITSELF = workflow.modifier.is_main_snakefile()


# A --configfile takes the place of config.yaml; it is not laid over it.
if BY_ITSELF and not workflow.config_settings.configfiles:

    configfile: "config.yaml" if Path("config.yaml").exists() else str(HOME / "config.yaml")

elif not (BY_ITSELF or workflow.modifier.skip_configfile):
    raise WorkflowError(
        "module netreduce has no configuration; expected `config:` with a dictionary,"
        ' for example config: config["netreduce"]'
    )


SOURCES = shlex.quote(str(HOME / "src")).replace("{", "{{").replace("}", "}}")
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={SOURCES} PYTHONHASHSEED=0"
    " NUMBA_NUM_THREADS=${{OMP_NUM_THREADS:-1}}; "
)


if BY_ITSELF:

    # Snakemake's limit of jobs per second starts a timer for every job, and another whenever
    # one fires: with hundreds of jobs it takes a whole core.
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
include: "rules/certify.smk"
include: "rules/export.smk"
include: "rules/deploy.smk"
include: "rules/networks.smk"
include: "rules/report.smk"
include: "rules/bundle.smk"
include: "rules/unknown.smk"


rule all:
    default_target: True
    input:
        "results/report/thesis.pdf",
        "results/report/landing.html",
        rules.networks.input,
    localrule: True
