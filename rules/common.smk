import fcntl
import gc
import json
import os
import re
import shlex
import subprocess
import sys
from contextlib import suppress
from functools import cache
from itertools import product

from snakemake.io import flag
from snakemake.path_modifier import PATH_MODIFIER_FLAG
from snakemake.utils import validate

# Searching Snakemake's modules and its graph of jobs for garbage would take a quarter of the
# time of every start.
gc.freeze()
gc.set_threshold(50_000)

sys.path[:0] = [str(HOME / folder) for folder in ("src", "workflow")]

import configuration  # noqa: E402
import sources  # noqa: E402
from netreduce.chains import steps  # noqa: E402
from netreduce.chains.techniques import TECHNIQUES  # noqa: E402
from netreduce.errors import NetreduceError, ParameterError  # noqa: E402

try:
    if BY_ITSELF:
        for file in [*workflow.configfiles, *workflow.config_settings.configfiles]:
            configuration.check_repeated_keys(Path(file))
    if isinstance(config.get("models"), dict):
        config["models"] = configuration.expand_grids(config["models"])
    validate(config, "../workflow/schemas/config.schema.yaml")
    configuration.check_names(config["models"])
    configuration.check_datasets(config)
    configuration.check_weights(config)
    configuration.check_sweep(config)
    configuration.check_radii(config.get("certificates", {}).get("radius", []))
except NetreduceError as error:
    raise WorkflowError(str(error)) from None

AT_HOME = BY_ITSELF and os.path.samefile(HOME, Path())


def own(path):
    """A file of the project, from wherever the workflow runs."""
    return path if AT_HOME else str(HOME / path)


def given(path):
    """A file that the user names: in the working directory, whatever the prefix of a module; else
    the project's own.
    """
    if not Path(path).exists() and (HOME / path).exists():
        return own(path)
    return flag(path, PATH_MODIFIER_FLAG)


@cache
def code(script, *modules):
    """The project's code behind a script, as an input of a rule: a list of its files with their
    digests. It stands for all of them, for Snakemake looks at every input of every job.
    """
    name = "-".join([*Path(script).with_suffix("").parts[2:], *modules])
    path = Path(".snakemake/code", f"{name}.txt")
    if workflow.is_main_process:
        try:
            sources.write_list(path, sources.code(script, *modules, home=HOME), HOME)
        except OSError as error:
            raise WorkflowError(
                f"{path}: cannot be written ({error.strerror})"
            ) from None
    return flag(str(path), PATH_MODIFIER_FLAG)


def hold_folder():
    """Hold the working directory while this process lives.

    A run that was killed leaves Snakemake's lock behind. Where nobody holds the folder, not even a job on another node, that lock is stale, and goes.
    File systems without such locks keep Snakemake's; NFS wants the file readable and writable.
    """
    try:
        Path(".snakemake").mkdir(exist_ok=True)
    except OSError as error:
        raise WorkflowError(
            f"{Path.cwd()}: the working directory cannot be written ({error.strerror});"
            " --directory takes another one"
        ) from None
    try:
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


def commit():
    """The commit of the project, or "unknown" where it is not a git checkout or there is no git."""
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(describe, cwd=HOME, capture_output=True, text=True)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def text(number):
    """A number as it stands in paths: 4, 1.58, 0.05."""
    return f"{number:g}"


