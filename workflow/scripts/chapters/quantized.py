"""Data of the chapter on quantized networks: sweeps, the settings chosen on validation, quantized
and lumped networks on one scale.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tables

from netreduce.chains import names
from netreduce.chains.techniques import TECHNIQUES
from netreduce.cli.exits import run_script
from netreduce.measures.kinds import measure_of

ALPHABET = ("radius", "per_channel", "conv")  # columns of a sweep that say which alphabet


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--bits", nargs="+", required=True)
    parser.add_argument(
        "--detailed", nargs="*", required=True, help="models told of layer by layer"
    )
    arguments = parser.parse_args()

    results = arguments.results
    models = {
        name: {
            **sweep(read_sweep(results, name, arguments.bits)),
            "selected": selected(results, name, arguments.bits),
            "measures": measures(results / f"metrics/networks/{name}.csv"),
            "each_layer": each_layer(results, name) if name in arguments.detailed else [],
        }
        for name in arguments.models
    }
    tables.write(arguments.output, {"models": models})


def read_sweep(results: Path, model: str, widths: Sequence[str]) -> pd.DataFrame:
    """The sweep of a model at every bit width."""
    paths = [results / f"sweep/{model}/{bits}bit.csv" for bits in widths]
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def sweep(table: pd.DataFrame) -> tables.Record:
    """The measure, the analog scores and, for each method and bit width, the alphabet that is best
    on validation: of all, and of the published ones.
    """
    table, measure = tables.scored(table, "validation_")
    groups = table.groupby(["bits", "method"], sort=False)
    best = table.loc[
        [tables.best(measure, rows.validation_score) for _, rows in groups]
    ].sort_values("bits", kind="stable")
    first = table.iloc[0]
    widths = sorted(table.bits.unique())
    published_ones = table[table.alphabet_scalar.notna()].groupby(["bits", "method"], sort=False)
    of_published = {
        key: rows.test_score[tables.best(measure, rows.validation_score)]
        for key, rows in published_ones
    }
    rows = [
        {
            **row,
            "title": TECHNIQUES[row["method"]].title,
            "bits_name": names.bits_name(row["bits"]),
            "setting": alphabet_name(row),
            "published_score": of_published.get((row["bits"], row["method"])),
        }
        for row in tables.records(best)
    ]
    searched = [name for name in TECHNIQUES if "conv" not in TECHNIQUES[name].fixed]
    other = table[table.alphabet_scalar.isna() & table.method.isin(searched)]
    leaders = []
    for bits in widths:
        here = [row for row in rows if row["bits"] == bits]
        by_method = {row["method"]: row for row in here}
        leaders.append(
            {
                "bits": bits,
                "bits_name": names.bits_name(bits),
                "leader": max(here, key=lambda row: measure.merit(row["test_score"])),
                "gpfq": by_method.get("gpfq"),
                "msq": by_method.get("msq"),
            }
        )
    analog = {"validation": first.analog_validation_score, "test": first.analog_test_score}
    for row in rows:
        row["lost"] = tables.lost(measure, analog["test"], row["test_score"])
        row["near"] = tables.is_near(measure, analog["test"], row["test_score"])
    return {
        "measure": tables.describe(measure),
        "analog": analog,
        "settings": len(table),
        "scalars": table.alphabet_scalar.nunique(),
        "others": len(other.filter(ALPHABET).drop_duplicates()),
        "best": rows,
        "by_bits": leaders,
    }


def alphabet_name(row: Mapping[str, Any]) -> str:
    """The alphabet scalar of a setting, or what else its radius comes from; fitted, where the
    method chooses its scales itself.
    """
    if "conv" in TECHNIQUES[row["method"]].fixed:
        return "fitted"
    scalar = row["alphabet_scalar"]
    return f"{scalar:g}" if scalar is not None and scalar == scalar else row["radius"]


def selected(results: Path, model: str, widths: Sequence[str]) -> list[tables.Record]:
    """The setting that was chosen for each bit width."""
    paths = [results / f"metrics/quantized/{model}_{bits}bit.json" for bits in widths]
    rows = [json.loads(path.read_text()) for path in paths]
    measure = measure_of(rows[0], "validation_")
    for row in rows:
        for name in [name for name in row if name.endswith(measure.name)]:
            row[name.removesuffix(measure.name) + "score"] = row.pop(name)
        row["lost"] = tables.lost(measure, row["analog_test_score"], row["test_score"])
        row["near"] = tables.is_near(measure, row["analog_test_score"], row["test_score"])
    return sorted(
        (
            {
                **{key: entry for key, entry in row.items() if key != "methods"},
                "title": TECHNIQUES[row["method"]].title,
                "bits_name": names.bits_name(row["bits"]),
            }
            for row in rows
        ),
        key=lambda row: row["bits"],
    )


def each_layer(results: Path, model: str) -> list[tables.Record]:
    """Every layer of the chosen network of the fewest bits: what became of it, or why nothing."""
    table = pd.read_csv(results / f"metrics/layers/{model}/sensitivity.csv")
    bits = table.bits.min()
    chosen = json.loads((results / f"metrics/quantized/{model}_{bits:g}bit.json").read_text())
    here = table[(table.bits == bits) & (table.method == chosen["method"])]
    return [
        {**row, "layer": names.layer_name(row["layer"]), "bits_name": names.bits_name(bits)}
        for row in tables.records(here)
    ]


def measures(path: Path) -> list[tables.Record]:
    """The analog network, the quantized ones and their lumped forms, on one scale."""
    return [
        {
            **row,
            "name": "analog" if row["network"] == "analog" else names.bits_name(row["bits"]),
        }
        for row in tables.records(tables.scored(pd.read_csv(path))[0])
    ]


if __name__ == "__main__":
    run_script(main)
