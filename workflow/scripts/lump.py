"""Lump a network exactly, check that it computes the same function, and record who merged with
whom.
"""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import write_json
from netreduce.formats import load, save
from netreduce.lumping import lump


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument(
        "--input-range", type=float, nargs=2, required=True, help="smallest and largest input value"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="where the lumped network goes (.h5)"
    )
    parser.add_argument("--record", type=Path, required=True, help="where the record goes (.json)")
    arguments = parser.parse_args()

    lumping = lump(load(arguments.network), input_range=tuple(arguments.input_range), verify=True)
    save(lumping.network, arguments.output)
    write_json(arguments.record, lumping.record())


if __name__ == "__main__":
    run_script(main)