def model(name):
    """The configuration of a network; <model>-seed<k> is <model> trained from seed k."""
    base, seed = name, None
    match = configuration.SEED_SUFFIX.fullmatch(name)
    if name not in config["models"] and match:
        base, seed = match["base"], int(match["seed"])
    if base not in config["models"]:
        raise WorkflowError(
            f"unknown model {name!r}; the config has: {', '.join(config['models'])}"
        )
    entry = config["models"][base]
    if seed is not None and "weights" in entry:
        raise WorkflowError(
            f"model {base!r} is trained elsewhere (weights: {entry['weights']}), so {name!r}"
            " cannot be trained from another seed"
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
    """Wildcard constraint: the models (and, if trained here, their replicates) for which the
    condition holds.
    """
    here, elsewhere = [], []
    for name, entry in config["models"].items():
        if condition(entry):
            (elsewhere if "weights" in entry else here).append(name)
    return (
        rf"{configuration.one_of(here)}(?:-seed\d+)?|{configuration.one_of(elsewhere)}"
    )


def setting(key):
    """Params function: a value of the model's configuration, as JSON."""
    return lambda wildcards: json.dumps(model(wildcards.model).get(key))


def dataset(wildcards):
    return f"results/data/{model(wildcards.model)['dataset']}.npz"


def own_data(wildcards):
    """The entry of own data, with its files where they are; none for a dataset of the table."""
    entry = dict(config["datasets"].get(wildcards.dataset, {}))
    for split in configuration.SPLITS:
        if split in entry:
            entry[split] = str(given(entry[split]))
    label = entry.get("label")
    if isinstance(label, str) and label.endswith(".npy"):
        entry["label"] = str(given(label))
    return entry


def own_files(wildcards):
    """Input function: the files that own data are made of."""
    entry = config["datasets"].get(wildcards.dataset, {})
    return [given(file) for file in configuration.files_of(entry, given)]


def sweep(name):
    """What the sweep of a model is."""
    return configuration.sweep_of(config, model(name))


def samples_of(name):
    """Training images that the methods of a model's sweep see."""
    return sweep(name)["samples"]


def samples(wildcards):
    return samples_of(wildcards.model)


def methods(name):
    """The methods of a model's sweep."""
    return sweep(name)["methods"]


def settings(name, method):
    """The settings of a method in a model's sweep, by their names."""
    return configuration.sweep_settings(sweep(name), method)


def of_methods(path):
    """Input function: a path for every method of the model's sweep."""
    return lambda wildcards: expand(
        path, **wildcards, method=methods(wildcards.model), allow_missing=True
    )


def swept(wildcards):
    """Input function: every network of a model's sweep at a bit width."""
    return [
        f"results/sweep/{wildcards.model}/{method}_{wildcards.bits}bit_{name}.h5"
        for method in methods(wildcards.model)
        for name in settings(wildcards.model, method)
    ]


def training_threads(wildcards):
    return model(wildcards.model)["training"]["threads"]


def seed(wildcards):
    return model(wildcards.model)["seed"]


def memory(megabytes):
    """Resource function: a job that is tried again gets more."""
    return lambda wildcards, attempt: attempt * megabytes


def minutes(passes):
    """Resource function: time for what takes all images of the dataset through the model so many
    times (a number, or a function of the wildcards); a job that is tried again gets more.
    """

    def function(wildcards, attempt, threads):
        count = passes(wildcards) if callable(passes) else passes
        return attempt * configuration.minutes(model(wildcards.model), count, threads)

    return function


def certify_minutes(networks):
    """Resource function: time for the certificates of so many networks of a model."""

    def function(wildcards, attempt):
        settings = config.get("certificates", {"radius": [], "images": 0})
        entry = model(wildcards.model)
        return attempt * configuration.certify_minutes(entry, settings, networks)

    return function


def tolerance_minutes(wildcards, attempt, threads):
    """Resource function: time for lumping at every tolerance, and for its certificates."""
    count = len(config["lumping"]["tolerances"])
    wanted = minutes(6 * len(BITS) * count)(wildcards, attempt, threads)
    if ball_arguments(wildcards):
        wanted += certify_minutes((1 + len(BITS)) * count)(wildcards, attempt)
    return wanted


def training_passes(wildcards):
    """Forwards, and backwards for the weights and for the inputs, in every epoch."""
    return 3 * model(wildcards.model)["training"]["epochs"]


def reduction_passes(wildcards):
    """Six scalars on two splits and then some; those that train the network again, its epochs."""
    step = last_step(wildcards).parameters
    return 30 + 3 * step.get("epochs", 0) * step.get("iterations", 1)


MODELS = list(config["models"])
BITS = [text(bits) for bits in config["sweep"]["bits"]]
QUANTIZERS = [
    name for name, technique in TECHNIQUES.items() if technique.family == "quantization"
]
TRAINED_IN_TORCH = matching(
    lambda entry: "weights" not in entry and entry["framework"] == "torch"
)
TRAINED_IN_KERAS = matching(
    lambda entry: "weights" not in entry and entry["framework"] == "keras"
)
IMPORTED = matching(lambda entry: "weights" in entry)
# Models by method and what their sweeps with it try.
SWEEPS = {}
for name, method in product(MODELS, QUANTIZERS):
    if tried := settings(name, method):
        SWEEPS.setdefault((method, json.dumps(tried)), []).append(name)


def sweep_rule(method, names):
    """sweep_<method>, of models with alphabets of their own with the first of their names."""
    first = next(models for (other, _), models in SWEEPS.items() if other == method)
    own = [] if names is first else [names[0]]
    return "_".join(["sweep", method, *own]).replace("-", "_")


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
        parent = wildcards.chain.rpartition("/")[0]
        return f"results/chains/{wildcards.model}/{parent}/network.h5"
    return f"results/keras/{wildcards.model}.h5"


def chains(section):
    """The paths of the chains in a section of the config; refuses a bad one before any job runs."""
    try:
        paths = [
            "/".join(map(str, chain))
            for chain in map(steps.parse_chain, config[section]["chains"])
        ]
        configuration.check_repeated(f"config, {section}: chains", paths)
        if section == "lumping" and (rounded := [*filter(rounds_activations, paths)]):
            raise ParameterError(
                f"chain {rounded[0]}: networks whose activations are rounded cannot be lumped"
            )
        configuration.check_steps(paths, models_in(section), config)
    except NetreduceError as error:
        where = f"config, {section}: chains: "
        raise WorkflowError(where + str(error).removeprefix(where)) from None
    return paths


def rounds_activations(chain):
    """Whether a network, by its chain's path, has activations on grids."""
    parsed = () if chain == "analog" else steps.parse_path(chain)
    return any(step.technique.rounds_activations for step in parsed)


def models_in(section):
    """The models that a section of the config names, all where it names none."""
    for name in config[section].get("models", MODELS):
        if name not in config["models"]:
            raise WorkflowError(
                f"config, {section}: models: unknown model {name!r}; the config has:"
                f" {', '.join(MODELS)}"
            )
        yield name


def compared():
    """Every row of the comparison as (model, seed, chain); a model trained elsewhere has no other
    seed.
    """
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


def certified():
    """Every certified network as (model, seed, network): those of each model, analog and quantized,
    and the chains of the comparison on its first seed, but for those that round activations.
    """
    if "certificates" not in config:
        return []
    names = list(models_in("certificates"))
    rows = [
        (name, model(name)["seed"], network)
        for name in names
        for network in ["analog", *BITS]
    ]
    first = {name: seed for name, seed, _ in reversed(COMPARED)}
    rows += [
        row
        for row in COMPARED
        if row[0] in names
        and row[1] == first[row[0]]
        and not rounds_activations(row[2])
    ]
    return list(dict.fromkeys(rows))


def certificate(name, seed, network):
    """The file with the certificates of a network."""
    network = f"{network}bit" if network in BITS else network
    return f"results/certificates/{replicate(name, seed)}/{network}.json"


def certified_network(wildcards):
    """The network of a certificate: the analog one itself, a quantized one by its bits, or that of
    a chain.
    """
    if "certificates" not in config:
        raise WorkflowError(
            "config: certificates: radius and images are needed to certify a network, found none"
        )
    if wildcards.network == "analog":
        return f"results/keras/{wildcards.model}.h5"
    if re.fullmatch(r"(1\.58|[2-8])bit", wildcards.network):
        return f"results/quantized/{wildcards.model}_{wildcards.network}.h5"
    return f"results/chains/{wildcards.model}/{wildcards.network}/network.h5"


def ball_arguments(wildcards):
    """Params function: on which balls lumping at every tolerance is certified too, those of the
    first radius; none for networks that are not certified.
    """
    if wildcards.model not in {name for name, _, _ in CERTIFIED}:
        return ""
    settings = config["certificates"]
    seconds = json.dumps(settings.get("seconds"))
    return shlex.join(
        [
            *("--radius", str(settings["radius"][0])),
            *("--images", str(settings["images"]), "--seconds", seconds),
        ]
    )


def first_replicate(name):
    """A model of the comparison, trained from the first of its seeds."""
    seed = next(seed for model, seed, _ in COMPARED if model == name)
    return replicate(name, seed)


CHAINS = chains("comparison")
LUMPED_CHAINS = chains("lumping")
# Snakemake looks once at what is in a folder: the lists must be there before
for path in CHAINS:
    for step in steps.parse_path(path):
        code("workflow/scripts/reduce.py", *step.modules)
DETAILED = list(models_in("report"))
COMPARED = compared()
# Chains of which the latency is measured; those that round activations run elsewhere, in integers.
TIMED_CHAINS = ["analog", *(chain for chain in CHAINS if not rounds_activations(chain))]
CURVES = sorted(path.name for path in (HOME / "report/published/curves").glob("*.csv"))
CURVED = list(models_in("curves"))
LATENCIES = [
    f"results/timings/latency/chains/{name}.csv"
    for name in models_in("comparison")
    if config["comparison"]["latency"]
]
DEPLOYED = [
    (name, f"{bits:g}", config["deployment"]["activations"])
    for name in models_in("deployment")
    for bits in config["deployment"]["weights"]
]
# Models whose files in integers are timed.
TIMED = dict.fromkeys(name for name, *_ in DEPLOYED if config["deployment"]["latency"])
CERTIFIED = certified()

SWEEP = expand("results/sweep/{{model}}/{bits}bit.csv", bits=BITS)

MIXED = [
    chain
    for chain in CHAINS
    if any(
        step.technique.family == "mixed precision" for step in steps.parse_path(chain)
    )
]

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
    "chosen_bits": {
        "networks": expand("results/chains/{{model}}/{chain}/network.h5", chain=MIXED)
    },
    "deployment": {
        "deployed": "results/metrics/deployed.csv",
        "latency": "results/timings/deployed/{model}.csv",
    },
    "neurons": {"curves": "results/metrics/curves/{model}.csv"},
    "certified_bits": {"certificates": "results/metrics/certificates.csv"},
    "certified_chains": {"certificates": "results/metrics/certificates.csv"},
}
# Arguments of a figure's script that are no files.
FIGURE_VALUES = {
    "weights": {"bits": BITS},
    "chosen_bits": {"chains": MIXED},
    **dict.fromkeys(
        (
            *("pareto", "chains", "sparsity", "deployment"),
            *("certified_bits", "certified_chains"),
        ),
        {"model": ["{model}"]},
    ),
}


