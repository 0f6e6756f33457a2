"""Equivalence classes of neurons per layer, exact and as the published program counts them, and
what lumping keeps.
"""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.lumping import class_counts, lump, published_class_counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--names", nargs="+", required=True, help="what to call the networks in the table"
    )
    parser.add_argument("--networks", type=Path, nargs="+", required=True, help="networks (.h5)")
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    rows = []
    for name, path in zip(arguments.names, arguments.networks, strict=True):
        network = load(path)
        published = published_class_counts(network)
        kept = lump(network).record()["layers"]
        for layer, classes in class_counts(network).items():
            rows.append(
                {
                    "network": name,
                    "layer": layer,
                    "neurons": kept[layer]["neurons_before"],
                    "classes": classes,
                    "published_classes": published.get(layer),
                    "neurons_after": kept[layer]["neurons_after"],
                }
            )
    write_table(arguments.output, rows)


if __name__ == "__main__":
    run_script(main)
