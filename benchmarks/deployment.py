"""Networks in integers: what they lose, how large their files are, and how fast they run.

    OMP_NUM_THREADS=1 python benchmarks/deployment.py lenet5 results/keras/mnist-lenet5.h5
    --data results/data/mnist.npz --weights 8

Weights by GPFQ or Qronos, all input channels together, one scale for each output (radius of least
output error), and ranges of the activations by one of several methods: the pair is chosen on
validation samples. The test samples then go through the exported files in ONNX Runtime and LiteRT,
and the first ones through the evaluation in integers. Without --data the inputs are random numbers
in [0, 1), and the score is how often the network answers as the analog one does. Latencies are
medians of measurements in turns, the analog files among them. Appends one Markdown row a file to
--output.
"""

import argparse
import os
import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from netreduce import IntegerNetwork, quantize, quantize_activations
from netreduce.data import read
from netreduce.formats import load
from netreduce.formats.export import export
from netreduce.measures.deployment import predict_file
from netreduce.measures.evaluation import accuracy, classes_of, predict_classes
from netreduce.measures.latency import measure_files
from netreduce.network import Network
from netreduce.network.integers import RUNTIMES

SUFFIXES = (".onnx", ".tflite")
VALIDATION, LATENCY_IMAGES = 500, 256
SPARE = 8000  # bytes that a file may take besides 1.1 · bits / 32 of the analog one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("network", type=Path)
    parser.add_argument("--data", type=Path, help="dataset (.npz) of the workflow")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="what its images are multiplied by"
    )
    parser.add_argument("--weights", type=float, default=8, help="bits of weights")
    parser.add_argument("--activations", type=int, default=8, help="bits of activations")
    parser.add_argument("--samples", type=int, default=500, help="training samples")
    parser.add_argument("--test", type=int, help="test samples; all by default")
    parser.add_argument("--compared", type=int, default=1000, help="of these, evaluated here too")
    parser.add_argument("--methods", nargs="+", default=["gpfq", "qronos"], help="to choose from")
    parser.add_argument("--ranges", nargs="+", default=["mse", "percentile"], help="the same")
    parser.add_argument("--seconds", type=float, default=60, help="for latencies; 0 for none")
    parser.add_argument("--output", type=Path, default=Path("deployment.md"))
    arguments = parser.parse_args()

    analog = load(arguments.network)
    train, validation, test = samples(arguments, analog)
    start = perf_counter()
    network, chosen = best(analog, arguments, train, validation)
    print(f"{arguments.name}: {chosen}, {perf_counter() - start:.0f} s", flush=True)

    integers = IntegerNetwork(network)
    x, y = test
    compared = slice(arguments.compared)
    expected = {
        suffix: classes_of(network, IntegerNetwork(network, runtime).predict(x[compared]))
        for suffix, runtime in zip(SUFFIXES, RUNTIMES, strict=True)
    }
    width = max(accumulator.worst for accumulator in integers.accumulators().values())
    start_of_row = [
        arguments.name,
        f"W{arguments.weights:g}A{arguments.activations}",
        chosen,
        str(width),
    ]
    with TemporaryDirectory() as folder, arguments.output.open("a") as output:
        files = {}
        for suffix, (what, exported) in product(
            SUFFIXES, {"float": analog, "integers": network}.items()
        ):
            files[what + suffix] = path = Path(folder, what + suffix)
            export(exported, path)
        medians = latencies(files, x, arguments.seconds)
        whole_score = np.mean(classes_of(analog, predict_file(files["float.onnx"], x)) == y)
        for suffix in SUFFIXES:
            path = files["integers" + suffix]
            found = classes_of(network, predict_file(path, x))
            score = np.mean(found == y)
            size, whole = path.stat().st_size, files["float" + suffix].stat().st_size
            allowed = 1.1 * arguments.weights / 32 * whole + SPARE
            row = [
                *start_of_row,
                suffix,
                f"{100 * whole_score:.2f}",
                f"{100 * score:.2f} ({100 * (score - whole_score):+.2f})",
                f"{100 * np.mean(found[compared] == expected[suffix]):.1f}",
                f"{size / 1000:.1f} of {whole / 1000:.1f}" + " (too large)" * (size > allowed),
                *(
                    f"{1e6 * medians['integers' + suffix, threads, batch]:.0f} /"
                    f" {1e6 * medians['float' + suffix, threads, batch]:.0f}"
                    for name, threads, batch in medians
                    if name == "float" + suffix
                ),
            ]
            output.write(f"| {' | '.join(row)} |\n")
            print(*row, sep=" | ", flush=True)


def samples(
    arguments: argparse.Namespace, analog: Network
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Training samples; validation and test samples with their classes."""
    if arguments.data is None:
        random = np.random.default_rng(0)
        counts = (arguments.samples, VALIDATION, arguments.test or 10_000)
        train, validation, test = (
            random.random((count, *analog.input_shape), np.float32) for count in counts
        )
        return (
            train,
            (validation, predict_classes(analog, validation)),
            (test, predict_classes(analog, test)),
        )
    data = read(arguments.data)
    train, validation, test = (
        np.float32(arguments.scale) * data.images(split, count)
        for split, count in (
            ("train", arguments.samples),
            ("validation", VALIDATION),
            ("test", arguments.test),
        )
    )
    return (
        train,
        (validation, data.targets("validation", VALIDATION)),
        (test, data.targets("test", arguments.test)),
    )


def best(
    analog: Network,
    arguments: argparse.Namespace,
    train: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
) -> tuple[Network, str]:
    """The network of the method and the ranges that are best on the validation samples."""
    found: dict[str, tuple[float, Network]] = {}
    for ranges in arguments.ranges:
        rounded = quantize_activations(analog, train, arguments.activations, ranges)
        for method in arguments.methods:
            network = quantize(
                rounded,
                train,
                method=method,
                bits=arguments.weights,
                conv="joint",
                radius="output",
                per_channel=True,
                zero=True,
                keep_zeros=True,
            )
            score = accuracy(network, *validation)
            print(f"  {method}, {ranges}: {100 * score:.2f} % of validation", flush=True)
            found[f"{method}, {ranges}"] = score, network
    chosen = max(found, key=lambda name: found[name][0])
    return found[chosen][1], chosen


def latencies(
    files: dict[str, Path], images: np.ndarray, seconds: float
) -> dict[tuple[str, int, int], float]:
    """Median seconds for a batch of each file, by name, threads and batch."""
    if not seconds:
        return {}
    images = np.resize(images, (LATENCY_IMAGES, *images.shape[1:]))
    return {
        (row.file, row.threads, row.batch): row.seconds
        for row in measure_files(
            files, images, threads=dict.fromkeys((1, os.cpu_count() or 1)), limit=seconds
        )
    }


if __name__ == "__main__":
    main()