def figure_tables(wildcards):
    """Input function: the tables of a figure, by the argument of its script."""
    return {
        argument: expand(tables, model=wildcards.model)
        for argument, tables in FIGURES[wildcards.figure].items()
    }


def figure_arguments(wildcards, input):
    """Params function: the arguments of a figure's script, as its shell command wants them."""
    arguments = []
    for name in FIGURES[wildcards.figure]:
        arguments += [f"--{name}", *input[name]]
    for name, values in FIGURE_VALUES.get(wildcards.figure, {}).items():
        arguments += [f"--{name}", *expand(values, model=wildcards.model)]
    return shlex.join(map(str, arguments))


def drawn():
    """The figures of the report. That of sparsity shows techniques that remove weights, alone; one
    such point is no figure.
    """
    families = [
        steps.parse_path(chain)[0].technique.family
        for chain in CHAINS
        if "/" not in chain
    ]
    sparse = sum(family in ("pruning", "factorization") for family in families)
    for name in DETAILED:
        for figure, tables in FIGURES.items():
            trained = "history" not in tables or "weights" not in config["models"][name]
            in_comparison = (
                "comparison" not in tables or name in config["comparison"]["models"]
            )
            is_timed = "latency" not in tables or name in TIMED
            is_curved = "curves" not in tables or name in CURVED
            has_scalars = figure != "alphabet_scalar" or any(
                "alphabet_scalar" in setting
                for method in methods(name)
                for setting in settings(name, method).values()
            )
            is_certified = "certificates" not in tables or any(
                model == name and (figure == "certified_chains") == (network in CHAINS)
                for model, _, network in CERTIFIED
                if network != "analog"
            )
            if (
                trained
                and in_comparison
                and is_timed
                and is_curved
                and has_scalars
                and is_certified
                and (figure != "sparsity" or sparse > 1)
                and (
                    figure != "chosen_bits"
                    or (MIXED and name in config["comparison"]["models"])
                )
            ):
                yield f"results/figures/{name}/{figure}.svg"
    if len(DETAILED) < len(MODELS):
        yield "results/figures/architectures.svg"


