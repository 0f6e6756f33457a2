"""Apply one step of a chain of techniques to a network, and measure the result."""

import argparse
from pathlib import Path

from measure import measure
from netreduce.chains.steps import apply, parse_step
from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_json
from netreduce.formats import load, save


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument("--reference", type=Path, required=True, help="the analog network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--step",
        required=True,
        help="the technique with its parameters, as in the path of the result",
    )
    parser.add_argument(
        "--samples",
        type=int,
        required=True,
        help="training images that data-dependent techniques see",
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--output", type=Path, required=True, help="where the reduced network goes (.h5)"
    )
    parser.add_argument("--metrics", type=Path, required=True, help="where the measures go (.json)")
    arguments = parser.parse_args()

    data = read(arguments.data)
    network, reference = load(arguments.network), load(arguments.reference)
    step = parse_step(arguments.step)
    reduced = apply(step, network, data, arguments.samples, arguments.seed, reference)
    save(reduced, arguments.output)
    write_json(arguments.metrics, measure(reduced, reference, data))


if __name__ == "__main__":
    run_script(main)
