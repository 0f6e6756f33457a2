"""Gather tables and measures into the one JSON file that the thesis reads: every number of its
text, every row of its tables.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd

from netreduce.chains import names
from netreduce.chains.techniques import TECHNIQUES
from netreduce.cli.exits import run_script
from netreduce.data import SPLITS, read
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.lumping.dictionary import lump_neural_network, run_neural_network

BITS = re.compile(r"_?[\d.]+bit$")
# accuracy that the text allows a reduced network to lose and still calls it as good as the analog
# one
NEAR = 0.005
TOY = {
    "k": 4,
    "S": [{0, 1}, {2, 3}, {4, 5}, {6}],
    "W": {
        1: {(0, 2): 0.1, (1, 3): 0.2, (0, 3): 0.3, (1, 2): 0.4},
        2: {(2, 4): 0.5, (3, 4): 0.6, (2, 5): 1, (3, 5): 1.2},
        3: {(4, 6): 0.7, (5, 6): 0.8},
    },
    "b": {1: {2: 0.1, 3: 0.2}, 2: {4: 0.3, 5: 0.6}, 3: {6: 0.4}},
    "A": {1: {2: "ReLU", 3: "ReLU"}, 2: {4: "ReLU", 5: "ReLU"}, 3: {6: "ReLU"}},
}
TOY_INPUTS = [(0, 0), (1, 1), (1, 0), (0, 1), (-5, -5), (2, 3)]
# Published tables: file, dataset and outputs of every layer of the network, columns of the
# accuracies.
PUBLISHED = {
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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--provenance", type=Path, required=True, help="configuration, commit, versions (.json)"
    )
    parser.add_argument(
        "--published", type=Path, required=True, help="folder of the published result tables"
    )
    parser.add_argument(
        "--figures",
        type=Path,
        nargs="*",
        default=[],
        help="figures, <model>/<figure>.svg and, of all models, <figure>.svg",
    )
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="datasets, <dataset>.npz")
    parser.add_argument(
        "--networks", type=Path, nargs="*", default=[], help="analog networks, <model>.h5"
    )
    parser.add_argument(
        "--training", type=Path, nargs="*", default=[], help="training histories, <model>.csv"
    )
    parser.add_argument(
        "--conversion",
        type=Path,
        nargs="*",
        default=[],
        help="checks of the conversion, <model>.json",
    )
    parser.add_argument(
        "--sweep", type=Path, nargs="*", default=[], help="sweep tables, <model>/<bits>bit.csv"
    )
    parser.add_argument(
        "--selected",
        type=Path,
        nargs="*",
        default=[],
        help="chosen settings, <model>_<bits>bit.json",
    )
    parser.add_argument(
        "--measures",
        type=Path,
        nargs="*",
        default=[],
        help="analog, quantized and lumped networks on one scale, <model>.csv",
    )
    parser.add_argument(
        "--lumping", type=Path, nargs="*", default=[], help="equivalence classes, <model>.csv"
    )
    parser.add_argument(
        "--tolerance",
        type=Path,
        nargs="*",
        default=[],
        help="lumping over its tolerance, <model>.csv",
    )
    parser.add_argument(
        "--elsewhere", type=Path, nargs="*", default=[], help="networks made elsewhere, <name>.json"
    )
    parser.add_argument(
        "--imagenet", type=Path, nargs="*", default=[], help="sweeps on ImageNet, <name>.csv"
    )
    parser.add_argument("--comparison", type=Path, help="table of all chains (.csv)")
    parser.add_argument("--output", type=Path, required=True, help="where the summary goes (.json)")
    arguments = parser.parse_args()

    provenance = json.loads(arguments.provenance.read_text())
    config = provenance["config"]
    models = {
        name: describe(name, entry, config, arguments) for name, entry in config["models"].items()
    }
    summary = {
        "near": NEAR,
        "provenance": provenance,
        "toy": toy(),
        "datasets": {path.stem: dataset(path) for path in arguments.data},
        "models": models,
        "figures": {
            path.stem: f"/{path.as_posix()}"
            for path in arguments.figures
            if path.parent.name not in models
        },
        "architectures": architectures(arguments.lumping),
        "published": {
            name: published(arguments.published, name, models, arguments.sweep, arguments.imagenet)
            for name in PUBLISHED
        },
        "elsewhere": {path.stem: elsewhere(path) for path in arguments.elsewhere},
        "comparison": compare(arguments.comparison),
    }
    write_json(arguments.output, clean(summary))


def clean(value):
    """The same with NumPy's numbers as Python's, and null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def records(table):
    return table.to_dict("records")


def of_model(paths, model):
    """The files that belong to a model: <model>/<bits>bit.csv, <model>_<bits>bit.<suffix> or
    <model>.<suffix>.
    """
    return [
        path
        for path in paths
        if model == (path.parent.name if BITS.fullmatch(path.stem) else BITS.sub("", path.stem))
    ]


