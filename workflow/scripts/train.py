"""Train a network in PyTorch: dataset → state_dict (.pth) and the history of the training (CSV)."""

import argparse
import json
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.data.fit import network_for
from netreduce.files import write_table
from netreduce.formats import save
from netreduce.training.torch import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--architecture",
        type=json.loads,
        required=True,
        help="architecture as in the config, as JSON",
    )
    parser.add_argument(
        "--training",
        type=json.loads,
        required=True,
        help="training parameters as in the config, as JSON",
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--weights", type=Path, required=True, help="where the state_dict goes (.pth)"
    )
    parser.add_argument("--history", type=Path, required=True, help="where the history goes (.csv)")
    arguments = parser.parse_args()

    data = read(arguments.data)
    template = network_for(data, arguments.architecture, seed=arguments.seed)
    network, history = train(
        template,
        data.images("train"),
        data.targets("train"),
        data.images("validation"),
        data.targets("validation"),
        **arguments.training,
        seed=arguments.seed,
    )
    save(network, arguments.weights)
    write_table(arguments.history, history)


if __name__ == "__main__":
    run_script(main)
