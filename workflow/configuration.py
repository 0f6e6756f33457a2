"""What the configuration says beyond its schema: grids of models, names that may not collide, and
how long its jobs may take.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import yaml

from netreduce.chains.steps import parse_path
from netreduce.chains.techniques import TECHNIQUES
from netreduce.errors import ParameterError

SEED_SUFFIX = re.compile(r"(?P<base>.+)-seed(?P<seed>\d+)")

# Keys of a grid: where the value goes, and what stands before it in the name of the model.
GRID = {
    "hidden": ("architecture", ""),
    "batch_norm": ("architecture", "norm"),
    "epochs": ("training", "epochs"),
    "batch_size": ("training", "batch"),
    "optimizer": ("training", ""),
    "learning_rate": ("training", "rate"),
    "weight_decay": ("training", "decay"),
    "l1": ("training", "lasso"),
    "schedule": ("training", ""),
    "precision": ("training", ""),
}

# Multiplications per image: a bound for each architecture on images of at most 32×32×3 (for VGG16
# and VGG19 on ImageNet see IMAGENET).
MULTIPLICATIONS = {
    "lenet5": 9e5,
    "vgg-small": 4e7,
    "resnet20": 4.2e7,
    "vgg16": 3.4e8,
    "vgg19": 4.2e8,
}
UNKNOWN_MULTIPLICATIONS = 1e8
IMAGENET_MULTIPLICATIONS = 1.6e10
IMAGENET_IMAGES = 50_000
# Images and values per image.
SIZES = {
    "mnist": (70_000, 784),
    "fashion_mnist": (70_000, 784),
    "digits": (1_797, 64),
    "cifar10": (60_000, 3_072),
}
UNKNOWN_SIZE = (100_000, 12_288)
SPLITS = ("train", "validation", "test")
# Multiplications that one core does per second, at least.
SPEED = 5e9
# Multiplications of a network whose relaxation on one ball takes one core a second, at least.
RELAXED = 2.5e5
# What methods that choose their scales themselves begin with.
FITTED = {"radius": "mse", "per_channel": True, "conv": "joint"}
START_UP = 10  # minutes that every job may take besides


def expand_grids(models: Mapping[str, Any]) -> dict[str, Any]:
    """The models with those that have a `grid` replaced by one model for each of its points.

    >>> list(expand_grids({"net": {"grid": {"hidden": [[300, 100], [20]], "batch_size": [80]}}}))
    ['net-300-100-batch80', 'net-20-batch80']

    Raises
    ------
    ParameterError
        A grid with an unknown key, without values, or of a model that is not trained here; two
        models of one name.
    """
    expanded: dict[str, Any] = {}
    for name, entry in models.items():
        is_grid = isinstance(entry, Mapping) and "grid" in entry
        for point_name, point in points(name, entry) if is_grid else [(name, entry)]:
            if point_name in expanded:
                raise ParameterError(f"config, models: two models are named {point_name!r}")
            expanded[point_name] = point
    return expanded


def points(name: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and entry of every model of a grid; the last key changes fastest."""
    where = f"config, models: {name}: grid"
    grid = entry["grid"]
    if "weights" in entry:
        raise ParameterError(f"{where}: a network trained elsewhere (weights) cannot have one")
    if not isinstance(grid, Mapping) or not grid:
        raise ParameterError(f"{where}: expected lists of values by key, found {grid!r}")
    for key, values in grid.items():
        if key not in GRID:
            raise ParameterError(f"{where}: unknown key {key!r}; known: {', '.join(GRID)}")
        if not isinstance(values, list) or not values:
            raise ParameterError(f"{where}: {key}: expected a list of values, found {values!r}")
    for values in product(*grid.values()):
        point = {key: value for key, value in entry.items() if key != "grid"}
        if isinstance(point.get("architecture"), str):
            point["architecture"] = {"name": point["architecture"]}
        parts = [name]
        for key, value in zip(grid, values, strict=True):
            section, label = GRID[key]
            point[section] = {**(point.get(section) or {}), key: value}
            parts.append(label + in_names(value))
        if "hidden" in grid:
            point["architecture"] = {"name": "mlp", **point["architecture"]}
        yield "-".join(parts), point


def in_names(value: object) -> str:
    """A value as it stands in the name of a model: [300, 100] is 300-100, 0.001 is 0_001."""
    if isinstance(value, list):
        return "-".join(map(in_names, value))
    if isinstance(value, float):
        return f"{value:g}".replace(".", "_").replace("+", "")
    return str(value).lower()


def check_datasets(config: Mapping[str, Any]) -> None:
    """Raise ParameterError where a model or a published network names a dataset that there is not,
    or where own data have the name of a dataset of the table.
    """
    own = config["datasets"]
    if taken := [name for name in own if name in SIZES]:
        raise ParameterError(
            f"config, datasets: {taken[0]!r} is a dataset that netreduce knows; expected another"
            " name for your own"
        )
    for section in ("models", "published"):
        for name, entry in config[section].items():
            if entry["dataset"] not in (*SIZES, *own):
                raise ParameterError(
                    f"config, {section}: {name}: unknown dataset {entry['dataset']!r}; there are"
                    f" {', '.join([*SIZES, *own])}; describe your own under datasets"
                )


