"""Quality of a network over the neurons that are left, technique by technique; nothing is
retrained.

Beside it, where the network is of the same widths, what was published: a table with columns
network (its hidden widths, with x between), method, neurons, accuracy.
"""

import argparse
import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.errors import NetreduceError
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.lumping import lump
from netreduce.measures.cost import layer_costs
from netreduce.measures.evaluation import trial
from netreduce.network import Network
from netreduce.pruning import prune
from netreduce.pruning.selection import select


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--fractions", type=float, nargs="+", required=True)
    parser.add_argument("--samples", type=int, required=True, help="training samples to learn from")
    parser.add_argument("--published", type=Path, nargs="*", default=[], help="tables (.csv)")
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    network, data = load(arguments.network), read(arguments.data)
    x = data.images("train", arguments.samples)
    test = trial(data, "test", network)
    widths = [layer.neurons for layer in layer_costs(network) if layer.neurons][:-1]
    hidden = sum(widths)
    whole = test.score(network)

    def row(method: str, neurons: int, score: float | None) -> dict[str, object]:
        return {"method": method, "neurons": neurons, f"test_{test.measure.name}": score}

    rows = []
    for method in ("select", "lump", "variance", "greedy", "structured"):
        rows.append(row(method, hidden, whole))
        for fraction in sorted(arguments.fractions, reverse=True):
            try:
                reduced = ways(network, x, fraction, hidden)[method]()
            except NetreduceError as error:
                print(f"{method}, {fraction:g}: {error}")
                continue
            left = hidden - _neurons(network) + _neurons(reduced)
            if rows[-1]["neurons"] != left:
                rows.append(row(method, left, test.score(reduced)))
    name = "x".join(map(str, widths))
    for path in arguments.published:
        rows += [
            row(entry["method"], int(entry["neurons"]), float(entry["accuracy"]))
            for entry in csv.DictReader(path.read_text(encoding="utf-8").splitlines())
            if entry["network"] == name and test.measure.name == "accuracy"
        ]
    write_table(arguments.output, rows)


def ways(
    network: Network, x: np.ndarray, fraction: float, hidden: int
) -> dict[str, Callable[[], Network]]:
    """To keep a part of the hidden neurons: of all together where the technique can share it out,
    else of every layer.
    """
    keep = max(1, round(fraction * hidden))
    return {
        "select": partial(select, network, x, keep),
        "lump": lambda: lump(network, keep=keep, samples=x, match="activations").network,
        "variance": partial(select, network, x, fraction=fraction, method="variance"),
        "greedy": partial(select, network, x, fraction=fraction, method="greedy"),
        "structured": partial(prune, network, method="structured", fraction=fraction),
    }


def _neurons(network: Network) -> int:
    return sum(layer.neurons for layer in layer_costs(network))


if __name__ == "__main__":
    run_script(main)
