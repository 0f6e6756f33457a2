"""Bring in a network trained elsewhere and check that it fits its dataset."""

import argparse
import json
from pathlib import Path
from typing import Any

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.data.fit import fit_to_dataset
from netreduce.formats import load, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the network")
    parser.add_argument(
        "--architecture",
        type=json.loads,
        required=True,
        help="architecture as in the config, as JSON; null for files that hold it",
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--network", type=Path, required=True, help="where the Keras network goes (.h5)"
    )
    arguments = parser.parse_args()

    data = read(arguments.data)
    architecture = arguments.architecture
    if architecture:
        architecture = {"name": architecture} if isinstance(architecture, str) else architecture
        shapes: dict[str, Any] = {"input_shape": data.image_shape}
        if data.outputs is not None:
            shapes["classes"] = data.outputs
        architecture = {**shapes, **architecture}
    network = load(arguments.weights, architecture)
    save(fit_to_dataset(network, data), arguments.network)


if __name__ == "__main__":
    run_script(main)
