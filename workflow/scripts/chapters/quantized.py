"""Data of the chapter on quantized networks: sweeps, the settings chosen on validation, quantized
and lumped networks on one scale, and published tables beside this run's.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import tables

from netreduce.chains import names
from netreduce.chains.techniques import TECHNIQUES
from netreduce.cli.exits import run_script
from netreduce.formats import load
from netreduce.measures.kinds import measure_of

# Published tables: file, dataset and outputs of every layer of the network, columns of the
# accuracies.
PUBLISHED: dict[str, tuple[str, str, list[int] | None, tuple[str, str, str]]] = {
    "mnist": (
        "mnist_mlp_metrics.csv",
        "mnist",
        [500, 300, 10],
        ("analog_test_acc", "sd_test_acc", "msq_test_acc"),
    ),
    "cifar10": (
        "cifar10_cnn_metrics.csv",
        "cifar10",
        [32, 32, 64, 64, 128, 128, 128, 10],
        ("analog_test_acc", "sd_test_acc", "msq_test_acc"),
    ),
    "vgg16": (
        "vgg16_ternary_metrics.csv",
        "imagenet",
        None,
        ("analog_test_top1_acc", "gpfq_test_top1_acc", "msq_test_top1_acc"),
    ),
}


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--datasets", nargs="+", required=True, help="the dataset of each model")
    parser.add_argument("--bits", nargs="+", required=True)
    parser.add_argument(
        "--published", type=Path, nargs="+", required=True, help="published result tables (.csv)"
    )
    parser.add_argument("--imagenet", nargs="*", default=[], help="networks for ImageNet")
    arguments = parser.parse_args()

    results = arguments.results
    sweeps = {name: read_sweep(results, name, arguments.bits) for name in arguments.models}
    models = {
        name: {
            **sweep(sweeps[name]),
            "selected": selected(results, name, arguments.bits),
            "measures": measures(results / f"metrics/networks/{name}.csv"),
        }
        for name in arguments.models
    }
    imagenet = {name: pd.read_csv(results / f"imagenet/{name}.csv") for name in arguments.imagenet}
    files = {path.name: path for path in arguments.published}
    rows = {}
    for title, (file, of_dataset, outputs, columns) in PUBLISHED.items():
        if outputs is None:
            ours = of_imagenet(imagenet)
        else:
            alike = (
                name
                for name, data in zip(arguments.models, arguments.datasets, strict=True)
                if data == of_dataset and outputs_of(results / f"keras/{name}.h5") == outputs
            )
            model = next(alike, None)
            ours = (model, sweeps[model]) if model else None
        rows[title] = published(pd.read_csv(files[file]), columns, ours)
    tables.write(arguments.output, {"models": models, "published": rows})


def read_sweep(results: Path, model: str, widths: Sequence[str]) -> pd.DataFrame:
    """The sweep of a model at every bit width."""
    paths = [results / f"sweep/{model}/{bits}bit.csv" for bits in widths]
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


def sweep(table: pd.DataFrame) -> tables.Record:
    """The measure, the analog scores and, for each method and bit width, the alphabet scalar that
    is best on validation.
    """
    table, measure = tables.scored(table, "validation_")
    groups = table.groupby(["bits", "method"], sort=False)
    best = table.loc[
        [tables.best(measure, rows.validation_score) for _, rows in groups]
    ].sort_values("bits", kind="stable")
    first = table.iloc[0]
    widths = sorted(table.bits.unique())
    rows = [
        {**row, "title": TECHNIQUES[row["method"]].title, "bits_name": names.bits_name(row["bits"])}
        for row in tables.records(best)
    ]
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
        "best": rows,
        "by_bits": leaders,
    }


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


def measures(path: Path) -> list[tables.Record]:
    """The analog network, the quantized ones and their lumped forms, on one scale."""
    return [
        {
            **row,
            "name": "analog" if row["network"] == "analog" else names.bits_name(row["bits"]),
        }
        for row in tables.records(tables.scored(pd.read_csv(path))[0])
    ]


def outputs_of(path: Path) -> list[int]:
    """Number of outputs of every layer with weights."""
    network = load(path)
    return [
        shape[-1]
        for layer, shape in zip(network.layers, network.shapes, strict=True)
        if getattr(layer, "kernel", np.empty(0)).size
    ]


def of_imagenet(sweeps: Mapping[str, pd.DataFrame]) -> tuple[str, pd.DataFrame] | None:
    """The last sweep on ImageNet, with the columns of the others."""
    if not sweeps:
        return None
    name, table = list(sweeps.items())[-1]
    columns = {"top1": "test_accuracy", "analog_top1": "analog_test_accuracy"}
    return name, table.rename(columns=columns)


def published(
    table: pd.DataFrame,
    columns: tuple[str, str, str],
    ours: tuple[str, pd.DataFrame] | None,
) -> tables.Record:
    """A published table, setting by setting, beside this run's sweep of the same kind of network,
    if there is one.
    """
    analog, gpfq, msq = columns
    sweep = tables.records(ours[1]) if ours else []
    measured = {
        (row["method"], round(row["bits"], 2), row["alphabet_scalar"]): row["test_accuracy"]
        for row in sweep
    }
    rows = [
        {
            "bits": round(row["bits"], 2),
            "bits_name": names.bits_name(round(row["bits"], 2)),
            "alphabet_scalar": row["alphabet_scalar"],
            "gpfq": row[gpfq],
            "msq": row[msq],
            **{
                f"our_{method}": measured.get(
                    (method, round(row["bits"], 2), row["alphabet_scalar"])
                )
                for method in ("gpfq", "msq")
            },
        }
        for row in tables.records(table)
    ]
    best = [
        {
            column: max(
                (row[column] for row in rows if row["bits"] == bits and row[column] is not None),
                default=None,
            )
            for column in ("gpfq", "msq")
        }
        | {"bits": bits, "bits_name": names.bits_name(bits)}
        for bits in sorted({row["bits"] for row in rows})
    ]
    return {
        "analog": table[analog].iloc[0],
        "samples": int(table.q_train_size.iloc[0]),
        "model": ours[0] if ours else None,
        "our_analog": sweep[0]["analog_test_accuracy"] if ours else None,
        "rows": rows,
        "best": best,
    }


if __name__ == "__main__":
    run_script(main)
