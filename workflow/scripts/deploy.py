"""Put weights and activations of a network on grids of integers, write files that run in integers,
and measure these in their runtimes.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

import netreduce
from netreduce.cli.exits import run_script
from netreduce.data import Dataset, read
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.formats.export import export
from netreduce.measures.deployment import predict_file
from netreduce.measures.evaluation import Evaluation, classes_of, judge, trial
from netreduce.network.integers import IntegerNetwork
from netreduce.quantization.activations import quantize_activations
from netreduce.quantization.validated import quantize_validated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--weights", type=float, required=True, help="bits of weights")
    parser.add_argument("--activations", type=int, required=True, help="bits of activations")
    parser.add_argument("--method", required=True, help="how weights are rounded")
    parser.add_argument("--samples", type=int, required=True, help="training samples that it sees")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--preprocessing",
        action="store_true",
        help="whether the files preprocess the dataset's values themselves, and say what they are",
    )
    parser.add_argument("--exports", type=Path, nargs="+", required=True, help="where the files go")
    parser.add_argument("--metrics", type=Path, required=True, help="where the measures go (.json)")
    arguments = parser.parse_args()

    data, analog = read(arguments.data), load(arguments.network)
    samples = data.images("train", arguments.samples)
    network = quantize_validated(
        quantize_activations(analog, samples, arguments.activations, "mse"),
        samples,
        trial(data, "validation", analog).pair(),
        arguments.method,
        arguments.weights,
        conv="joint",
        seed=arguments.seed,
        radius="output",
        per_channel=True,
        zero=True,
    )
    test = trial(data, "test", analog)
    integers = IntegerNetwork(network)
    expected = integers.predict(test.x)
    litert = IntegerNetwork(network, "litert")
    references = {
        ".onnx": expected,
        ".tflite": litert.predict(test.x) if litert.rounding_twice else expected,
    }

    def measured(outputs: np.ndarray, expected: np.ndarray) -> dict[str, float]:
        reference = classes_of(network, expected) if test.measure.share else expected
        score = getattr(judge(network, outputs, test.y, test.y), test.measure.name)
        beside = judge(network, outputs, test.y, reference)
        alike = beside.agreement if isinstance(beside, Evaluation) else beside.relative_difference
        assert alike is not None
        return {test.measure.name: float(score), "as_evaluated": alike}

    files = {}
    for path in arguments.exports:
        if arguments.preprocessing:
            export(network, path, data.preprocessing, words(arguments, data))
        else:
            export(network, path)
        outputs = predict_file(path, data.test_images if arguments.preprocessing else test.x)
        files[path.suffix[1:]] = {
            "bytes": path.stat().st_size,
            **measured(outputs, references[path.suffix]),
        }
    widths = integers.accumulators(test.x)
    write_json(
        arguments.metrics,
        {
            "weights": int(arguments.weights) if arguments.weights % 1 == 0 else arguments.weights,
            "activations": arguments.activations,
            "method": arguments.method,
            "reference": measured(expected, expected),
            "files": files,
            "accumulators": {name: asdict(width) for name, width in widths.items()},
        },
    )


def words(arguments: argparse.Namespace, data: Dataset) -> dict[str, str]:
    """What a file says of itself."""
    weights, activations = f"{arguments.weights:g}", arguments.activations
    return {
        "description": f"weights of {weights} bits by {arguments.method}, activations of"
        f" {activations} bits, in integers",
        "chain": f"activations-bits={activations}/{arguments.method}-bits={weights}"
        "-conv=joint-radius=output-per_channel=true-zero=true",
        "dataset": data.source,
        "classes": json.dumps(data.classes, ensure_ascii=False),
        "netreduce": netreduce.__version__,
    }


if __name__ == "__main__":
    run_script(main)
