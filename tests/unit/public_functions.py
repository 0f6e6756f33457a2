"""Call every public function of an installed netreduce, with nothing but what it declares.

`python public_functions.py FOLDER` writes its files into the folder and prints what it called.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

import netreduce as nr
from netreduce.cli.app import main as commands

# What takes a live model of another framework, or trains in one, and so needs its extra.
OTHERS = {"from_torch", "from_keras", "retrain"}
FILES = {".h5": None, ".keras": None, ".txt": "mlp"}  # and whether they need an architecture
COMMANDS = (
    "show net.onnx",
    "evaluate net.h5 --data data.npz",
    "quantize net.h5 --data data.npz --bits 4 -o small.h5",
    "reduce net.h5 --data data.npz --chain nnrelief=0.95/gpfq=4/lump -o small.onnx",
    "certify net.h5 small.h5 --around data.npz --radius 0.01 --images 2",
    "convert small.h5 small.txt",
)


def main(folder: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((200, 6), dtype=np.float32)
    network = nr.Network(
        [
            nr.Dense(rng.normal(size=(6, 8)).astype("float32"), activation="relu"),
            nr.BatchNormalization(*np.ones((4, 8), "float32")),
            nr.Dense(rng.normal(size=(8, 3)).astype("float32")),
        ],
        (6,),
    )
    labels = network.predict(x).argmax(axis=1)
    mlp = nr.fold_batch_norm(network)
    quantized = nr.quantize(mlp, x, bits=4)
    hidden = [len(layer.bias) for layer in mlp.layers][:1]
    architecture = {"name": "mlp", "hidden": hidden}

    def written() -> None:
        for suffix, form in FILES.items():
            nr.save(mlp, folder / f"net{suffix}")
            read = nr.load(folder / f"net{suffix}", architecture if form else None)
            np.testing.assert_array_equal(read.predict(x), mlp.predict(x))

    def exported() -> None:
        nr.export(quantized, folder / "net.onnx")
        read = nr.load(folder / "net.onnx")
        np.testing.assert_allclose(read.predict(x), quantized.predict(x), rtol=1e-5, atol=1e-5)

    dictionary = {
        "k": 3,
        "S": [[1], [2, 3], [4]],
        "W": {1: {(1, 2): 1.0, (1, 3): 2.0}, 2: {(2, 4): 3.0, (3, 4): 4.0}},
        "b": {1: {2: 0.5, 3: 1.0}, 2: {4: 0.0}},
        "A": {1: {2: "ReLU", 3: "ReLU"}, 2: {4: "Linear"}},
    }
    calls = {
        "load": written,
        "save": written,
        "export": exported,
        "quantize": lambda: nr.quantize(mlp, x, "gptq", bits=2),
        "quantize_many": lambda: list(nr.quantize_many(mlp, x, [{"bits": 2}, {"bits": 4}])),
        "quantize_activations": lambda: nr.quantize_activations(mlp, x),
        "lump": lambda: nr.lump(quantized, tolerance=0.1, input_range=(0, 1)).bound,
        "lump_neural_network": lambda: nr.lump_neural_network(dictionary),
        "prune": lambda: [
            nr.prune(mlp, x, method, fraction=0.5)
            for method in ("nnrelief", "magnitude", "structured")
        ],
        "select": lambda: nr.select(mlp, x, fraction=0.5),
        "fold_neurons": lambda: nr.fold_neurons(mlp, x, 0.5),
        "lossless": lambda: nr.lossless(mlp, (-1, 1)).record(),
        "certify": lambda: nr.certify(mlp, quantized, around=x[:2], radius=0.01).holds(100.0),
        "fold_batch_norm": lambda: nr.fold_batch_norm(network),
        "equalize": lambda: nr.equalize(mlp),
        "magr": lambda: nr.magr(mlp, x),
        "repair": lambda: nr.repair(nr.quantize(mlp, x, "msq", bits=2), mlp, x),
        "allocate_bits": lambda: nr.allocate_bits(mlp, x, 2000),
        "cost": lambda: nr.cost(quantized).dense_bytes,
        "evaluate": lambda: nr.evaluate(quantized, x, labels, reference=mlp).accuracy,
    }
    functions = {name for name in nr.__all__ if not isinstance(getattr(nr, name), type)}
    assert functions == calls.keys() | OTHERS, functions ^ (calls.keys() | OTHERS)
    for call in calls.values():
        call()
    refused("torch", lambda: nr.save(mlp, folder / "net.pth"))
    refused("keras", lambda: nr.export(mlp, folder / "net.tflite"))
    np.savez(folder / "data.npz", x=x, y=np.arange(len(x)) % 3)
    for command in COMMANDS:
        words = [
            str(folder / word) if word.startswith(("net.", "data.", "small.")) else word
            for word in command.split()
        ]
        commands([*words, "--json"])
    report = folder / "report"
    try:
        commands(["compare", f"{folder}/net.h5", "--data", f"{folder}/data.npz", "-o", str(report)])
    except SystemExit as ended:
        assert ended.code == 1 and not report.exists()
    else:
        raise AssertionError("a figure without matplotlib")
    print(*sorted(calls))


def refused(module: str, call: Callable[[], object]) -> None:
    """What needs an extra says which module is missing."""
    try:
        call()
    except ModuleNotFoundError as error:
        assert str(error.name).partition(".")[0] == module, error
    else:
        raise AssertionError(f"{module} was not needed")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
