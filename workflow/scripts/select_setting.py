"""Choose the best method of a bit width on the validation samples, and put the tables of all its
methods together.
"""

import argparse
import csv
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netreduce.cli.exits import run_script
from netreduce.files import replacing, write_json, write_table
from netreduce.measures.kinds import measure_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks",
        type=Path,
        nargs="+",
        required=True,
        help="the best network of each method (.h5)",
    )
    parser.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        required=True,
        help="measures of each method, by alphabet (.csv)",
    )
    parser.add_argument(
        "--timings", type=Path, nargs="+", required=True, help="its seconds, likewise (.csv)"
    )
    parser.add_argument(
        "--analog", type=Path, required=True, help="measures of the analog network (.json)"
    )
    parser.add_argument(
        "--network", type=Path, required=True, help="where the best network goes (.h5)"
    )
    parser.add_argument(
        "--setting", type=Path, required=True, help="where the chosen settings go (.json)"
    )
    parser.add_argument("--table", type=Path, required=True, help="where all accuracies go (.csv)")
    parser.add_argument(
        "--all-timings", type=Path, required=True, help="where all seconds go (.csv)"
    )
    arguments = parser.parse_args()

    tables = [read_rows(path) for path in arguments.tables]
    analog = json.loads(arguments.analog.read_text())
    best = [{**best_setting(rows), **analog} for rows in tables]
    # Ties go to the earlier method: max keeps the first of equals.
    chosen = max(range(len(best)), key=lambda place: merit(best[place]))
    with replacing(arguments.network) as temporary:
        shutil.copyfile(arguments.networks[chosen], temporary)
    write_json(arguments.setting, {**best[chosen], "methods": {row["method"]: row for row in best}})
    write_table(arguments.table, [{**row, **analog} for rows in tables for row in rows])
    write_table(
        arguments.all_timings, [row for path in arguments.timings for row in read_rows(path)]
    )


def best_setting(rows: Sequence[dict[str, str]]) -> dict[str, Any]:
    """The row that is best on validation, with its values as values and without empty ones; of
    equals the first.
    """
    return max((values(row) for row in rows), key=merit)


def values(row: Mapping[str, str]) -> dict[str, Any]:
    """A row of a table: words, numbers, true and false."""
    known = {"True": True, "False": False}
    return {
        key: text
        if key in ("method", "radius", "conv")
        else known[text]
        if text in known
        else float(text)
        for key, text in row.items()
        if text
    }


def merit(row: dict[str, Any]) -> float:
    measure = measure_of(row, "validation_")
    return measure.merit(row[f"validation_{measure.name}"])


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    run_script(main)
