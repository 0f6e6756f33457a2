"""Measure a network: accuracy or squared error with its confidence interval, agreement with a
reference network, and cost.
"""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from netreduce.cli.exits import run_script
from netreduce.data import Dataset, read
from netreduce.errors import NetreduceError
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.formats.onnx.writer import to_onnx
from netreduce.measures.cost import cost
from netreduce.measures.evaluation import evaluate, predict_classes
from netreduce.network import Network

TABLE = ("accuracy", "low", "high", "correct", "samples", "agreement")
WITH_LABELS = ("accuracy", "low", "high", "top5", "auc", "mean_squared_error", "r2")


def measure(network: Network, reference: Network | np.ndarray, data: Dataset) -> dict[str, Any]:
    """Quality, agreement with a reference (a network, or its `predictions`) and cost of a network
    on the test samples, with the bytes of its .onnx file, as one flat dictionary.
    """
    if isinstance(reference, Network):
        reference = predictions(reference, data)
    x = data.images("test")
    y = data.targets("test") if data.labelled else reference
    quality = asdict(evaluate(network, x, y, reference=reference))
    if not data.own:  # their tables have the columns that they always had
        quality = {key: quality[key] for key in TABLE}
    if not data.labelled:
        quality = {key: value for key, value in quality.items() if key not in WITH_LABELS}
    known = {key: value for key, value in quality.items() if value is not None}
    return {**known, **asdict(cost(network)), **exported(network)}


def exported(network: Network) -> dict[str, int]:
    """Bytes of the .onnx file of a network, where it has one."""
    try:
        return {"onnx_bytes": to_onnx(network).ByteSize()}
    except NetreduceError:
        return {}


def predictions(network: Network, data: Dataset) -> np.ndarray:
    """What a network answers on the test samples: classes, or numbers."""
    x = data.images("test")
    if data.target == "classes":
        return predict_classes(network, x)
    return network.predict(x).reshape(len(x), -1).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="network whose predictions are the reference (.h5)",
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--metrics", type=Path, required=True, help="where the measures go (.json)")
    arguments = parser.parse_args()

    write_json(
        arguments.metrics,
        measure(load(arguments.network), load(arguments.reference), read(arguments.data)),
    )


if __name__ == "__main__":
    run_script(main)
