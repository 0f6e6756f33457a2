"""netreduce init: a folder with a configuration, ready for the workflow."""

import shlex
from pathlib import Path

from netreduce.errors import ParameterError
from netreduce.files import replacing
from netreduce.formats import load
from netreduce.network.architectures import build

from .app import OutputOptions
from .files import architecture_of, refuse_existing
from .printing import print_json

# Datasets that the workflow fetches, and the shape of their samples.
TABLE = {
    "mnist": (28, 28, 1),
    "fashion_mnist": (28, 28, 1),
    "digits": (8, 8, 1),
    "cifar10": (32, 32, 3),
}


def init(
    folder: Path,
    weights: Path | None,
    architecture: str | None,
    data: Path | None,
    dataset: str | None,
    output: OutputOptions,
) -> None:
    if data is not None and dataset is not None:
        raise ParameterError("--data and --dataset exclude each other")
    if data is None and (dataset or "mnist") not in TABLE:
        raise ParameterError(f"--dataset must be one of {', '.join(TABLE)}, found {dataset!r}")
    for path in (weights, data):
        if path is not None and not path.exists():
            raise ParameterError(f"{path}: no such file or folder")
    refuse_existing(folder, output, folder=True)
    described = architecture_of(architecture)
    if weights is not None:
        load(weights, described)
    else:
        described = described or {"name": "mlp", "hidden": [300, 100]}
        if data is None:
            build(described, TABLE[dataset or "mnist"], classes=10)
    content = configuration(weights, described, data, dataset or "mnist")
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(content, encoding="utf-8")
    if output.json:
        print_json({"config": str(folder / "config.yaml")})
        return
    print(f"{folder / 'config.yaml'} is written. In a checkout of netreduce:")
    where = [
        shlex.quote(str(path)) for path in (folder.resolve(), folder.resolve() / "config.yaml")
    ]
    print("  snakemake --cores all -d {} --configfile {}".format(*where))


def configuration(
    weights: Path | None, architecture: object, data: Path | None, dataset: str
) -> str:
    """The text of a configuration for one network."""
    import json

    name = "mine" if data is not None else dataset
    lines = [
        "# Made by `netreduce init`; the workflow's own config.yaml explains every key.",
        "seed: 0",
        "",
    ]
    if data is not None:
        lines += ["datasets:", f"  mine: {{train: {json.dumps(str(data.resolve()))}}}", ""]
    model = [f"    dataset: {name}"]
    if weights is not None:
        model.append(f"    weights: {json.dumps(str(weights.resolve()))}")
    if architecture is not None:
        model.append(f"    architecture: {json.dumps(architecture)}")
    if weights is None:
        model.append(
            "    training: {epochs: 5, batch_size: 128, optimizer: adam, learning_rate: 0.001}"
        )
    lines += ["models:", "  network:", *model, ""]
    return "\n".join([*lines, REST])


REST = """\
sweep:
  methods: [gpfq, msq]
  bits: [1.58, 2, 3, 4]
  alphabet_scalars: [1, 2, 3, 4, 5, 6]
  samples: 2500
  layer_images: 1000
  conv: joint

lumping:
  tolerances: [0, 0.1, 0.3]
  input_range: [0, 1]

comparison:
  models: [network]
  seeds: [0]
  samples: 2500
  chains:
    - [gpfq: {bits: 4}]
    - [gpfq: {bits: 2}]
    - [nnrelief: 0.95]
    - [structured: 0.7]
    - [nnrelief: 0.95, gpfq: {bits: 4}, lump: {tolerance: 0}]

report:
  title: "How far can this network shrink?"
  subtitle: "Quantization, lumping and pruning, compared"
  author: ""
"""
