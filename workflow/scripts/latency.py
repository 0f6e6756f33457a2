"""Measure how long networks take for one image and for a batch: in this library, exported to ONNX
Runtime, and to LiteRT where it is installed.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.measures.latency import BATCH_SIZES, measure_latency


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--names", nargs="+", required=True, help="what to call the networks in the table"
    )
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="networks (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    networks = {
        name: load(path) for name, path in zip(arguments.names, arguments.networks, strict=True)
    }
    images = read(arguments.data).images("test", max(BATCH_SIZES))
    write_table(
        arguments.output, [asdict(latency) for latency in measure_latency(networks, images)]
    )


if __name__ == "__main__":
    run_script(main)