def toy():
    """The toy network, lumped exactly and as published, and what the three networks compute."""
    k, S, W, b, A = exact = lump_neural_network(TOY)
    _, _, published, _, _ = lump_neural_network(TOY, convention="thesis")
    merged = (4, 5)
    edge = next((layer, key) for layer, weights in W.items() for key in weights if key[0] == merged)
    weight = next(w for w in published[edge[0]].values())
    wrong = (k, S, {**W, edge[0]: {edge[1]: weight}}, b, A)
    points = [
        {
            "input": point,
            **{
                name: value(network, point)
                for name, network in (("function", TOY), ("exact", exact), ("published", wrong))
            },
        }
        for point in TOY_INPUTS
    ]
    return {
        "weights": {f"{r}-{s}": w for layer in TOY["W"].values() for (r, s), w in layer.items()},
        "biases": {s: bias for layer in TOY["b"].values() for s, bias in layer.items()},
        "ratio": TOY["b"][2][4] / TOY["b"][2][5],
        "multiple": TOY["b"][2][5] / TOY["b"][2][4],
        "exact_weight": W[edge[0]][edge[1]],
        "published_weight": weight,
        "points": points,
    }


def value(network, point):
    return next(iter(run_neural_network(network, point).values()))


def dataset(path):
    """Which data these are, sizes of the splits, shape of an image, number of classes."""
    data = read(path)
    sizes = {split: len(getattr(data, f"{split}_labels")) for split in SPLITS}
    return {**sizes, "source": data.source, "shape": data.image_shape, "classes": len(data.classes)}


def describe(model, entry, config, arguments):
    """All that the thesis says about one network."""

    def files(kind):
        return of_model(getattr(arguments, kind), model)

    architecture = entry.get("architecture")
    description = {
        "dataset": entry["dataset"],
        "architecture": (
            architecture
            if isinstance(architecture, dict)
            else {"name": architecture}
            if architecture
            else None
        ),
        "training": entry.get("training"),
        "weights_file": entry.get("weights"),
        "samples": entry.get("samples", config["sweep"]["samples"]),
        "figures": {
            path.stem: f"/{path.as_posix()}"
            for path in arguments.figures
            if path.parent.name == model
        },
    }
    if paths := files("networks"):
        description["layers"] = network_layers(load(paths[0]))
    if paths := files("training"):
        history = pd.read_csv(paths[0])
        description["history"] = {"epochs": len(history), "last": records(history)[-1]}
    if paths := files("conversion"):
        description["conversion"] = json.loads(paths[0].read_text())
    if paths := files("sweep"):
        description |= sweep(pd.concat([pd.read_csv(path) for path in paths], ignore_index=True))
    if paths := files("selected"):
        chosen = [json.loads(path.read_text()) for path in paths]
        rows = [
            {
                **row,
                "title": TECHNIQUES[row["method"]].title,
                "bits_name": names.bits_name(row["bits"]),
            }
            for row in chosen
        ]
        description["selected"] = sorted(
            ({key: entry for key, entry in row.items() if key != "methods"} for row in rows),
            key=lambda row: row["bits"],
        )
    if paths := files("measures"):
        rows = records(pd.read_csv(paths[0]))
        description["measures"] = [
            {
                **row,
                "name": "analog" if row["network"] == "analog" else names.bits_name(row["bits"]),
            }
            for row in rows
        ]
    if paths := files("lumping"):
        description["lumping"] = lumping(pd.read_csv(paths[0], dtype={"network": str}))
    if paths := files("tolerance"):
        description["tolerance"] = tolerance(pd.read_csv(paths[0], dtype={"network": str}))
    return description


def network_layers(network):
    """Name, kind, output shape and parameters of every layer."""
    return [
        {
            "name": names.layer_name(name),
            "kind": type(layer).__name__,
            "shape": shape,
            "parameters": sum(array.size for array in layer.arrays().values()),
            "weights": getattr(layer, "kernel", np.empty(0)).size,
        }
        for name, layer, shape in zip(network.names, network.layers, network.shapes, strict=True)
    ]


def sweep(table):
    """The analog accuracies and, for each method and bit width, the alphabet scalar that is best on
    validation.
    """
    best = table.loc[
        table.groupby(["bits", "method"], sort=False).validation_accuracy.idxmax()
    ].sort_values("bits", kind="stable")
    first = table.iloc[0]
    widths = sorted(table.bits.unique())
    rows = [
        {**row, "title": TECHNIQUES[row["method"]].title, "bits_name": names.bits_name(row["bits"])}
        for row in records(best)
    ]
    leaders = []
    for bits in widths:
        here = [row for row in rows if row["bits"] == bits]
        by_method = {row["method"]: row for row in here}
        leaders.append(
            {
                "bits": bits,
                "bits_name": names.bits_name(bits),
                "leader": max(here, key=lambda row: row["test_accuracy"]),
                "gpfq": by_method.get("gpfq"),
                "msq": by_method.get("msq"),
            }
        )
    analog = {"validation": first.analog_validation_accuracy, "test": first.analog_test_accuracy}
    return {"analog": analog, "settings": len(table), "best": rows, "by_bits": leaders}


