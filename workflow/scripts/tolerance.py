"""What approximate lumping keeps and costs over its tolerance: alone, before quantization and after
it; with the bound over the whole range of inputs, and on balls around test samples.
"""

import argparse
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from balls import balls, summary
from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.errors import UnsupportedLayerError
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.lumping import Lumping, lump
from netreduce.measures.evaluation import classes_of, judge, trial
from netreduce.network import Network
from netreduce.quantization import quantize
from netreduce.quantization.settings import SWEPT


def smaller(lumping: Lumping, network: Network) -> Network:
    """The lumped network; where nothing merged, the very network."""
    merged = any(
        layer["neurons_after"] < layer["neurons_before"]
        for layer in lumping.record()["layers"].values()
    )
    return lumping.network if merged else network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analog", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument("--bits", nargs="+", required=True)
    parser.add_argument(
        "--quantized",
        type=Path,
        nargs="+",
        required=True,
        help="its quantized networks, one for each bit width",
    )
    parser.add_argument(
        "--settings", type=Path, nargs="+", required=True, help="how they were quantized (.json)"
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--tolerances", type=float, nargs="+", required=True)
    parser.add_argument("--input-range", type=float, nargs=2, required=True)
    parser.add_argument(
        "--samples", type=int, required=True, help="training images for quantization after lumping"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--radius", help="of the balls, such as 0.01 or 2/255; no balls without it")
    parser.add_argument("--images", type=int, help="balls, around the first test samples")
    parser.add_argument(
        "--seconds", type=json.loads, help="limit for the balls of each network, or null"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    analog = load(arguments.analog)
    data = read(arguments.data)
    images = data.images("test")
    samples = data.images("train", arguments.samples)
    settings = {
        bits: json.loads(path.read_text())
        for bits, path in zip(arguments.bits, arguments.settings, strict=True)
    }
    quantized = {
        bits: load(path) for bits, path in zip(arguments.bits, arguments.quantized, strict=True)
    }

    test = trial(data, "test", analog)
    shares = test.measure.share

    @cache
    def outputs(network: Network) -> np.ndarray:
        """Every network answers once."""
        return network.predict(images)

    @cache
    def answers(name: str) -> np.ndarray:
        """What the network that others are compared with answers: classes, or numbers."""
        network = {"analog": analog, **quantized}[name]
        if shares:
            return classes_of(network, outputs(network))
        return outputs(network).reshape(len(images), -1).astype(np.float64)

    def measured(network: Network, name: str) -> dict[str, float | None]:
        found, against_truth = (
            asdict(judge(network, outputs(network), test.y, reference))
            for reference in (answers(name), test.y)
        )
        beside = "agreement" if shares else "relative_difference"
        columns = {f"test_{test.measure.name}": against_truth[test.measure.name]}
        return columns | ({} if beside in columns else {beside: found[beside]})

    def certified(lumping: Lumping) -> float | None:
        """Only classes can be certified to be the same."""
        if not shares:
            return None
        network = lumping.network
        return lumping.certified(images, outputs(network) if network.logits() is network else None)

    @cache
    def on_balls(lumping: Lumping) -> dict[str, Any]:
        """What is certified on balls, on which the bound for all inputs holds as well: nothing
        where the relaxation does not know a layer.
        """
        if arguments.radius is None:
            return {}
        around = balls(data, arguments.images, arguments.input_range, arguments.seconds)
        columns = ("bound", "found", *(("certified_agreement",) if around.classes else ()))
        lumped = smaller(lumping, lumping.original)
        try:
            found = summary(around.certify(lumping.original, lumped, arguments.radius))
            found["bound"] = min(found["bound"], float(lumping.bound.max()))
        except UnsupportedLayerError:
            found = {}
        return {"ball_radius": arguments.radius} | {f"ball_{c}": found.get(c) for c in columns}

    def row(
        name: str,
        order: str,
        tolerance: float,
        lumping: Lumping,
        certified: float | None,
        network: Network,
    ) -> dict[str, Any]:
        layers = lumping.record()["layers"].values()
        return {
            "network": name,
            "order": order,
            "tolerance": tolerance,
            "neurons": sum(layer["neurons_before"] for layer in layers),
            "neurons_kept": sum(layer["neurons_after"] for layer in layers),
            **measured(network, name),
            "bound": float(lumping.bound.max()),
            "certified_share": certified,
            **on_balls(lumping),
        }

    box = data.input_range if data.own else tuple(arguments.input_range)
    rows = []
    for tolerance in arguments.tolerances:
        lumping = lump(analog, tolerance, box)
        share = certified(lumping)
        lumped = smaller(lumping, analog)
        rows.append(row("analog", "lump", tolerance, lumping, share, lumped))
        for bits, network in quantized.items():
            after = lump(network, tolerance, box)
            rows.append(
                row(
                    bits,
                    "quantize-lump",
                    tolerance,
                    after,
                    certified(after),
                    smaller(after, network),
                )
            )
            setting = {key: settings[bits][key] for key in SWEPT if key in settings[bits]}
            before = (
                network
                if lumped is analog
                else quantize(lumped, samples, **setting, seed=arguments.seed)
            )
            rows.append(row(bits, "lump-quantize", tolerance, lumping, share, before))
    rows.sort(key=lambda r: (r["network"] != "analog", r["network"], r["order"], r["tolerance"]))
    write_table(arguments.output, rows)


if __name__ == "__main__":
    run_script(main)
