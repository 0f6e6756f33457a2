"""Data of the chapter that compares chains of techniques."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import tables

from netreduce.chains import names
from netreduce.chains.techniques import TECHNIQUES
from netreduce.cli.exits import run_script

BESIDE = (
    *("low", "high", "agreement", "relative_difference", "top5", "auc", "r2"),
    "onnx_bytes",
)


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--comparison", type=Path, required=True, help="table of all chains (.csv)")
    parser.add_argument(
        "--latency", type=Path, nargs="*", default=[], help="times of a model's chains (.csv)"
    )
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.comparison)
    times = {path.stem: latencies(pd.read_csv(path)) for path in arguments.latency}
    tables.write(
        arguments.output,
        {
            model: compare(rows) | {"latency": times.get(model)}
            for model, rows in table.groupby("model", sort=False)
        },
    )


def compare(table: pd.DataFrame) -> tables.Record:
    """One row for each chain with means over the seeds, the Pareto front, and what the text says
    about them.
    """
    table, measure = tables.scored(table)
    measures = [
        "entropy_bytes",
        "dense_bytes",
        "sparse_bytes",
        "float_bytes",
        "activation_bytes",
        "neurons",
        "nonzero_weights",
        "macs",
        "nonzero_macs",
        "bits_per_weight",
    ]
    rows = []
    for chain, group in table.groupby("chain", sort=False):
        steps = names.steps(chain)
        rows.append(
            {
                "chain": chain,
                "name": names.chain_name(chain),
                "families": [step.technique.family for step in steps],
                "score": group.score.mean(),
                "spread": group.score.std(ddof=1) if len(group) > 1 else None,
                **{name: group[name].mean() for name in BESIDE if name in group},
                **group[measures].mean().to_dict(),
            }
        )
    analog = next((row for row in rows if row["chain"] == "analog"), rows[0])
    for place, row in enumerate(rows):
        row["ratio"] = analog["entropy_bytes"] / row["entropy_bytes"]
        row["lost"] = tables.lost(measure, analog["score"], row["score"])
        row["weights_kept"] = row["nonzero_weights"] / analog["nonzero_weights"]
        row["front"] = not any(
            other["entropy_bytes"] <= row["entropy_bytes"]
            and measure.merit(other["score"]) >= measure.merit(row["score"])
            and (
                index < place
                or other["entropy_bytes"] < row["entropy_bytes"]
                or measure.merit(other["score"]) > measure.merit(row["score"])
            )
            for index, other in enumerate(rows)
            if index != place
        )
    by_chain = {row["chain"]: row for row in rows}
    near = [row for row in rows if row["chain"] != "analog" and row["lost"] <= tables.near(measure)]
    single = [row for row in near if len(row["families"]) == 1]
    longer = [row for row in near if len(row["families"]) > 1]
    return {
        "measure": tables.describe(measure),
        "seeds": int(table.seed.nunique()),
        "rows": rows,
        "analog": analog,
        "smallest": smallest(near),
        "smallest_single": smallest(single),
        "smallest_chain": smallest(longer),
        "families": {
            family: smallest([row for row in single if row["families"] == [family]])
            for family in dict.fromkeys(technique.family for technique in TECHNIQUES.values())
        },
        "worst": min(rows, key=lambda row: measure.merit(row["score"])),
        # What exact lumping adds at the end of a chain.
        "lumped_last": [
            {"before": by_chain[before], "after": row}
            for chain, row in by_chain.items()
            for before in [chain.removesuffix("/lump-tolerance=0")]
            if before != chain and before in by_chain
        ],
    }


def latencies(table: pd.DataFrame) -> tables.Record:
    """Times of the original, the first network of the table, and how many times faster the others
    are, by runtime and batch; the fastest of all rounds counts.
    """
    table = table.assign(column=table.runtime + " " + table.batch.astype(str))
    seconds = table.pivot(index="network", columns="column", values="fastest")
    measured, columns = list(table.network.unique()), list(table.column.unique())
    original = seconds.loc[measured[0], columns]
    counts = table.groupby("network", sort=False)[["flops", "nonzero_flops"]].first()
    return {
        "columns": [column.split() for column in columns],
        "original": original.tolist(),
        "rows": [
            {
                "chain": name,
                "name": names.chain_name(name),
                **counts.loc[name].to_dict(),
                "faster": (original / seconds.loc[name, columns]).tolist(),
            }
            for name in measured
        ],
    }


def smallest(rows: Sequence[tables.Record]) -> tables.Record | None:
    return min(rows, key=lambda row: row["entropy_bytes"], default=None)


if __name__ == "__main__":
    run_script(main)