DRAWN = list(drawn())
for figure in DRAWN:  # as those of chains, before Snakemake looks
    code(f"workflow/scripts/figures/{Path(figure).stem}.py")


def results_folder(wildcards, output):
    """Params function: the folder of all results, from where <results>/report/<chapter>.json goes;
    the names of hundreds of files would be too long for a command.
    """
    return str(Path(output[0]).parents[1])


def imagenet(key):
    """Params function: a value of the configuration of a network for ImageNet."""
    return lambda wildcards: config["imagenet"][wildcards.network].get(key)


def imagenet_minutes(wildcards, attempt, threads):
    entry = config["imagenet"][wildcards.network]
    return attempt * configuration.imagenet_minutes(entry, threads)


def refuse(wildcards):
    """Input function for what nothing can make: says what is wrong with the target."""
    name, separator, bits = wildcards.target.rpartition("_")
    model(name if separator else wildcards.target)
    raise WorkflowError(
        f"{bits.removesuffix('bit')!r} bits make no alphabet; allowed: 1.58 (ternary), 2, 3, ...,"
        " 8"
    )


# Snakemake looks at the text of every constraint for every file of a job, so that of models is
# short, and input functions refuse models that there are not.
MODEL = "[A-Za-z0-9][A-Za-z0-9_-]*"


wildcard_constraints:
    dataset="|".join([*configuration.SIZES, *config["datasets"]]),
    model=MODEL,
    bits=r"1\.58|[2-8]",
    method="|".join(QUANTIZERS),
    figure="|".join(FIGURES),
