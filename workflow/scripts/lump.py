"""Lump a network exactly, check that it computes the same function, and record who merged with
whom.
"""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_json
from netreduce.formats import load, save
from netreduce.lumping import lump


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--input-range",
        type=float,
        nargs=2,
        required=True,
        help="smallest and largest input value; own data bring theirs",
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="where the lumped network goes (.h5)"
    )
    parser.add_argument("--record", type=Path, required=True, help="where the record goes (.json)")
    arguments = parser.parse_args()

    data = read(arguments.data)
    box = data.input_range if data.own else tuple(arguments.input_range)
    lumping = lump(load(arguments.network), input_range=box, verify=True)
    save(lumping.network, arguments.output)
    write_json(arguments.record, lumping.record())


if __name__ == "__main__":
    run_script(main)
