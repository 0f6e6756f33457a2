import fcntl
import gc
import json
import re
import subprocess
import sys
from contextlib import suppress
from itertools import product
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import validate

# Searching Snakemake's modules and its graph of jobs for garbage would take a quarter of the time of every start.
gc.freeze()
gc.set_threshold(50_000)

validate(config, "../workflow/schemas/config.schema.yaml")

sys.path[:0] = [str(Path(workflow.basedir, folder)) for folder in ("src", "workflow")]

from netreduce.chains import steps  # noqa: E402
from netreduce.errors import NetreduceError  # noqa: E402
from sources import code  # noqa: E402


def hold_folder():
    """Hold the working directory while this process lives.

    A run that was killed leaves Snakemake's lock behind. Where nobody holds the folder, not even a job on another node, that lock is stale, and goes.
    File systems without such locks keep Snakemake's; NFS wants the file readable and writable.
    """
    try:
        Path(".snakemake").mkdir(exist_ok=True)
        held = open(".snakemake/held", "a+")
    except OSError:
        return None
    if workflow.is_main_process:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for lock in Path(".snakemake/locks").glob("*.lock"):
                lock.unlink()
    with suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_SH)
    return held


HELD = hold_folder()
SEED_SUFFIX = re.compile(r"(?P<base>.+)-seed(?P<seed>\d+)")


def commit():
    """The commit of the project, or "unknown" where it is not a git checkout or there is no git."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(
            describe, cwd=workflow.basedir, capture_output=True, text=True
        )
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def text(number):
    """A number as it stands in paths: 4, 1.58, 0.05."""
    return f"{number:g}"


def model(name):
    """The configuration of a network; <model>-seed<k> is <model> trained from seed k."""
    base, seed = name, None
    if name not in config["models"] and (match := SEED_SUFFIX.fullmatch(name)):
        base, seed = match["base"], int(match["seed"])
    if base not in config["models"]:
        raise WorkflowError(
            f"unknown model {name!r}; the config has: {', '.join(config['models'])}"
        )
    entry = config["models"][base]
    if seed is not None and "weights" in entry:
        raise WorkflowError(
            f"model {base!r} is trained elsewhere (weights: {entry['weights']}), so {name!r} cannot be trained from another seed"
        )
    fallback = entry.get("seed", config["seed"])
    return {**entry, "seed": fallback if seed is None else seed}


def replicate(name, seed):
    """Name of a model trained from a seed: the model itself for its own seed."""
    return (
        name
        if "weights" in config["models"][name] or model(name)["seed"] == seed
        else f"{name}-seed{seed}"
    )


def matching(condition):
    """Wildcard constraint: the models (and, if trained here, their replicates) for which the condition holds."""
    names = [
        re.escape(name) + ("" if "weights" in entry else r"(?:-seed\d+)?")
        for name, entry in config["models"].items()
        if condition(entry)
    ]
    return "|".join(names) or r"(?!)"


def setting(key):
    """Params function: a value of the model's configuration, as JSON."""
    return lambda wildcards: json.dumps(model(wildcards.model).get(key))


def dataset(wildcards):
    return f"results/data/{model(wildcards.model)['dataset']}.npz"


def samples(wildcards):
    return model(wildcards.model).get("samples", config["sweep"]["samples"])


def methods_of(name):
    """The methods of a model's sweep."""
    return tuple(model(name).get("methods", config["sweep"]["methods"]))


def models_by_methods():
    """Wildcard constraints for the models that are swept with the same methods, by these methods."""
    return {
        methods: matching(
            lambda entry: tuple(entry.get("methods", config["sweep"]["methods"]))
            == methods
        )
        for methods in map(methods_of, config["models"])
    }


def training_threads(wildcards):
    return model(wildcards.model)["training"]["threads"]


def seed(wildcards):
    return model(wildcards.model)["seed"]


def memory(megabytes):
    """Resource function: a job that is tried again gets more."""
    return lambda wildcards, attempt: attempt * megabytes


MODELS = list(config["models"])
BITS = [text(bits) for bits in config["sweep"]["bits"]]
SCALARS = [text(scalar) for scalar in config["sweep"]["alphabet_scalars"]]
TRAINED_IN_TORCH = matching(
    lambda entry: "weights" not in entry and entry["framework"] == "torch"
)
TRAINED_IN_KERAS = matching(
    lambda entry: "weights" not in entry and entry["framework"] == "keras"
)
IMPORTED = matching(lambda entry: "weights" in entry)


def last_step(wildcards):
    """The step that makes a network of a chain; raises for a path that is no chain."""
    try:
        return steps.parse_path(wildcards.chain)[-1]
    except NetreduceError as error:
        raise WorkflowError(
            f"results/chains/{wildcards.model}/{wildcards.chain}: {error}"
        ) from None


def chain_parent(wildcards):
    """The network that the chain's last step takes: the chain without it, or the analog network."""
    if "/" in wildcards.chain:
        return f"results/chains/{wildcards.model}/{wildcards.chain.rpartition('/')[0]}/network.h5"
    return f"results/keras/{wildcards.model}.h5"


def chains(section):
    """The paths of the chains in a section of the config; refuses a bad one before any job runs."""
    try:
        return [
            "/".join(map(str, chain))
            for chain in map(steps.parse_chain, config[section]["chains"])
        ]
    except NetreduceError as error:
        raise WorkflowError(f"config, {section}: chains: {error}") from None


def models_in(section):
    """The models that a section of the config names, all where it names none."""
    for name in config[section].get("models", MODELS):
        if name not in config["models"]:
            raise WorkflowError(
                f"config, {section}: models: unknown model {name!r}; the config has: {', '.join(MODELS)}"
            )
        yield name


def compared():
    """Every row of the comparison as (model, seed, chain); a model trained elsewhere has no other seed."""
    rows = []
    for name in models_in("comparison"):
        trained_elsewhere = "weights" in config["models"][name]
        seeds = (
            [model(name)["seed"]]
            if trained_elsewhere
            else config["comparison"]["seeds"]
        )
        rows += product([name], seeds, ["analog", *CHAINS])
    return rows


CHAINS = chains("comparison")
LUMPED_CHAINS = chains("lumping")
DETAILED = list(models_in("report"))
COMPARED = compared()


def figure_arguments(tables, compared):
    """Params function: the arguments of a figure's script, one for each of its tables."""

    def arguments(wildcards, input):
        parts = [f"--{table} {getattr(input, table)}" for table in tables]
        return " ".join([*parts, f"--model {wildcards.model}"] if compared else parts)

    return arguments


def refuse(wildcards):
    """Input function for what nothing can make: says what is wrong with the target."""
    name, separator, bits = wildcards.target.rpartition("_")
    model(name if separator else wildcards.target)
    raise WorkflowError(
        f"{bits.removesuffix('bit')!r} bits make no alphabet; allowed: 1.58 (ternary), 2, 3, ..., 8"
    )


wildcard_constraints:
    dataset="mnist|fashion_mnist|digits|cifar10",
    model=matching(lambda entry: True),
    bits=r"1\.58|[2-8]",
