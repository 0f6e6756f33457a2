"""The published GPFQ program's own outputs, weight for weight, however the samples arrive."""

from pathlib import Path

import numpy as np
import pytest

from netreduce.network import Network
from netreduce.network.layers import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
)
from netreduce.quantization import dead_weights, quantize

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
arrivals = pytest.mark.parametrize(
    "size", [1, 100, None], ids=["one by one", "batches of 100", "all at once"]
)


def arriving(samples, size):
    return (
        samples if size is None else [samples[i : i + size] for i in range(0, len(samples), size)]
    )


def assert_equal(network, golden, names):
    for index, name in names.items():
        layer = network.layers[index]
        np.testing.assert_allclose(layer.kernel, golden[name], rtol=0, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(
            layer.kernel, (layer.quantization.scale * layer.codes).astype(np.float32)
        )


@arrivals
def test_mlp(size):
    golden = np.load(GOLDEN / "gpfq_mlp_4bit.npz")
    network = Network(
        [
            Dense(golden[f"weight_{i}"], golden[f"bias_{i}"], "relu" if i < 2 else "linear")
            for i in range(3)
        ],
        (784,),
    )
    images = (
        np.load(GOLDEN / "mnist_first_2500.npz")["images"].reshape(2500, 784).astype(np.float32)
        / 255
    )
    quantized = quantize(network, arriving(images, size), bits=4, alphabet_scalar=4.0)
    assert_equal(quantized, golden, {i: f"quantized_{i}" for i in range(3)})
    assert [dead_weights(layer) for layer in quantized.layers] == [
        int((golden[f"quantized_{i}"] == 0).sum()) for i in range(3)
    ]


@arrivals
def test_cnn(size):
    golden = np.load(GOLDEN / "gpfq_cnn_2bit.npz")

    def arrays(layer, count):
        return [golden[f"analog_{layer}_{k}"] for k in range(count)]

    network = Network(
        [
            Conv2D(*arrays(0, 2), "relu", padding="same"),
            BatchNormalization(*arrays(1, 4)),
            MaxPooling2D(),
            Conv2D(*arrays(3, 2), "relu", strides=2),
            BatchNormalization(*arrays(4, 4)),
            Dropout(0.2),
            Conv2D(*arrays(6, 2), "relu", padding="same"),
            MaxPooling2D(),
            Flatten(),
            Dense(*arrays(9, 2), "relu"),
            BatchNormalization(*arrays(10, 4)),
            Dense(*arrays(11, 2), "softmax"),
        ],
        (32, 32, 3),
    )
    images = golden["samples_uint8"].astype(np.float32) / 255
    quantized = quantize(network, arriving(images, size), bits=2, alphabet_scalar=3.0)
    assert_equal(quantized, golden, {i: f"quantized_{i}_0" for i in (0, 3, 6, 9, 11)})
