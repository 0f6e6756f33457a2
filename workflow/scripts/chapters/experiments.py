"""Data of the chapter on the experiments: the data sets, the networks, how they were trained, and
the checks of their conversion.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import tables

from netreduce.chains import names
from netreduce.cli.exits import run_script
from netreduce.data import SPLITS, read
from netreduce.formats import load
from netreduce.network import Network


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--datasets", nargs="+", required=True)
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--trained", nargs="*", default=[], help="models that were trained here")
    parser.add_argument("--converted", nargs="*", default=[], help="those of them from PyTorch")
    arguments = parser.parse_args()

    results = arguments.results
    data = {name: dataset(results / f"data/{name}.npz") for name in arguments.datasets}
    models = {
        name: {"layers": network_layers(load(results / f"keras/{name}.h5"))}
        for name in arguments.models
    }
    for name in arguments.trained:
        models[name]["history"] = history(results / f"metrics/training/{name}.csv")
    for name in arguments.converted:
        path = results / f"metrics/conversion/{name}.json"
        models[name]["conversion"] = json.loads(path.read_text())
    tables.write(arguments.output, {"datasets": data, "models": models})


def dataset(path: Path) -> tables.Record:
    """Which data these are, sizes of the splits, shape of a sample, kind of target."""
    data = read(path)
    sizes = {split: len(getattr(data, f"{split}_images")) for split in SPLITS}
    return {
        **sizes,
        "source": data.source,
        "shape": data.image_shape,
        "classes": len(data.classes),
        "target": data.target,
        "labelled": data.labelled,
        "outputs": data.outputs,
    }


def network_layers(network: Network) -> list[tables.Record]:
    """Name, kind, output shape and parameters of every layer."""
    return [
        {
            "name": names.layer_name(name),
            "kind": type(layer).__name__,
            "shape": shape,
            "parameters": sum(array.size for array in layer.arrays().values()),
            "weights": getattr(layer, "kernel", np.empty(0)).size,
        }
        for name, layer, shape in zip(network.names, network.layers, network.shapes, strict=True)
    ]


def history(path: Path) -> tables.Record:
    """Number of epochs, and the last one."""
    table = pd.read_csv(path)
    return {"epochs": len(table), "last": tables.records(table)[-1]}


if __name__ == "__main__":
    run_script(main)
