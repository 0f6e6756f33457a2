"""Measure an analog network on the validation and the test samples."""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.measures.evaluation import trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--output", type=Path, required=True, help="where the measures go (.json)")
    arguments = parser.parse_args()

    analog = load(arguments.network)
    data = read(arguments.data)
    trials = {split: trial(data, split, analog) for split in ("validation", "test")}
    write_json(
        arguments.output,
        {
            f"analog_{split}_{trial.measure.name}": trial.score(analog)
            for split, trial in trials.items()
        },
    )


if __name__ == "__main__":
    run_script(main)
