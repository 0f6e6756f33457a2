"""Write docs/real_networks.md: real files of other people, what they compute here against the
framework that they come from.

    python docs/real_networks.py ../shared/networks

The folder holds the files and ORIGIN.tsv. What the files of tensors mean, and the programs that
they come from, are those of the tests (tests/unit/test_shared_pytorch.py, test_io_keras_real.py).
"""

import csv
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "unit")]

from netreduce.errors import NetreduceError  # noqa: E402
from netreduce.formats import load  # noqa: E402
from netreduce.measures.cost import cost  # noqa: E402
from netreduce.network import Network  # noqa: E402

SAMPLES = 20
HEAD = """# Real networks

Files of other people, loaded and compared with the framework that they come from, under its
default options, on {samples} random inputs: the largest difference of an output, relative to the
largest output. Made by `docs/real_networks.py`; {good} of {all} agree within 10⁻⁴, and the
others are refused with the reason.

| file | from | licence | beside | layers | parameters | largest difference |
|---|---|---|---|---:|---:|---:|
{compared}

## Refused

| file | from | licence | why |
|---|---|---|---|
{refused}
"""
Reference = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    folder = Path(sys.argv[1])
    with (folder / "ORIGIN.tsv").open() as file:
        entries = sorted(csv.DictReader(file, delimiter="\t"), key=lambda entry: entry["file"])
    rows: list[str] = []
    refused: list[str] = []
    good = 0
    for entry in entries:
        path = folder / entry["file"]
        start = f"| {entry['file']} | {entry['repository']} | {entry['licence']} |"
        try:
            network, framework, difference = compared(path)
        except NetreduceError as error:
            why = str(error).removeprefix(f"{path}: ").replace("|", "\\|")
            refused.append(f"{start} {why} |")
            continue
        good += difference <= 1e-4
        rows.append(
            f"{start} {framework} | {len(network.layers)} | {cost(network).parameters:,}"
            f" | {difference:.0e} |"
        )
    page = HEAD.format(
        samples=SAMPLES,
        good=good,
        all=len(entries),
        compared="\n".join(rows),
        refused="\n".join(refused),
    )
    (ROOT / "docs" / "real_networks.md").write_text(page)


def compared(path: Path) -> tuple[Network, str, float]:
    """The network, the name of its framework, and the largest difference between the two."""
    if path.suffix == ".onnx":
        network, framework, reference = load(path), "ONNX Runtime", in_onnx_runtime(path)
    elif path.name in (files := import_module("test_shared_pytorch").FILES):
        make, architecture = files[path.name]
        network, framework = load(path, architecture), "PyTorch"
        reference = in_pytorch(path, make())
    else:
        network, framework, reference = load(path), "Keras", in_keras(path)
    x = np.random.default_rng(0).uniform(-1, 1, (SAMPLES, *network.input_shape))
    x = x.astype(np.float32)
    expected = reference(x).reshape(SAMPLES, -1)
    found = network.predict(x).reshape(SAMPLES, -1)
    return network, framework, np.abs(found - expected).max() / np.abs(expected).max()


def in_onnx_runtime(path: Path) -> Reference:
    """One sample at a time; images channels first where the file has them so."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    shape = [length if isinstance(length, int) else 1 for length in entry.shape]

    def sample(x: np.ndarray) -> np.ndarray:
        if x.ndim > 1 and x.shape != tuple(shape[-x.ndim :]):
            x = np.moveaxis(x, -1, 0)
        return session.run(None, {entry.name: x.reshape(shape)})[0].ravel()

    return lambda x: np.array([sample(one) for one in x])


def in_pytorch(path: Path, module: Any) -> Reference:
    import torch

    tensors = dict(import_module("test_shared_pytorch").tensors(path.name))
    names = [name for name in module.state_dict() if not name.endswith("num_batches_tracked")]
    found = [tensors[name] for name in tensors if not name.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(names, found, strict=True)), strict=False)
    module.eval()

    def reference(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            images = np.ascontiguousarray(np.moveaxis(x, -1, 1)) if x.ndim == 4 else x
            return module(torch.from_numpy(images)).numpy()

    return reference


def in_keras(path: Path) -> Reference:
    model = import_module("test_io_keras_real").in_keras(path)
    return lambda x: np.asarray(model(x, training=False))


if __name__ == "__main__":
    main()
