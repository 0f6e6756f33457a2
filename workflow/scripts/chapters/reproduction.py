"""Data of the chapter on reproduction: published tables setting by setting beside this run's sweep
of the same kind of network, and point by point what of them holds.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tables

from netreduce.chains import names
from netreduce.cli.exits import run_script
from netreduce.formats import load

# Published tables: file, dataset and outputs of every layer of the network, columns of the
# accuracies, number of test images.
PUBLISHED: dict[str, tuple[str, str, list[int] | None, tuple[str, str, str], int]] = {
    "mnist": (
        "mnist_mlp_metrics.csv",
        "mnist",
        [500, 300, 10],
        ("analog_test_acc", "sd_test_acc", "msq_test_acc"),
        10_000,
    ),
    "cifar10": (
        "cifar10_cnn_metrics.csv",
        "cifar10",
        [32, 32, 64, 64, 128, 128, 128, 10],
        ("analog_test_acc", "sd_test_acc", "msq_test_acc"),
        10_000,
    ),
    "vgg16": (
        "vgg16_ternary_metrics.csv",
        "imagenet",
        None,
        ("analog_test_top1_acc", "gpfq_test_top1_acc", "msq_test_top1_acc"),
        20_000,
    ),
}
METHODS = ("gpfq", "msq")
NORMAL = 1.96  # two-sided 95 % of a normal distribution
HOLDS, IN_PART, FAILS, OPEN = "holds", "holds in part", "does not hold", "not examined"


def main() -> None:
    parser = tables.parser(__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the results")
    parser.add_argument("--models", nargs="+", required=True)
    parser.add_argument("--datasets", nargs="+", required=True, help="the dataset of each model")
    parser.add_argument("--samples", nargs="+", type=int, required=True, help="of each model")
    parser.add_argument("--bits", nargs="+", required=True)
    parser.add_argument(
        "--published", type=Path, nargs="+", required=True, help="published result tables (.csv)"
    )
    parser.add_argument("--imagenet", nargs="*", default=[], help="networks for ImageNet")
    parser.add_argument("--comparison", type=Path, nargs="?", help="table of all chains (.csv)")
    arguments = parser.parse_args()

    results = arguments.results
    files = {path.name: path for path in arguments.published}
    compared = pd.read_csv(arguments.comparison) if arguments.comparison else None
    rows = {}
    for title, (file, of_dataset, outputs, columns, images) in PUBLISHED.items():
        ours = None
        if outputs is None:
            ours = of_imagenet(results, arguments.imagenet)
        else:
            each = zip(arguments.models, arguments.datasets, arguments.samples, strict=True)
            for name, dataset, samples in each:
                if dataset == of_dataset and outputs_of(results / f"keras/{name}.h5") == outputs:
                    ours = of_sweep(results, name, arguments.bits, samples)
                    break
        theirs = published(pd.read_csv(files[file]), columns, images)
        rows[title] = beside(theirs, ours) | {"file": file, "dataset": of_dataset}
        rows[title]["seeds"] = [] if ours is None else spreads(compared, ours["model"])
    tables.write(arguments.output, {"published": rows})


def published(table: pd.DataFrame, columns: tuple[str, str, str], images: int) -> tables.Record:
    """A published table: the accuracy of every setting, by method, bit width and scalar."""
    analog, *accuracies = columns
    settings = {
        (method, round(row["bits"], 2), row["alphabet_scalar"]): row[column]
        for row in tables.records(table)
        for method, column in zip(METHODS, accuracies, strict=True)
        if row[column] is not None
    }
    return {
        "analog": table[analog].iloc[0],
        "samples": int(table.q_train_size.iloc[0]),
        "images": images,
        "settings": settings,
    }


def of_sweep(results: Path, model: str, widths: Sequence[str], samples: int) -> tables.Record:
    """The same of this run's sweep of a model."""
    table = pd.concat([pd.read_csv(results / f"sweep/{model}/{bits}bit.csv") for bits in widths])
    images = int(pd.read_csv(results / f"metrics/networks/{model}.csv")["samples"].iloc[0])
    return side(model, table, "test_accuracy", "analog_test_accuracy", samples, images)


def of_imagenet(results: Path, networks: Sequence[str]) -> tables.Record | None:
    """The same of this run's last network on ImageNet."""
    if not networks:
        return None
    table = pd.read_csv(results / f"imagenet/{networks[-1]}.csv")
    counts = (int(table.samples.iloc[0]), int(table.test_images.iloc[0]))
    return side(networks[-1], table, "top1", "analog_top1", *counts)


