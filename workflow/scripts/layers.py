"""How good a network is as its layers are quantized one after the other, and with each layer
quantized alone; and of every layer its bits, or why it has none, its error and its bytes.
"""

import argparse
import json
import re
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.measures.evaluation import trial
from netreduce.quantization.sensitivity import sensitivity

SAMPLES = 200  # test images on which the error of a layer is measured
QUANTIZED = re.compile(r"(?P<method>\w+)_(?P<bits>[\d.]+)bit")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analog", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument(
        "--quantized",
        type=Path,
        nargs="+",
        required=True,
        help="its quantized networks, <method>_<bits>bit.h5",
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--images",
        type=json.loads,
        required=True,
        help="test images to evaluate on, the first ones; null for all",
    )
    parser.add_argument("--output", type=Path, required=True, help="where the measures go (.csv)")
    parser.add_argument(
        "--sensitivity",
        type=Path,
        required=True,
        help="where bits, error and bytes of every layer go (.csv)",
    )
    arguments = parser.parse_args()

    analog = load(arguments.analog)
    data = read(arguments.data)
    test = trial(data, "test", analog, arguments.images)
    measure = test.measure.name
    of_analog = test.score(analog)
    few = data.images("test", SAMPLES)
    rows, table = [], []
    for path in arguments.quantized:
        match = QUANTIZED.fullmatch(path.stem)
        assert match, path
        key = match.groupdict()
        quantized = load(path)
        table += [{**key, **row} for row in sensitivity(analog, quantized, few)]
        indices = [
            i
            for i, layer in enumerate(quantized.layers)
            if getattr(layer, "quantization", None) is not None
        ]
        for position, index in enumerate(indices, start=1):
            for kind, taken in (("cumulative", indices[:position]), ("single", [index])):
                network = analog.replace({i: quantized.layers[i] for i in taken})
                rows.append(
                    {
                        **key,
                        "kind": kind,
                        "layer": analog.names[index],
                        "position": position,
                        f"test_{measure}": test.score(network),
                        f"analog_{measure}": of_analog,
                    }
                )
    write_table(arguments.output, rows)
    write_table(arguments.sensitivity, table)


if __name__ == "__main__":
    run_script(main)
