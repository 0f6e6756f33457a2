"""Measure how long networks take for one image and for a batch: in this library, exported to ONNX
Runtime, and to LiteRT where it is installed.

With --smaller, only the first network and those with other widths, which is what makes a network
faster; and, to show that, the one with the most zeros among those of the first's widths.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.measures.cost import cost
from netreduce.measures.latency import BATCH_SIZES, measure_latency
from netreduce.network import Network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--names", nargs="+", required=True, help="what to call the networks in the table"
    )
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="networks (.h5)")
    parser.add_argument("--smaller", action="store_true")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    networks = {
        name: load(path) for name, path in zip(arguments.names, arguments.networks, strict=True)
    }
    if arguments.smaller:
        networks = smaller(networks)
    images = read(arguments.data).images("test", max(BATCH_SIZES))
    costs = {name: cost(network) for name, network in networks.items()}
    counts = {
        name: {"flops": 2 * cost.macs, "nonzero_flops": 2 * cost.nonzero_macs}
        for name, cost in costs.items()
    }
    rows = [asdict(latency) for latency in measure_latency(networks, images)]
    write_table(arguments.output, [row | counts[row["network"]] for row in rows])


def smaller(networks: dict[str, Network]) -> dict[str, Network]:
    """The first network, those of other widths, and of its own widths the one with the most zeros,
    if it has more than the first.
    """
    first, *others = networks
    widths = {name: _widths(network) for name, network in networks.items()}
    same = [name for name in others if widths[name] == widths[first]]
    nonzeros = {name: cost(networks[name]).nonzero_weights for name in (first, *same)}
    sparsest = min(nonzeros, key=lambda name: nonzeros[name])
    return {
        name: network
        for name, network in networks.items()
        if name in (first, sparsest) or widths[name] != widths[first]
    }


def _widths(network: Network) -> list[tuple[int, ...]]:
    return [array.shape for layer in network.layers for array in layer.arrays().values()]


if __name__ == "__main__":
    run_script(main)