def files_of(entry: Mapping[str, Any], place: Callable[[str], str]) -> list[str]:
    """The files that own data are made of, from their entry under `datasets`; `place` says where
    a path of the user's is. Of a folder these are all files in it but hidden ones.
    """
    paths = [place(entry[split]) for split in SPLITS if split in entry]
    label = entry.get("label")
    if isinstance(label, str) and label.endswith(".npy"):
        paths += [place(label.format(split=split)) for split in SPLITS if split in entry]
    found: list[str] = []
    for path in map(Path, dict.fromkeys(paths)):
        found += (
            sorted(
                str(file)
                for file in path.rglob("*")
                if file.is_file() and not file.name.startswith(".")
            )
            if path.is_dir()
            else [str(path)]
        )
    for file in found:
        check_braces("own data", file)
    return found


def check_weights(config: Mapping[str, Any]) -> None:
    """Raise ParameterError for a network's file that Snakemake could not find."""
    for section in ("models", "published", "imagenet"):
        for name, entry in config[section].items():
            check_braces(f"config, {section}: {name}: weights", entry.get("weights", ""))


def check_braces(what: str, path: str) -> None:
    """Raise ParameterError for a path with braces, which Snakemake takes for wildcards."""
    if set("{}") & set(path):
        raise ParameterError(
            f"{what}: Snakemake takes the braces in {path!r} for wildcards; expected a path without"
            " { and }"
        )


def check_names(models: Mapping[str, Any]) -> None:
    """Raise ParameterError where a model has the name of another one, or of its replicate."""
    alike: dict[str, str] = {}
    for name in models:
        if (other := alike.setdefault(name.lower(), name)) != name:
            raise ParameterError(
                f"config, models: {other!r} and {name!r} differ in capital letters only, so their"
                " files would be the same on some systems"
            )
        match = SEED_SUFFIX.fullmatch(name)
        if match and match["base"] in models and "weights" not in models[match["base"]]:
            raise ParameterError(
                f"config, models: {name!r} is also the name of {match['base']!r} trained from seed"
                f" {match['seed']}; expected another name"
            )


def one_of(names: Iterable[str]) -> str:
    """A regular expression for these names, in which what they begin with alike stands once: it is
    short, and no letter of a path is looked at again for each of hundreds of models.

    >>> one_of(["net-20", "net-200", "net-30", "mine"])
    '(?:net\\\\-(?:20(?:0)?|30)|mine)'
    """
    rest: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        rest.setdefault(name[:1], []).append(name[1:])
    ends = rest.pop("", None) is not None
    branches = [re.escape(letter) + one_of(others) for letter, others in rest.items()]
    if not branches:
        return "" if ends else r"(?!)"
    if ends or len(branches) > 1:
        return f"(?:{'|'.join(branches)})" + "?" * ends
    return branches[0]


def check_radii(radii: Iterable[str | float]) -> None:
    """Raise ParameterError for a radius that is infinite, or stands twice, by one name or two."""
    seen: dict[Fraction, str] = {}
    for radius in map(str, radii):
        try:
            number = Fraction(radius)
        except ValueError:  # infinite, NaN
            raise ParameterError(
                f"config, certificates: radius: expected finite numbers, found {radius}"
            ) from None
        if (other := seen.setdefault(number, radius)) != radius:
            raise ParameterError(
                f"config, certificates: radius: {other} stands twice, as {radius}; expected once"
            )