def side(
    model: str, table: pd.DataFrame, accuracy: str, analog: str, samples: int, images: int
) -> tables.Record:
    return {
        "model": model,
        "analog": table[analog].iloc[0],
        "samples": samples,
        "images": images,
        "settings": {
            (row["method"], round(row["bits"], 2), row["alphabet_scalar"]): row[accuracy]
            for row in tables.records(table)
            if row["method"] in METHODS
        },
    }


def outputs_of(path: Path) -> list[int]:
    """Number of outputs of every layer with weights."""
    network = load(path)
    return [
        shape[-1]
        for layer, shape in zip(network.layers, network.shapes, strict=True)
        if getattr(layer, "kernel", np.empty(0)).size
    ]


def beside(theirs: tables.Record, ours: tables.Record | None) -> tables.Record:
    """Both setting by setting, and what is to be said of them."""
    shared = {} if ours is None else theirs["settings"].keys() & ours["settings"].keys()
    # Like with like: where there is a run to compare with, the settings that both have.
    said = {
        key: theirs["settings"][key] for key in theirs["settings"] if not shared or key in shared
    }
    here = {key: ours["settings"][key] for key in said} if ours is not None and shared else None
    rows = [
        {
            "bits": bits,
            "bits_name": names.bits_name(bits),
            "alphabet_scalar": scalar,
            **{method: theirs["settings"].get((method, bits, scalar)) for method in METHODS},
            **{
                f"our_{method}": ours["settings"].get((method, bits, scalar)) if ours else None
                for method in METHODS
            },
        }
        for bits, scalar in dict.fromkeys(key[1:] for key in theirs["settings"])
    ]
    described = {key: theirs[key] for key in ("analog", "samples", "images")}
    return {
        **described,
        "ours": {key: ours[key] for key in ("model", *described)} if ours and here else None,
        "rows": rows,
        "best": best(said),
        "our_best": None if here is None else best(here),
        "points": points(said, theirs, here, ours),
        "agreement": None if here is None else agreement(said, theirs, here, ours or {}),
    }


Settings = Mapping[tuple[str, float, float], float]


def best(settings: Settings) -> list[tables.Record]:
    """By bit width, each method at the scalar at which it is best, and at which it is worst."""
    found = []
    for bits in sorted({bits for _, bits, _ in settings}):
        row: tables.Record = {"bits": bits, "bits_name": names.bits_name(bits)}
        for method in METHODS:
            here = {key[2]: value for key, value in settings.items() if key[:2] == (method, bits)}
            scalar = max(here, key=lambda one: here[one])
            row |= {method: here[scalar], f"{method}_scalar": scalar}
            row[f"{method}_worst"] = min(here.values())
        found.append(row)
    return found


def points(
    said: Settings,
    theirs: tables.Record,
    here: Settings | None,
    ours: tables.Record | None,
) -> list[tables.Record]:
    """What the published numbers show, what this run's show at the same settings, and whether the
    one holds in the other.
    """
    sides = [(best(said), said, theirs)]
    if here is not None and ours is not None:
        sides.append((best(here), here, ours))
    found = []
    for name, look, judge in POINTS:
        if name == "widest" and len(sides[0][0]) == 1:
            continue
        values = [look(*one) for one in sides]
        entry = {"name": name, "published": values[0], "ours": None, "verdict": OPEN}
        if len(values) > 1:
            error = margin(values[0], values[1], theirs, ours or {}) if name == "lost" else 0.0
            entry |= {"ours": values[1], "verdict": judge(values[0], values[1], error)}
        found.append(entry)
    return found


def ahead(rows: Sequence[tables.Record], *_: Any) -> list[str]:
    """Bit widths at which GPFQ is ahead of MSQ, each at its best scalar."""
    return [row["bits_name"] for row in rows if row["gpfq"] > row["msq"]]


def widest(rows: Sequence[tables.Record], *_: Any) -> tables.Record:
    """Where the lead of GPFQ is largest."""
    row = max(rows, key=lambda row: row["gpfq"] - row["msq"])
    return {"bits_name": row["bits_name"], "lead": row["gpfq"] - row["msq"]}


def steadier(rows: Sequence[tables.Record], *_: Any) -> list[str]:
    """Bit widths at which the scalar matters less to GPFQ than to MSQ."""
    return [
        row["bits_name"]
        for row in rows
        if row["gpfq"] - row["gpfq_worst"] < row["msq"] - row["msq_worst"]
    ]


def settings_ahead(_: Any, settings: Settings, *__: Any) -> tables.Record:
    """In how many settings GPFQ is ahead of MSQ."""
    pairs = [
        value > settings["msq", *key[1:]]
        for key, value in settings.items()
        if key[0] == "gpfq" and ("msq", *key[1:]) in settings
    ]
    return {"count": sum(pairs), "of": len(pairs)}


