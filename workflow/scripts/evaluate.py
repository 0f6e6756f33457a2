"""Measure a model's analog network, its quantized networks and their lumped forms, on one scale."""

import argparse
from pathlib import Path

from measure import measure, predictions
from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.formats import load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analog", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument("--bits", nargs="+", required=True)
    parser.add_argument(
        "--quantized",
        type=Path,
        nargs="+",
        required=True,
        help="quantized networks, one for each bit width",
    )
    parser.add_argument("--lumped", type=Path, nargs="+", required=True, help="the same, lumped")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    data = read(arguments.data)
    analog = load(arguments.analog)
    reference = predictions(analog, data)
    rows = [{"network": "analog", "bits": "", **measure(analog, reference, data)}]
    for kind, paths in (("quantized", arguments.quantized), ("lumped", arguments.lumped)):
        for bits, path in zip(arguments.bits, paths, strict=True):
            rows.append({"network": kind, "bits": bits, **measure(load(path), reference, data)})
    write_table(arguments.output, rows)


if __name__ == "__main__":
    run_script(main)