def check_repeated_keys(file: Path) -> None:
    """Raise ParameterError for a configuration file (YAML or JSON) with a key that stands twice in
    one mapping, of which the reader would silently take the last.
    """
    waiting = [yaml.compose(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                if key.value != "<<" and str(key.value) in seen:
                    raise ParameterError(
                        f"{file}, line {key.start_mark.line + 1}: {key.value!r} stands twice,"
                        " expected once"
                    )
                seen.add(str(key.value))
                waiting.append(value)


def check_repeated(what: str, names: Collection[str]) -> None:
    """Raise ParameterError for a name that stands twice in a list."""
    seen = set()
    for name in names:
        if name in seen:
            raise ParameterError(f"{what}: {name} stands twice, expected once")
        seen.add(name)


def check_steps(chains: Iterable[str], models: Iterable[str], config: Mapping[str, Any]) -> None:
    """Raise ParameterError for a chain, as a path, with a step that trains on a grid before any has
    made one, or that learns from labels where the data of a model have none.
    """
    names = list(models)
    for chain in chains:
        on_grid = False
        for number, step in enumerate(parse_path(chain), start=1):
            where = f"chain {chain}, step {number}: {step}"
            if step.technique.on_grid and not on_grid:
                raise ParameterError(f"{where} trains weights on a grid: put a quantizer before it")
            on_grid |= step.technique.quantizes
            for name in names if step.needs_labels else []:
                dataset = config["models"][name]["dataset"]
                if config["datasets"].get(dataset, {}).get("label") == "none":
                    raise ParameterError(
                        f"{where} learns from labels, and the data of {name}, {dataset}, have none"
                    )


def sweep_of(config: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """What the sweep of a model is; the model's own words go first."""
    own = ("methods", "samples", "alphabet_scalars")
    return {**config["sweep"], **{key: entry[key] for key in own if key in entry}}


def check_sweep(config: Mapping[str, Any]) -> None:
    """Raise ParameterError where a method has alphabet scalars and is not swept, or is swept and
    has no alphabets at all.
    """
    models = config["models"].items()
    shared = [entry for _, entry in models if "alphabet_scalars" not in entry]
    own = {f"models, {name}": [entry] for name, entry in models if "alphabet_scalars" in entry}
    for place, entries in {"sweep": [{}, *shared], **own}.items():
        sweeps = [sweep_of(config, entry) for entry in entries]
        swept = list(dict.fromkeys(name for sweep in sweeps for name in sweep["methods"]))
        sweep = sweeps[0]
        scalars = sweep["alphabet_scalars"]
        known = isinstance(scalars, Mapping)
        if known and (others := [name for name in scalars if name not in swept]):
            raise ParameterError(
                f"config, {place}: alphabet_scalars: {others[0]} is not among the methods; there"
                f" are {', '.join(swept)}"
            )
        if bare := [method for method in swept if not sweep_settings(sweep, method)]:
            raise ParameterError(
                f"config, {place}: {bare[0]} has no alphabets; expected some under alphabets, or"
                f" alphabet_scalars, as {', '.join(scalars)} have them"
            )


def sweep_settings(sweep: Mapping[str, Any], method: str) -> dict[str, dict[str, Any]]:
    """The settings of a method at every bit width of a sweep, by their names in paths: the
    published alphabet at every scalar, the smallest first, then the other alphabets. Of equally
    good ones the first is chosen. Methods that choose their scales themselves have one setting.

    >>> alphabets = [{"radius": "output", "per_channel": True, "conv": "joint"}]
    >>> scalars = {"gpfq": [3, 2.0]}
    >>> sweep = {"conv": "channel", "alphabet_scalars": scalars, "alphabets": alphabets}
    >>> list(sweep_settings(sweep, "gpfq")), list(sweep_settings(sweep, "gptq"))
    (['2', '3', 'output-neuron-joint'], ['output-neuron-joint'])
    >>> list(sweep_settings(sweep, "beacon"))
    ['fitted']
    """
    if "conv" in TECHNIQUES[method].fixed:
        return {"fitted": FITTED}
    scalars = sweep["alphabet_scalars"]
    if isinstance(scalars, Mapping):
        scalars = scalars.get(method, [])
    published = {"radius": "median", "per_channel": False, "conv": sweep["conv"]}
    settings = {
        f"{scalar:g}": {"alphabet_scalar": float(scalar), **published} for scalar in sorted(scalars)
    }
    for alphabet in sweep["alphabets"]:
        sharing = "neuron" if alphabet["per_channel"] else "layer"
        settings[f"{alphabet['radius']}-{sharing}-{alphabet['conv']}"] = alphabet
    return settings


def minutes(entry: Mapping[str, Any], passes: float, threads: int = 1) -> int:
    """Time for a job that takes all images of a model's dataset through it so many times."""
    images, values = SIZES.get(entry["dataset"], UNKNOWN_SIZE)
    work = passes * images * multiplications(entry.get("architecture"), values)
    return START_UP + round(work / SPEED / threads / 60)


def certify_minutes(
    entry: Mapping[str, Any], settings: Mapping[str, Any], networks: int = 1
) -> int:
    """Time for the certificates of so many networks of a model on balls of every radius."""
    _, values = SIZES.get(entry["dataset"], UNKNOWN_SIZE)
    seconds = settings["images"] * multiplications(entry.get("architecture"), values) / RELAXED
    seconds = min(seconds, settings.get("seconds", seconds))
    return START_UP + round(networks * len(settings["radius"]) * seconds / 60)


def multiplications(architecture: str | Mapping[str, Any] | None, values: int) -> float:
    """Bound of the multiplications that an image of so many values takes."""
    if isinstance(architecture, Mapping) and "hidden" in architecture:
        widths = [values, *architecture["hidden"], 1000]
        return sum(inputs * outputs for inputs, outputs in pairwise(widths))
    name = architecture["name"] if isinstance(architecture, Mapping) else architecture
    return MULTIPLICATIONS.get(name or "", UNKNOWN_MULTIPLICATIONS)


def imagenet_minutes(entry: Mapping[str, Any], threads: int) -> int:
    """Time for a sweep on ImageNet: every setting sees the images twice."""
    images = entry["samples"] + entry.get("test_images", IMAGENET_IMAGES)
    settings = len(entry["methods"]) * len(entry["alphabet_scalars"])
    work = 2 * (1 + settings) * images * IMAGENET_MULTIPLICATIONS
    return START_UP + round(work / SPEED / threads / 60)