def lumping(table):
    """Classes by layer and network, and whether anything merged."""
    rows = [
        {**row, "name": names.network_name(row["network"]), "layer": names.layer_name(row["layer"])}
        for row in records(table)
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


def architectures(paths):
    """Networks with the same hidden layers: their names, and the mean, least and most of their
    classes by layer.
    """
    tables = {path.stem: pd.read_csv(path, dtype={"network": str}) for path in paths}
    groups = {}
    for model, table in tables.items():
        first = table[table.network == table.network.iloc[0]]
        groups.setdefault(tuple(zip(first.layer, first.neurons, strict=True)), []).append(model)
    counts = ["classes", "published_classes", "neurons_after"]
    described = []
    for members in groups.values():
        together = pd.concat([tables[model] for model in members])
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


def tolerance(table):
    """The curve, and for each network and order the largest tolerance that costs at most NEAR of
    accuracy.
    """
    table = table.assign(name=table.network.map(names.network_name))
    usable = []
    for (network, order), group in table.groupby(["network", "order"], sort=False):
        group = group.sort_values("tolerance")
        start = group.iloc[0]
        near = group[group.test_accuracy >= start.test_accuracy - NEAR].iloc[-1]
        usable.append(
            {
                "network": network,
                "order": order,
                "start": start.to_dict(),
                "near": near.to_dict(),
                "last": group.iloc[-1].to_dict(),
            }
        )
    return {"rows": records(table), "usable": usable}


def published(folder, name, models, sweeps, imagenet=()):
    """A published table, setting by setting, beside this run's sweep of the same kind of network,
    if there is one.
    """
    file, of_dataset, outputs, (analog, gpfq, msq) = PUBLISHED[name]
    table = pd.read_csv(folder / file)
    ours, our_analog, sweep = None, None, []
    if of_dataset == "imagenet":
        for path in imagenet:
            sweep = records(pd.read_csv(path).rename(columns={"top1": "test_accuracy"}))
            ours, our_analog = path.stem, sweep[0]["analog_top1"]
    else:
        for model, entry in models.items():
            if (
                ours is None
                and entry["dataset"] == of_dataset
                and outputs_of(entry) == outputs
                and "analog" in entry
            ):
                sweep = records(pd.concat([pd.read_csv(path) for path in of_model(sweeps, model)]))
                ours, our_analog = model, entry["analog"]["test"]
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
        for row in records(table)
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
        "model": ours,
        "our_analog": our_analog,
        "rows": rows,
        "best": best,
    }


def outputs_of(description):
    """Number of outputs of every layer with weights."""
    return [layer["shape"][-1] for layer in description.get("layers", []) if layer["weights"]]


def elsewhere(path):
    """A network made elsewhere: its measures, its lumped form, its alphabets."""
    record = json.loads(path.read_text())
    return {
        **record,
        "alphabets": [
            {"layer": names.layer_name(layer), **found}
            for layer, found in record["alphabets"].items()
        ],
    }


def compare(path):
    """For each compared model: one row for each chain with means over the seeds, the Pareto front,
    and what the text says about them.
    """
    if path is None:
        return {}
    table = pd.read_csv(path)
    return {model: compare_model(rows) for model, rows in table.groupby("model", sort=False)}


def compare_model(table):
    measures = [
        "agreement",
        "entropy_bytes",
        "dense_bytes",
        "sparse_bytes",
        "float_bytes",
        "neurons",
        "nonzero_weights",
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
                "accuracy": group.accuracy.mean(),
                "spread": group.accuracy.std(ddof=1) if len(group) > 1 else None,
                "low": group.low.mean(),
                "high": group.high.mean(),
                **group[measures].mean().to_dict(),
            }
        )
    analog = next((row for row in rows if row["chain"] == "analog"), rows[0])
    for place, row in enumerate(rows):
        row["ratio"] = analog["entropy_bytes"] / row["entropy_bytes"]
        row["lost"] = analog["accuracy"] - row["accuracy"]
        row["weights_kept"] = row["nonzero_weights"] / analog["nonzero_weights"]
        row["front"] = not any(
            other["entropy_bytes"] <= row["entropy_bytes"]
            and other["accuracy"] >= row["accuracy"]
            and (
                index < place
                or other["entropy_bytes"] < row["entropy_bytes"]
                or other["accuracy"] > row["accuracy"]
            )
            for index, other in enumerate(rows)
            if index != place
        )
    by_chain = {row["chain"]: row for row in rows}
    near = [row for row in rows if row["lost"] <= NEAR]
    single = [row for row in near if len(row["families"]) == 1]
    longer = [row for row in near if len(row["families"]) > 1]
    return {
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
        "least_accurate": min(rows, key=lambda row: row["accuracy"]),
        # What exact lumping adds at the end of a chain.
        "lumped_last": [
            {"before": by_chain[before], "after": row}
            for chain, row in by_chain.items()
            for before in [chain.removesuffix("/lump-tolerance=0")]
            if before != chain and before in by_chain
        ],
    }


def smallest(rows):
    return min(rows, key=lambda row: row["entropy_bytes"], default=None)


if __name__ == "__main__":
    run_script(main)
