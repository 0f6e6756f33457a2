"""Reduce a network of your own, and see what it costs: `python examples/reduce_own_network.py`.

Needs netreduce and scikit-learn, for the network and its data; about five seconds.
"""

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import netreduce as nr


def main(folder: Path) -> None:
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    train, test = slice(0, 1400), slice(1400, None)

    trained = MLPClassifier((100, 50), max_iter=300, random_state=0)
    trained.fit(images[train], digits.target[train])
    network = from_scikit_learn(trained)
    print("as trained:", judged(network, network, images[test], digits.target[test]))

    # Selection needs no more training: what stays takes over by least squares.
    selected = nr.select(network, images[train], fraction=0.6)
    print("60 % of the neurons:", judged(selected, network, images[test], digits.target[test]))

    quantized = nr.quantize(selected, images[train], bits=4)
    small = nr.lump(quantized, input_range=(0, 1)).network
    print("and four bits:", judged(small, network, images[test], digits.target[test]))

    nr.save(small, folder / "small.h5")
    nr.export(small, folder / "small.onnx")
    print(f"small.h5 for Keras and small.onnx for deployment are in {folder}")


def from_scikit_learn(trained: MLPClassifier) -> nr.Network:
    """A classifier of scikit-learn as a network of class scores."""
    activations = [trained.activation] * (len(trained.coefs_) - 1) + ["linear"]
    return nr.Network(
        [
            nr.Dense(kernel, bias, activation)
            for kernel, bias, activation in zip(
                trained.coefs_, trained.intercepts_, activations, strict=True
            )
        ],
        (trained.n_features_in_,),
    )


def judged(network: nr.Network, original: nr.Network, x: np.ndarray, y: np.ndarray) -> str:
    found, cost = nr.evaluate(network, x, y, reference=original), nr.cost(network)
    return (
        f"{found.accuracy:.1%} right, {found.agreement:.1%} as before,"
        f" {cost.parameters:,} parameters, {cost.dense_bytes:,} bytes"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
