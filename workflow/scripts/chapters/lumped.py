"""Data of the chapter on lumped networks: equivalence classes by layer, network and architecture,
lumping over its tolerance, and networks made elsewhere.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import tables

from netreduce.chains import names
from netreduce.cli.exits import run_script


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument(
        "--detailed", nargs="+", required=True, help="models lumped at every tolerance"
    )
    parser.add_argument("--published", nargs="*", default=[], help="networks made elsewhere")
    arguments = parser.parse_args()

    results = arguments.results
    classes = {
        name: pd.read_csv(results / f"metrics/lumping/{name}.csv", dtype={"network": str})
        for name in arguments.models
    }
    models = {name: {"lumping": lumping(table)} for name, table in classes.items()}
    for name in arguments.detailed:
        path = results / f"metrics/tolerance/{name}.csv"
        models[name]["tolerance"] = tolerance(pd.read_csv(path, dtype={"network": str}))
    tables.write(
        arguments.output,
        {
            "models": models,
            "architectures": architectures(classes),
            "elsewhere": {
                name: elsewhere(results / f"published/{name}.json") for name in arguments.published
            },
        },
    )


def lumping(table: pd.DataFrame) -> tables.Record:
    """Classes by layer and network, and whether anything merged."""
    rows = [
        {**row, "name": names.network_name(row["network"]), "layer": names.layer_name(row["layer"])}
        for row in tables.records(table)
    ]
    totals = [
        {
            "name": names.network_name(network),
            **{
                column: int(group[column].sum())
                for column in ("neurons", "classes", "neurons_after")
            },
            "published_classes": (
                int(group.published_classes.sum())
                if group.published_classes.notna().all()
                else None
            ),
        }
        for network, group in table.groupby("network", sort=False)
    ]
    return {
        "rows": rows,
        "totals": totals,
        "merged": int((table.neurons - table.classes).sum()),
        "removed": int((table.neurons - table.neurons_after).sum()),
        "published_differs": bool(
            (
                table.published_classes.dropna() != table.classes[table.published_classes.notna()]
            ).any()
        ),
        "published_smaller": bool((table.published_classes < table.classes).any()),
    }


def architectures(classes: Mapping[str, pd.DataFrame]) -> list[tables.Record]:
    """Networks with the same hidden layers: their names, and the mean, least and most of their
    classes by layer.
    """
    groups: dict[tuple, list[str]] = {}
    for model, table in classes.items():
        first = table[table.network == table.network.iloc[0]]
        groups.setdefault(tuple(zip(first.layer, first.neurons, strict=True)), []).append(model)
    counts = ["classes", "published_classes", "neurons_after"]
    described = []
    for members in groups.values():
        together = pd.concat([classes[model] for model in members])
        rows = [
            {
                "name": names.network_name(network),
                "layer": names.layer_name(layer),
                "neurons": group.neurons.iloc[0],
                **{count: group[count].agg(["mean", "min", "max"]).to_dict() for count in counts},
            }
            for (network, layer), group in together.groupby(["network", "layer"], sort=False)
        ]
        described.append({"models": members, "rows": rows})
    return described


def tolerance(table: pd.DataFrame) -> tables.Record:
    """The curve, and for each network and order the largest tolerance at which the network is as
    good as without lumping.
    """
    table, measure = tables.scored(table, "test_")
    if "certified_share" not in table:
        table["certified_share"] = None
    table = table.assign(name=table.network.map(names.network_name))
    usable = []
    for (network, order), group in table.groupby(["network", "order"], sort=False):
        group = group.sort_values("tolerance")
        start = group.iloc[0]
        good = [tables.is_near(measure, start.test_score, score) for score in group.test_score]
        near = group[good].iloc[-1]
        usable.append(
            {
                "network": network,
                "order": order,
                "start": start.to_dict(),
                "near": near.to_dict(),
                "last": group.iloc[-1].to_dict(),
            }
        )
    rows = tables.records(table)
    return {"measure": tables.describe(measure), "rows": rows, "usable": usable}


def elsewhere(path: Path) -> tables.Record:
    """A network made elsewhere: its measures, its lumped form, its alphabets."""
    record = json.loads(path.read_text())
    return {
        **record,
        "alphabets": [
            {"layer": names.layer_name(layer), **found}
            for layer, found in record["alphabets"].items()
        ],
    }


if __name__ == "__main__":
    run_script(main)
