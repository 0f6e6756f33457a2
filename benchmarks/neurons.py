"""Fewer neurons, method by method: accuracy on the test samples, and processor time.

    python benchmarks/neurons.py results/keras/mnist.h5 --data results/data/mnist.npz --keep 400 280

`select` with its allocation, and for comparison, with the same part of every layer kept, itself,
LiNNA's bases (variance, greedy), ThiNet, model folding with repair and structured pruning by norm.
Nothing is retrained. Prints a Markdown table.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import netreduce as nr
from netreduce.data import read
from netreduce.measures.cost import layer_costs
from netreduce.network import Network
from netreduce.pruning.selection import METHODS
from netreduce.pruning.structured import structured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("--architecture", type=json.loads)
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--samples", type=int, default=5000, help="training samples to learn from")
    parser.add_argument("--keep", type=int, nargs="+", required=True, help="hidden neurons left")
    arguments = parser.parse_args()

    network = nr.load(arguments.network, arguments.architecture)
    data = read(arguments.data)
    shape = (-1, *network.input_shape)
    x = data.images("train", arguments.samples).reshape(shape)
    test, labels = data.images("test").reshape(shape), data.test_labels
    neurons = sum(layer.neurons for layer in layer_costs(network)[:-1])
    print(f"{100 * nr.evaluate(network, test, labels).accuracy:.2f} % with {neurons} neurons\n")

    names = ["select", *(f"{name}, uniform" for name in METHODS), "folding", "structured"]
    print("| neurons |", " | ".join(names), "| seconds of select |")
    print("|---:|" + "---:|" * (len(names) + 1))
    for keep in arguments.keep:
        fraction = keep / neurons
        ways: list[Callable[[], Network]] = [
            partial(nr.select, network, x, keep),
            *(partial(nr.select, network, x, fraction=fraction, method=name) for name in METHODS),
            partial(nr.fold_neurons, network, x, fraction),
            partial(structured, network, fraction),
        ]
        cells, seconds = [], []
        for way in ways:
            start = time.process_time()
            reduced = way()
            seconds.append(time.process_time() - start)
            cells.append(f"{100 * nr.evaluate(reduced, test, labels).accuracy:.2f}")
        print(f"| {keep} |", " | ".join(cells), f"| {seconds[0]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
