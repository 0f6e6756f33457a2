"""What approximate lumping keeps and costs over its tolerance: alone, before quantization and after
it.
"""

import argparse
import json
from functools import cache
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.formats import load
from netreduce.lumping import lump
from netreduce.measures.evaluation import evaluate, predict_classes
from netreduce.quantization import quantize


def smaller(lumping, network):
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
    parser.add_argument("--conv", choices=["channel", "joint"], required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    analog = load(arguments.analog)
    data = read(arguments.data)
    images, labels = data.images("test"), data.test_labels
    samples = data.images("train", arguments.samples)
    settings = {
        bits: json.loads(path.read_text())
        for bits, path in zip(arguments.bits, arguments.settings, strict=True)
    }
    quantized = {
        bits: load(path) for bits, path in zip(arguments.bits, arguments.quantized, strict=True)
    }

    predicted = {
        name: predict_classes(network, images)
        for name, network in {"analog": analog, **quantized}.items()
    }

    @cache
    def measure(network, name):
        return evaluate(network, images, labels, reference=predicted[name])

    def row(name, order, tolerance, lumping, certified, network):
        layers = lumping.record()["layers"].values()
        measured = measure(network, name)
        return {
            "network": name,
            "order": order,
            "tolerance": tolerance,
            "neurons": sum(layer["neurons_before"] for layer in layers),
            "neurons_kept": sum(layer["neurons_after"] for layer in layers),
            "test_accuracy": measured.accuracy,
            "agreement": measured.agreement,
            "bound": float(lumping.bound.max()),
            "certified_share": certified,
        }

    rows = []
    for tolerance in arguments.tolerances:
        lumping = lump(analog, tolerance, tuple(arguments.input_range))
        certified = lumping.certified(images)
        lumped = smaller(lumping, analog)
        rows.append(row("analog", "lump", tolerance, lumping, certified, lumped))
        for bits, network in quantized.items():
            after = lump(network, tolerance, tuple(arguments.input_range))
            rows.append(
                row(
                    bits,
                    "quantize-lump",
                    tolerance,
                    after,
                    after.certified(images),
                    smaller(after, network),
                )
            )
            setting = {key: settings[bits][key] for key in ("method", "bits", "alphabet_scalar")}
            before = (
                network
                if lumped is analog
                else quantize(lumped, samples, **setting, conv=arguments.conv, seed=arguments.seed)
            )
            rows.append(row(bits, "lump-quantize", tolerance, lumping, certified, before))
    rows.sort(key=lambda r: (r["network"] != "analog", r["network"], r["order"], r["tolerance"]))
    write_table(arguments.output, rows)


if __name__ == "__main__":
    run_script(main)
