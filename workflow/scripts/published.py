"""Take a network made elsewhere through evaluation, cost and exact lumping, and find the alphabets
of its weights.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from measure import measure, predictions
from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.data.fit import fit_to_dataset
from netreduce.files import write_json
from netreduce.formats import load, save
from netreduce.lumping import lump
from netreduce.quantization.grids import with_grids


def alphabet(layer: Any) -> dict[str, Any]:
    """What the weights of a layer say about the alphabet they are from; an analog layer has just
    the number of its values.
    """
    found = {"weights": layer.kernel.size, "values": len(np.unique(layer.kernel))}
    if layer.quantization is not None:
        bits, scale = layer.quantization.bits, layer.quantization.scale
        levels = round(2**bits)
        found |= {
            "levels": levels,
            "bits": bits,
            "step": (2 * scale).tolist(),
            "radius": ((levels - 1) * scale).tolist(),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the network (.h5, .keras)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--input-range", type=float, nargs=2, required=True, help="smallest and largest input value"
    )
    parser.add_argument(
        "--metrics", type=Path, required=True, help="where the measures and alphabets go (.json)"
    )
    parser.add_argument(
        "--lumped", type=Path, required=True, help="where the lumped network goes (.h5)"
    )
    arguments = parser.parse_args()

    data = read(arguments.data)
    network = with_grids(fit_to_dataset(load(arguments.weights), data))
    box = data.input_range if data.own else tuple(arguments.input_range)
    lumping = lump(network, input_range=box, verify=True)
    images = data.images("test")
    outputs = network.predict(images)
    reference = predictions(network, data)
    difference = np.abs(lumping.network.predict(images) - outputs)
    save(lumping.network, arguments.lumped)
    write_json(
        arguments.metrics,
        {
            "weights": str(arguments.weights),
            "data": data.source,
            "network": measure(network, reference, data),
            "lumped": measure(lumping.network, reference, data),
            "lumping": {
                "neurons_merged": len(lumping.merges),
                "largest_output_difference": float(difference.max()),
                "bound": float(lumping.bound.max()),
                "rounding": float(lumping.rounding.max()),
            },
            "alphabets": {
                name: alphabet(layer)
                for name, layer in zip(network.names, network.layers, strict=True)
                if "kernel" in layer.arrays()
            },
        },
    )


if __name__ == "__main__":
    run_script(main)
