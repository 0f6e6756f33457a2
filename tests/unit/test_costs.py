import json
import math
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from netreduce.formats.onnx.writer import to_onnx
from netreduce.measures.cost import cost, layer_costs
from netreduce.measures.packing import pack
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    MaxPooling2D,
    Quantization,
)


def network():
    kernel = np.ones((3, 3, 2, 4), np.float32)
    kernel[0, 0] = 0  # 8 zeros
    return Network(
        [
            Conv2D(kernel, padding="same"),
            BatchNormalization(*np.ones((4, 4), np.float32)),
            DepthwiseConv2D(np.ones((2, 2, 4, 1), np.float32), strides=2),
            Flatten(),
            Dense(np.ones((64, 10), np.float32), np.ones(10, np.float32)),
        ],
        (8, 8, 2),
    )


def test_counts_of_every_layer():
    conv, norm, depthwise, dense = layer_costs(network())
    assert (
        conv.name,
        conv.parameters,
        conv.nonzeros,
        conv.weights,
        conv.nonzero_weights,
        conv.neurons,
    ) == ("conv2d_1", 76, 64, 72, 64, 4)
    assert (conv.macs, conv.nonzero_macs) == (64 * 72, 64 * 64)
    assert (norm.parameters, norm.weights, norm.neurons, norm.macs) == (16, 0, 0, 8 * 8 * 4)
    assert (depthwise.parameters, depthwise.neurons, depthwise.macs) == (20, 4, 16 * 16)
    assert (dense.parameters, dense.nonzeros, dense.neurons, dense.macs) == (650, 650, 10, 640)
    assert {layer.levels for layer in (conv, dense)} == {None}


def test_a_network_costs_the_sum_of_its_layers():
    total, layers = cost(network()), layer_costs(network())
    for field in (
        "parameters",
        "nonzeros",
        "weights",
        "nonzero_weights",
        "neurons",
        "macs",
        "nonzero_macs",
    ):
        assert getattr(total, field) == sum(getattr(layer, field) for layer in layers)
    assert (total.levels, total.bits_per_weight) == (None, 32)


def test_bytes_are_those_of_the_packed_files():
    total = cost(network())
    for coding in ("float", "dense", "sparse", "entropy"):
        assert getattr(total, f"{coding}_bytes") == len(pack(network(), coding))


def test_levels_are_those_that_occur():
    grid = Quantization(0.5, 2)  # an alphabet of four levels: the codes -3, -1, 1, 3
    four = Dense(0.5 * np.array([[-3, -1, 1, 3]]), quantization=grid)
    two = Dense(0.5 * np.array([[1], [1], [-1], [1]]), quantization=grid)
    lumped = Dense(
        0.5 * np.array([[-3, -1, 0, 1, 2]]), quantization=grid
    )  # sums of codes leave the alphabet
    layers = layer_costs(Network([four, two, lumped], (1,)))
    assert [layer.levels for layer in layers] == [4, 2, 5]
    assert [layer.bits_per_weight for layer in layers] == [2, 1, math.log2(5)]
    assert cost(Network([four, two, lumped], (1,))).levels == 5


def test_bits_per_weight_is_the_mean_over_weights():
    quantized = Dense(0.5 * np.array([[-3, -1, 1, 3]]), quantization=Quantization(0.5, 2))
    analog = Dense(np.ones((4, 3), np.float32))
    assert cost(Network([quantized, analog], (1,))).bits_per_weight == pytest.approx(
        (4 * 2 + 12 * 32) / 16
    )


def test_a_network_without_weights_costs_nothing():
    total = cost(Network([MaxPooling2D()], (4, 4, 1)))
    assert (total.parameters, total.neurons, total.macs, total.bits_per_weight) == (0, 0, 0, 0)


def test_costs_go_into_json_and_do_not_change():
    assert json.dumps(asdict(cost(network()))) == json.dumps(asdict(cost(network())))


def test_memory_of_activations():
    image = (8, 8, 2)
    conv, dense = Conv2D(np.ones((3, 3, 2, 4)), padding="same"), Dense(np.ones((256, 10)))
    plain = Network([conv, Activation("relu"), Flatten(), dense], image)
    # the image beside the maps; relu and Flatten work in place
    assert cost(plain).activation_bytes == 4 * (128 + 256)
    grid = ActivationGrid(0.1)
    layers = [
        grid,
        conv,
        Activation("relu"),
        grid,
        MaxPooling2D(2),
        Flatten(),
        Dense(np.ones((64, 10))),
    ]
    assert cost(Network(layers, image)).activation_bytes == 128 + 256
    # a tensor that is read later stays: beside both outputs of the second layer's input
    again = Conv2D(np.ones((3, 3, 4, 4)), padding="same")
    residual = Network([conv, again, Add()], image, [(-1,), (0,), (0, 1)])
    assert cost(residual).activation_bytes == 4 * 3 * 256


def test_the_table_has_bytes_of_exported_files_where_there_are_such(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "workflow/scripts")
    exported = import_module("measure").exported
    analog = network()
    assert exported(analog) == {"onnx_bytes": len(to_onnx(analog).SerializeToString())}
    codes = [
        Quantization(np.float32(0.5), bits)
        for bits in (4, 4.0)  # as made, and as read from a file
    ]
    sizes = [exported(Network([Dense(np.ones((3, 2)), quantization=q)], (3,))) for q in codes]
    assert sizes[0] == sizes[1]
    on_grid = Network([ActivationGrid(0.1), Dense(np.ones((3, 2)))], (3,))
    assert exported(on_grid) == {}  # its weights are analog
