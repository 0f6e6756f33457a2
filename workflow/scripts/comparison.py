"""Gather the measures of all chains in one table."""

import argparse
import json
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import filled, read_lines, write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=read_lines, required=True, help="file with model,seed,chain of every row"
    )
    parser.add_argument(
        "--metrics", type=read_lines, required=True, help="file with their measures' files (.json)"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()
    if not arguments.rows:
        parser.error("no rows: the configuration's comparison names no models")

    rows = []
    for row, path in zip(arguments.rows, arguments.metrics, strict=True):
        model, seed, chain = row.split(",", 2)
        measures = json.loads(Path(path).read_text())
        rows.append({"model": model, "seed": seed, "chain": chain, **measures})
    write_table(arguments.output, filled(rows))


if __name__ == "__main__":
    run_script(main)