def lost(rows: Sequence[tables.Record], _: Any, side: tables.Record) -> tables.Record:
    """What GPFQ loses with the smallest alphabet, at its best scalar."""
    row = rows[0]
    return {"bits_name": row["bits_name"], "lost": side["analog"] - row["gpfq"], "at": row["gpfq"]}


def scalars(rows: Sequence[tables.Record], *_: Any) -> tables.Record:
    """The scalar that is best for GPFQ, by bit width."""
    return {row["bits_name"]: row["gpfq_scalar"] for row in rows}


def of_all(theirs: Sequence[str], ours: Sequence[str], _: float) -> str:
    """Whether what holds there for some bit widths holds here for the same."""
    return _share(sum(name in ours for name in theirs), len(theirs))


def same_place(theirs: tables.Record, ours: tables.Record, _: float) -> str:
    return HOLDS if theirs["bits_name"] == ours["bits_name"] else FAILS


def same_majority(theirs: tables.Record, ours: tables.Record, _: float) -> str:
    majority = [2 * side["count"] > side["of"] for side in (theirs, ours)]
    return HOLDS if majority[0] == majority[1] else FAILS


def no_more(theirs: tables.Record, ours: tables.Record, error: float) -> str:
    return HOLDS if ours["lost"] <= theirs["lost"] + error else FAILS


def equal(theirs: tables.Record, ours: tables.Record, _: float) -> str:
    return _share(sum(theirs[key] == ours[key] for key in theirs), len(theirs))


def _share(count: int, of: int) -> str:
    return HOLDS if count == of else IN_PART if count else FAILS


POINTS: tuple[tuple[str, Callable[..., Any], Callable[..., str]], ...] = (
    ("ahead", ahead, of_all),
    ("widest", widest, same_place),
    ("settings", settings_ahead, same_majority),
    ("steadier", steadier, of_all),
    ("lost", lost, no_more),
    ("scalars", scalars, equal),
)


def margin(
    theirs: tables.Record, ours: tables.Record, said: tables.Record, here: tables.Record
) -> float:
    """How far two losses may be apart by chance alone, each of two accuracies on test images."""
    parts = [(theirs["at"], said), (said["analog"], said), (ours["at"], here)]
    parts.append((here["analog"], here))
    return NORMAL * sum(p * (1 - p) / side["images"] for p, side in parts) ** 0.5


def agreement(
    said: Settings, theirs: tables.Record, here: Settings, ours: tables.Record
) -> tables.Record:
    """How far the settings are apart, and which of them by more than chance explains."""
    apart = {key: here[key] - value for key, value in said.items()}
    outside = {
        key
        for key, value in said.items()
        if abs(apart[key])
        > NORMAL
        * (value * (1 - value) / theirs["images"] + here[key] * (1 - here[key]) / ours["images"])
        ** 0.5
    }
    groups = []
    for method in METHODS:
        for bits in sorted({key[1] for key in said}):
            keys = [key for key in said if key[:2] == (method, bits)]
            groups.append(
                {
                    "method": method,
                    "bits_name": names.bits_name(bits),
                    "of": len(keys),
                    "outside": sum(key in outside for key in keys),
                    "mean": float(np.mean([apart[key] for key in keys])),
                    "rank": rank(
                        [said[key] for key in keys],
                        [here[key] for key in keys],
                    ),
                }
            )
    far = max(apart, key=lambda key: abs(apart[key]))
    return {
        "of": len(said),
        "within": len(said) - len(outside),
        "median": float(np.median([abs(value) for value in apart.values()])),
        "largest": {
            "method": far[0],
            "bits_name": names.bits_name(far[1]),
            "alphabet_scalar": far[2],
            "published": said[far],
            "ours": here[far],
        },
        "groups": groups,
    }


def rank(theirs: Sequence[float], ours: Sequence[float]) -> float | None:
    """Spearman's correlation: whether the same scalars are good."""
    orders = [pd.Series(values).rank() for values in (theirs, ours)]
    value = orders[0].corr(orders[1]) if len(theirs) > 2 else float("nan")
    return float(value) if np.isfinite(value) else None


def spreads(compared: pd.DataFrame | None, model: str) -> list[tables.Record]:
    """How much accuracies of this run differ from one seed of the training to the next."""
    if compared is None or "accuracy" not in compared:
        return []
    found = []
    for chain, rows in compared[compared.model == model].groupby("chain", sort=False):
        steps = str(chain).split("/")
        if len(rows) > 1 and len(steps) == 1 and steps[0].partition("-")[0] in ("analog", *METHODS):
            found.append(
                {
                    "name": names.chain_name(str(chain)),
                    "seeds": len(rows),
                    "spread": float(rows.accuracy.std(ddof=1)),
                    "range": float(rows.accuracy.max() - rows.accuracy.min()),
                }
            )
    return found


if __name__ == "__main__":
    run_script(main)
