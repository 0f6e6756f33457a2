"""Data of the chapter on files that run in integers."""

from pathlib import Path

import pandas as pd
import tables

from netreduce.cli.exits import run_script


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--deployed", type=Path, required=True, help="table of the files (.csv)")
    parser.add_argument(
        "--latency", type=Path, nargs="*", default=[], help="of each model that is timed (.csv)"
    )
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.deployed)
    timed = {path.stem: pd.read_csv(path) for path in arguments.latency}
    tables.write(
        arguments.output,
        {
            model: {
                **of_model(rows),
                "latency": of_latency(timed[model]) if model in timed else None,
            }
            for model, rows in table.groupby("model", sort=False)
        },
    )


def of_model(table: pd.DataFrame) -> tables.Record:
    """Files by the bits of their weights: bytes, scores, and how far from the evaluation here."""
    table, measure = tables.scored(table)
    analog = table[table.weights == 32].set_index("file")
    networks = []
    for weights, rows in table[table.weights < 32].groupby("weights", sort=False):
        rows = rows.set_index("file")
        reference = rows.loc["reference"]
        files = {
            file: {
                "bytes": row["bytes"],
                "part": row["bytes"] / analog.loc[file, "bytes"],
                "score": row["score"],
                "as_evaluated": row["as_evaluated"],
            }
            for file, row in rows.drop("reference").iterrows()
        }
        networks.append(
            {
                "weights": weights,
                "activations": reference["activations"],
                "method": reference["method"],
                "score": reference["score"],
                "lost": tables.lost(measure, analog.score.iloc[0], reference["score"]),
                "accumulator": reference["accumulator"],
                "files": files,
            }
        )
    return {
        "analog": {"score": analog.score.iloc[0], "bytes": analog["bytes"].to_dict()},
        "networks": networks,
    }


def of_latency(table: pd.DataFrame) -> tables.Record:
    """Milliseconds for a batch, by file, and how many times faster than the analog file that is."""
    table = table.assign(
        what=table.file.str.rpartition("_")[2].str.partition(".")[0],
        suffix=table.file.str.rpartition(".")[2],
        milliseconds=1000 * table.seconds,
    )
    columns = table[["threads", "batch"]].drop_duplicates().sort_values(["batch", "threads"])
    cells = table.set_index(["what", "suffix", "threads", "batch"]).milliseconds
    return {
        "columns": tables.records(columns),
        "files": [
            {
                "what": what,
                "file": suffix,
                "cells": [
                    {
                        "milliseconds": cells[what, suffix, *column],
                        "faster": cells["analog", suffix, *column] / cells[what, suffix, *column],
                    }
                    for column in columns.itertuples(index=False)
                ],
            }
            for what, suffix in table[["what", "suffix"]].drop_duplicates().itertuples(index=False)
        ],
    }


if __name__ == "__main__":
    run_script(main)
