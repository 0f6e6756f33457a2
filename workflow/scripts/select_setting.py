"""Choose the best setting of a sweep on the validation images: one for each method, and the best of
all methods.
"""

import argparse
import csv
import shutil
from itertools import product
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import replacing, write_json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks",
        type=Path,
        nargs="+",
        required=True,
        help="the sweep's networks: method by method, scalar by scalar",
    )
    parser.add_argument("--table", type=Path, required=True, help="the sweep's accuracies (.csv)")
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--alphabet-scalars", type=float, nargs="+", required=True)
    parser.add_argument(
        "--network", type=Path, required=True, help="where the best network goes (.h5)"
    )
    parser.add_argument(
        "--best",
        type=Path,
        nargs="+",
        required=True,
        help="where each method's best network goes (.h5)",
    )
    parser.add_argument(
        "--setting", type=Path, required=True, help="where the chosen settings go (.json)"
    )
    arguments = parser.parse_args()

    networks = dict(
        zip(product(arguments.methods, arguments.alphabet_scalars), arguments.networks, strict=True)
    )
    with arguments.table.open(newline="") as file:
        rows = [
            {key: text if key == "method" else float(text) for key, text in row.items()}
            for row in csv.DictReader(file)
        ]
    # Ties go to the earlier method and the smaller scalar: max keeps the first of equals.
    rows.sort(key=lambda row: (arguments.methods.index(row["method"]), row["alphabet_scalar"]))
    best = {
        method: max((row for row in rows if row["method"] == method), key=_validation)
        for method in arguments.methods
    }
    chosen = max(best.values(), key=_validation)
    for row, target in [
        (chosen, arguments.network),
        *zip(best.values(), arguments.best, strict=True),
    ]:
        with replacing(target) as temporary:
            shutil.copyfile(networks[row["method"], row["alphabet_scalar"]], temporary)
    write_json(arguments.setting, {**chosen, "methods": best})


def _validation(row):
    return row["validation_accuracy"]


if __name__ == "__main__":
    run_script(main)
