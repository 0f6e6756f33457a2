"""Measure a network: accuracy with its confidence interval, agreement with a reference network, and
cost.
"""

import argparse
from dataclasses import asdict
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.measures.cost import cost
from netreduce.measures.evaluation import evaluate


def measure(network, reference, data):
    """Accuracy, agreement and cost of a network on the test images, as one flat dictionary."""
    quality = asdict(evaluate(network, data.images("test"), data.test_labels, reference=reference))
    return {**quality, **asdict(cost(network))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="network whose predictions are the reference (.h5)",
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--metrics", type=Path, required=True, help="where the measures go (.json)")
    arguments = parser.parse_args()

    write_json(
        arguments.metrics,
        measure(load(arguments.network), load(arguments.reference), read(arguments.data)),
    )


if __name__ == "__main__":
    run_script(main)
