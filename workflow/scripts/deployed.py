"""Table of the files that run in integers, beside those of the analog networks: one row a file."""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from netreduce.cli.exits import run_script
from netreduce.files import filled, write_table
from netreduce.measures.kinds import measure_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--measures", type=Path, nargs="+", required=True, help="of each deployed network (.json)"
    )
    parser.add_argument(
        "--analog", type=Path, nargs="+", required=True, help="analog networks, exported"
    )
    parser.add_argument(
        "--networks", type=Path, nargs="+", required=True, help="measures of the models (.csv)"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    rows = [row for path in arguments.measures for row in of_deployed(path)]
    for path in arguments.analog:
        model = path.stem.removesuffix("_analog")
        table = next(t for t in arguments.networks if t.stem == model)
        rows.append(
            {"model": model, "file": path.suffix[1:], **of_analog(pd.read_csv(table), path)}
        )
    order = list(dict.fromkeys(row["model"] for row in rows))
    rows.sort(key=lambda row: (order.index(row["model"]), -row["weights"], row["file"]))
    write_table(arguments.output, filled(rows))


def of_deployed(path: Path) -> list[dict[str, Any]]:
    """Rows of a network: as it is evaluated here, and of each file."""
    found = json.loads(path.read_text())
    model = path.stem.rpartition("_")[0]
    settings = {key: found[key] for key in ("weights", "activations", "method")}
    width = max(layer["worst"] for layer in found["accumulators"].values())
    return [
        {"model": model, "file": file, **settings, "accumulator": width, **measures}
        for file, measures in (("reference", found["reference"]), *found["files"].items())
    ]


def of_analog(table: pd.DataFrame, path: Path) -> dict[str, Any]:
    """The measure of the analog network, and the size of its file."""
    row = table[table.network == "analog"].iloc[0]
    name = measure_of(table.columns).name
    return {
        "weights": 32,
        "activations": 32,
        "method": "",
        "accumulator": "",
        "bytes": path.stat().st_size,
        name: float(row[name]),
    }


if __name__ == "__main__":
    run_script(main)
