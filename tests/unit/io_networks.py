"""Networks that between them have every layer, every setting and every topology that files must
carry.
"""

import itertools

import numpy as np

from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Quantization,
)


def randomized(network, seed=0):
    """The network with every array drawn anew, statistics of batch normalization included."""
    random = np.random.default_rng(seed)

    def drawn(layer):
        if isinstance(layer, BatchNormalization):
            arrays = {
                name: random.normal(size=len(layer.gamma)).astype(np.float32)
                for name in ("gamma", "beta", "mean")
            }
            return layer.replace(
                **arrays, variance=random.uniform(0.5, 2, len(layer.gamma)).astype(np.float32)
            )
        return layer.replace(bias=random.normal(size=layer.bias.shape).astype(np.float32))

    return network.replace(
        {i: drawn(layer) for i, layer in enumerate(network.layers) if layer.arrays()}
    )


def kernel(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32) / np.sqrt(
        np.prod(shape[:-1]), dtype=np.float32
    )


def norm(channels):
    one = np.ones(channels, np.float32)
    return BatchNormalization(one, one, one, one, 1e-5)


def windows():
    """Convolutions and pooling with every combination of padding and strides (or dilation), side by
    side.
    """
    layers = []
    for padding, strides in itertools.product(("valid", "same"), (1, 2, 3)):
        layers += [
            Conv2D(kernel(3, 2, 3, 4), None, "relu", strides=strides, padding=padding),
            DepthwiseConv2D(kernel(2, 3, 3, 2), None, "tanh", strides=strides, padding=padding),
            MaxPooling2D((3, 2), strides, padding),
            AveragePooling2D((2, 3), strides, padding),
        ]
    for padding, dilation in itertools.product(("valid", "same"), ((2, 2), (1, 3))):
        layers += [
            Conv2D(kernel(3, 2, 3, 2), None, "elu", padding=padding, dilation=dilation),
            DepthwiseConv2D(kernel(2, 2, 3, 1), None, "silu", padding=padding, dilation=(2, 2)),
        ]
    branches = len(layers)
    sources = [(-1,)] * branches
    layers += [Flatten() for _ in range(branches)]
    sources += [(i,) for i in range(branches)]
    layers.append(Concatenate())
    sources.append(tuple(range(branches, 2 * branches)))
    shapes = Network(layers, (9, 8, 3), sources).shapes
    layers.append(Dense(kernel(*shapes[-1], 5)))
    sources.append((2 * branches,))
    return Network(layers, (9, 8, 3), sources)


def branching():
    """Branches of equal length, a layer that is added to itself, batch normalization of flattened
    images.
    """
    layers = [
        Conv2D(kernel(3, 3, 2, 4), padding="same"),
        Conv2D(kernel(1, 1, 2, 4), activation="leaky_relu"),
        norm(4),
        norm(4),
        Add(),
        Activation("leaky_relu", 0.3),
        Add(),
        Flatten(),
        norm(36 * 4),
        Dropout(0.25),
        Activation("gelu"),
        Dense(kernel(36 * 4, 6), activation="softplus"),
        GlobalAveragePooling2D(),
        Concatenate(),
        Dense(kernel(10, 3), activation="softmax"),
    ]
    sources = [
        (-1,),
        (-1,),
        (1,),
        (0,),
        (2, 3),
        (4,),
        (5, 5),
        (6,),
        (7,),
        (8,),
        (9,),
        (10,),
        (6,),
        (12, 11),
        (13,),
    ]
    return Network(layers, (6, 6, 2), sources)


def activations():
    names = (
        "relu",
        "relu6",
        "elu",
        "softplus",
        "sigmoid",
        "tanh",
        "silu",
        "gelu",
        "leaky_relu",
        "softmax",
    )
    return Network(
        [
            layer
            for name in names
            for layer in (
                Dense(kernel(4, 4), activation=name),
                Activation(name),
                Dense(kernel(4, 4)),
            )
        ],
        (4,),
    )


def quantized(network, scale=0.0125, bits=4):
    """The network with its kernels rounded to a grid, and some biases as well."""

    def rounded(layer, per_channel):
        grid = (
            np.full(layer.kernel.shape[-1], scale) * (1 + np.arange(layer.kernel.shape[-1]))
            if per_channel
            else np.float64(scale)
        )
        codes = np.rint(layer.kernel / grid)
        bias = layer.bias if per_channel else (grid * np.rint(layer.bias / grid)).astype(np.float32)
        return layer.replace(
            kernel=(grid * codes).astype(np.float32),
            bias=bias,
            quantization=Quantization(grid, bits, not per_channel),
        )

    return network.replace(
        {
            i: rounded(layer, i % 2)
            for i, layer in enumerate(network.layers)
            if hasattr(layer, "kernel")
        }
    )


NETWORKS = {
    "mlp": lambda: build({"name": "mlp", "hidden": [20, 15], "batch_norm": True}, (5, 4, 3), 10, 0),
    "vector": lambda: build({"name": "mlp", "hidden": [8]}, (12,), 3, 0),
    "lenet5": lambda: build("lenet5", (28, 28, 1), 10, 0),
    "vgg-small": lambda: build("vgg-small", (16, 16, 3), 10, 0),
    "resnet20": lambda: build("resnet20", (8, 8, 3), 10, 0),
    "windows": windows,
    "branching": branching,
    "activations": activations,
}


def network(name):
    return randomized(NETWORKS[name]())


def samples(network, count=3):
    return np.random.default_rng(5).random((count, *network.input_shape), np.float32)


def assert_same(network, other):
    """The same layers, topology and arrays, bit for bit."""
    assert other.input_shape == network.input_shape
    assert other.sources == network.sources
    assert other.names == network.names
    for layer, found in zip(network.layers, other.layers, strict=True):
        assert type(found) is type(layer)
        for field, value in vars(layer).items():
            if field == "quantization":
                assert (value is None) == (found.quantization is None)
                if value is not None:
                    np.testing.assert_array_equal(found.quantization.scale, value.scale)
                    assert (found.quantization.bits, found.quantization.quantized_bias) == (
                        value.bits,
                        value.quantized_bias,
                    )
            elif isinstance(value, np.ndarray):
                assert getattr(found, field).dtype == value.dtype
                assert getattr(found, field).tobytes() == value.tobytes()
            else:
                assert getattr(found, field) == value
