"""Data of the chapter on certified networks: for every model its networks with their numbers at
each radius, and what the text says about them.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import tables

from netreduce.chains import names
from netreduce.cli.exits import run_script

TEXT = {"network": str, "radius": str}


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument(
        "--certificates", type=Path, required=True, help="table of all certificates (.csv)"
    )
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.certificates, dtype=TEXT)
    tables.write(
        arguments.output,
        {model: certified(rows) for model, rows in table.groupby("model", sort=False)},
    )


def certified(table: pd.DataFrame) -> tables.Record:
    """The networks of a model, analog first, then quantized ones and chains, each with its numbers
    in the order of the radii.
    """
    table = table.dropna(axis=1, how="all")
    networks = [
        {
            "network": network,
            "name": names.network_name(network),
            "kind": kind(network),
            "entropy_bytes": group.entropy_bytes.iloc[0],
            "note": group.notes.iloc[0] if "notes" in group else None,
            "balls": tables.records(group.drop(columns=["model", "seed", "network"])),
        }
        for (_, network), group in table.groupby(["seed", "network"], sort=False)
    ]
    radii = list(table.radius.unique())
    return {
        "images": table.images.iloc[0],
        "radii": radii,
        "classes": "certified_agreement" in table,
        "networks": networks,
        "by_radius": [
            {"radius": radius, **extremes(networks, place)} for place, radius in enumerate(radii)
        ],
    }


def kind(network: str) -> str:
    if network == "analog":
        return network
    return "quantized" if network[0].isdigit() else "chain"


def extremes(networks: Sequence[tables.Record], place: int) -> tables.Record:
    """At one radius: the analog network beside itself; of each kind of reduced networks their
    number, how many are certified on as many balls as the analog network, and those with the most
    and the least certified agreement (where there are no classes: the smallest and the largest
    bound); and how far bounds are from what was found.
    """
    found: tables.Record = {"analog": None}
    for of_kind in ("analog", "quantized", "chain"):
        rows = [
            {"name": network["name"], **network["balls"][place]}
            for network in networks
            if network["kind"] == of_kind and pd.notna(network["balls"][place].get("bound"))
        ]
        if not rows:
            continue
        if of_kind == "analog":
            found["analog"] = rows[0]
            continue
        ordered = sorted(rows, key=lambda row: (-row.get("certified_agreement", 0), row["bound"]))
        most = (found["analog"] or ordered[0]).get("certified_agreement", 0)
        found[of_kind] = {
            "count": len(rows),
            "as_many": sum(row.get("certified_agreement", 0) >= most for row in rows),
            "best": ordered[0],
            "worst": ordered[-1],
        }
    ratios = [
        network["balls"][place].get("ratio") for network in networks if network["kind"] != "analog"
    ]
    return {**found, "ratio": pd.Series(ratios, dtype=float).median()}


if __name__ == "__main__":
    run_script(main)
