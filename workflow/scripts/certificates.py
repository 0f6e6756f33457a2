"""Gather the certificates of all networks in one table."""

import argparse
import json
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import filled, read_lines, write_table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--rows", type=read_lines, required=True, help="file with model,seed,network of every row"
    )
    parser.add_argument(
        "--certificates", type=read_lines, required=True, help="file with their files (.json)"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()
    if not arguments.rows:
        parser.error("no rows: the configuration has no certificates")

    rows = []
    for row, path in zip(arguments.rows, arguments.certificates, strict=True):
        model, seed, network = row.split(",", 2)
        record = json.loads(Path(path).read_text())
        for ball in record["balls"]:
            refused = record["not_certified"]
            notes = [f"not certified: {refused}"] if refused else ball.pop("notes")
            ball.pop("samples", None)
            rows.append(
                {
                    "model": model,
                    "seed": seed,
                    "network": network,
                    "radius": ball.pop("radius"),
                    "images": record["images"],
                    "entropy_bytes": record["entropy_bytes"],
                    **ball,
                    "notes": "; ".join(notes),
                }
            )
    table = filled(rows)
    for row in table:
        row["notes"] = row.pop("notes")  # the last column
    write_table(arguments.output, table)


if __name__ == "__main__":
    run_script(main)
