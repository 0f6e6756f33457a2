"""Data of the chapter on fewer neurons."""

from pathlib import Path

import pandas as pd
import tables

from netreduce.cli.exits import run_script
from netreduce.measures.kinds import Measure


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument(
        "--curves", type=Path, nargs="+", required=True, help="curves of each model (.csv)"
    )
    arguments = parser.parse_args()
    tables.write(
        arguments.output, {path.stem: of_model(pd.read_csv(path)) for path in arguments.curves}
    )


def of_model(table: pd.DataFrame) -> tables.Record:
    """Scores by the number of neurons, largest first, and by method; where each is best."""
    table, measure = tables.scored(table, "test_")
    wide = table.pivot(index="neurons", columns="method", values="test_score")
    methods = list(dict.fromkeys(table.method))
    wide = wide.sort_index(ascending=False)[methods]
    return {
        "hidden": wide.index[0],
        "score": wide.iloc[0].dropna().iloc[0],
        "methods": methods,
        "rows": [
            {
                "neurons": neurons,
                "scores": scores.tolist(),
                "best": _best(scores.dropna(), measure),
            }
            for neurons, scores in wide.iterrows()
        ],
    }


def _best(scores: pd.Series, measure: Measure) -> float | None:
    """The best of several scores; None where there is nothing to compare with."""
    return max(scores, key=measure.merit) if len(scores) > 1 else None


if __name__ == "__main__":
    run_script(main)
