"""A row for every layer of a quantized network."""

import numpy as np
import pytest

from netreduce.errors import ParameterError
from netreduce.measures.packing import pack
from netreduce.network import Network
from netreduce.network.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    Flatten,
)
from netreduce.quantization import quantize
from netreduce.quantization.sensitivity import sensitivity


def residual():
    rng = np.random.default_rng(0)
    layers = [
        Conv2D(rng.normal(size=(3, 3, 2, 4)), activation="relu", padding="same"),
        Conv2DTranspose(rng.normal(size=(1, 1, 4, 4))),
        BatchNormalization(*rng.random((4, 4))),
        Add(),
        Flatten(),
        Dense(rng.normal(size=(64, 3)), activation="softmax"),
    ]
    return Network(layers, (4, 4, 2), [(-1,), (0,), (1,), (0, 2), (3,), (4,)])


def test_bits_reasons_errors_and_bytes():
    network = residual()
    x = np.random.default_rng(1).normal(size=(20, 4, 4, 2))
    quantized = quantize(network, x, "msq", bits=2, layers=[0])
    rows = list(sensitivity(network, quantized, x))
    assert [row["layer"] for row in rows] == [network.names[i] for i in (0, 1, 2, 5)]
    assert [row["layer_bits"] for row in rows] == [2, None, None, None]
    assert [row["skipped"] for row in rows] == [
        None,
        "Conv2DTranspose: only Dense, Conv2D and DepthwiseConv2D are quantized",
        "batch normalization: quantized where it is folded into a layer with weights",
        "not asked for",
    ]
    right, found = (one.layers[0].linear(x) for one in (network, quantized))
    error = np.sqrt(((found - right) ** 2).sum() / (right**2).sum())
    assert rows[0]["error"] == pytest.approx(error)
    assert [row["error"] for row in rows[1:]] == [0, 0, 0]
    assert [row["weights"] for row in rows] == [76, 20, 16, 195]
    alone = Network([quantized.layers[5]], (64,))
    assert rows[3]["bytes"] == len(pack(alone))
    assert rows[3]["share"] == rows[3]["bytes"] / sum(row["bytes"] for row in rows)


def test_errors_are_each_layers_own():
    network = residual()
    x = np.random.default_rng(1).normal(size=(20, 4, 4, 2))
    both = {r["layer"]: r for r in sensitivity(network, quantize(network, None, "msq", 2), x)}
    last = quantize(network, None, "msq", 2, layers=["dense_1"])
    alone = {r["layer"]: r for r in sensitivity(network, last, x)}
    assert both["dense_1"]["error"] == alone["dense_1"]["error"] > 0


def test_a_layer_that_puts_out_nothing():
    network = Network([Dense(np.zeros((2, 3))), Dense(np.ones((3, 1)))], (2,))
    moved = network.replace({0: Dense(np.ones((2, 3)))})
    x = np.ones((5, 2))
    assert [row["error"] for row in sensitivity(network, network, x)] == [0, 0]
    assert [row["error"] for row in sensitivity(network, moved, x)] == [None, 0]


def test_networks_with_other_layers():
    one, other = residual(), Network([Dense(np.ones((2, 1)))], (2,))
    with pytest.raises(ParameterError, match=r"same layers, found conv2d_1, .* and dense_1"):
        list(sensitivity(one, other, np.ones((1, 4, 4, 2))))
