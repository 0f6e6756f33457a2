"""Quantize one network with one method at one bit width and every alphabet, measure each result,
and keep the one that is best on the validation images.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import replacing, write_table
from netreduce.formats import load, save
from netreduce.measures.evaluation import trial
from netreduce.quantization import dead_weights, quantize_many
from netreduce.quantization.settings import SWEPT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--bits", type=float, required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument(
        "--settings",
        type=json.loads,
        required=True,
        help="arguments of `quantize` that say which alphabet, for each setting by its name (JSON)",
    )
    parser.add_argument(
        "--samples", type=int, required=True, help="training images that data-dependent methods see"
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of stochastic rounding")
    parser.add_argument(
        "--networks",
        type=Path,
        nargs="+",
        required=True,
        help="where the networks go (.h5), one for each setting",
    )
    parser.add_argument("--best", type=Path, required=True, help="where the best one goes (.h5)")
    parser.add_argument("--table", type=Path, required=True, help="where the measures go (.csv)")
    parser.add_argument("--timings", type=Path, required=True, help="where the seconds go (.csv)")
    arguments = parser.parse_args()

    analog = load(arguments.network)
    data = read(arguments.data)
    trials = {split: trial(data, split, analog) for split in ("validation", "test")}
    measure = trials["test"].measure.name
    fixed = {"method": arguments.method, "bits": arguments.bits, "seed": arguments.seed}
    settings = [{**fixed, **setting} for setting in arguments.settings.values()]
    samples = data.images("train", arguments.samples)
    table: list[dict[str, Any]] = []
    timings = []
    for path, (setting, network, seconds) in zip(
        arguments.networks, quantize_many(analog, samples, settings), strict=True
    ):
        save(network, path)
        key = {name: setting.get(name) for name in SWEPT}
        scores = {split: trial.score(network) for split, trial in trials.items()}
        table.append(
            {
                **key,
                **{f"{split}_{measure}": value for split, value in scores.items()},
                "dead_weights": sum(
                    dead_weights(layer)
                    for layer in network.layers
                    if getattr(layer, "quantization", None)
                ),
            }
        )
        timings.append({**key, "seconds": round(seconds, 4)})
        print(" ".join(f"{name}={value}" for name, value in {**key, **scores}.items()), flush=True)
    merit = trials["validation"].measure.merit
    best = max(
        zip(table, arguments.networks, strict=True),
        key=lambda pair: merit(pair[0][f"validation_{measure}"]),
    )
    with replacing(arguments.best) as temporary:
        shutil.copyfile(best[1], temporary)
    write_table(arguments.table, table)
    write_table(arguments.timings, timings)


if __name__ == "__main__":
    run_script(main)
