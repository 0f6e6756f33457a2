"""Data of the chapter on files that run in integers."""

from pathlib import Path

import pandas as pd
import tables

from netreduce.cli.exits import run_script


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--deployed", type=Path, required=True, help="table of the files (.csv)")
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.deployed)
    tables.write(
        arguments.output,
        {model: of_model(rows) for model, rows in table.groupby("model", sort=False)},
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


if __name__ == "__main__":
    run_script(main)
