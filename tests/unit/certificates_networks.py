"""Random pairs of small networks of every kind, for the tests of certificates."""

from itertools import pairwise

import numpy as np

from netreduce import (
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
    Network,
)
from netreduce.network.activations import ACTIVATIONS
from netreduce.network.layers import (
    Conv2DTranspose,
    Cropping2D,
    GlobalMaxPooling2D,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

ELEMENTWISE = [name for name, function in ACTIVATIONS.items() if function.elementwise]


class Maker:
    """Random layers."""

    def __init__(self, seed, dtype=np.float32):
        self.random, self.dtype = np.random.default_rng(seed), dtype

    def array(self, *shape, scale=1.0):
        return (scale * self.random.standard_normal(shape)).astype(self.dtype)

    def dense(self, inputs, outputs, activation="linear"):
        kernel = self.array(inputs, outputs, scale=1.5 / np.sqrt(inputs))
        return Dense(kernel, self.array(outputs, scale=0.3), activation)

    def conv(self, inputs, outputs, activation="linear", size=3, **options):
        groups = options.get("groups", 1)
        scale = 1.5 / np.sqrt(size * size * inputs / groups)
        kernel = self.array(size, size, inputs // groups, outputs, scale=scale)
        return Conv2D(kernel, self.array(outputs, scale=0.3), activation, **options)

    def depthwise(self, inputs, multiplier=1, activation="linear", **options):
        kernel = self.array(3, 3, inputs, multiplier, scale=0.5)
        return DepthwiseConv2D(kernel, self.array(inputs * multiplier), activation, **options)

    def norm(self, channels):
        return BatchNormalization(
            self.array(channels),
            self.array(channels, scale=0.3),
            self.array(channels, scale=0.3),
            self.random.uniform(0.3, 2, channels).astype(self.dtype),
        )

    def activation(self):
        return str(self.random.choice(["relu", "relu", "leaky_relu", "tanh", "sigmoid"]))


def mlp(make, activations=None):
    widths = [int(make.random.integers(1, 6)), *make.random.integers(2, 9, 3)]
    layers = []
    for inputs, outputs in pairwise(widths):
        activation = (
            make.activation() if activations is None else str(make.random.choice(activations))
        )
        layers.append(make.dense(inputs, outputs, activation))
    return Network([*layers, make.dense(widths[-1], 3)], (widths[0],))


def normalized(make):
    return Network(
        [
            make.dense(4, 6),
            make.norm(6),
            Activation("relu"),
            Dropout(0.5),
            make.norm(6),
            make.dense(6, 5),
            Activation("leaky_relu", 0.1),
            make.norm(5),
            make.dense(5, 3),
        ],
        (4,),
    )


def chain(make):
    return Network(
        [
            make.conv(2, 4, "relu", padding="same"),
            make.norm(4),
            MaxPooling2D(2),
            make.conv(4, 3, strides=2, padding="same"),
            Activation("relu"),
            make.depthwise(3, 2, "tanh", padding="same"),
            AveragePooling2D(2, padding="same"),
            Flatten(),
            make.dense(6, 3),
        ],
        (8, 7, 2),
    )


def windows(make):
    return Network(
        [
            ZeroPadding2D((1, 0, 2, 0)),
            make.conv(2, 4, "relu", padding=(1, 0, 0, 1), dilation=(2, 1)),
            MaxPooling2D(3, 2, padding=(1, 1, 1, 1)),
            make.conv(4, 4, "relu", groups=2, padding="same"),
            AveragePooling2D(3, 1, padding=(1, 1, 1, 1), count_padding=True),
            Cropping2D((0, 1, 1, 0)),
            GlobalMaxPooling2D(),
            make.dense(4, 2),
        ],
        (7, 6, 2),
    )


def residual(make):
    return Network(
        [
            make.conv(2, 4, padding="same"),
            make.norm(4),
            Activation("relu"),
            make.conv(4, 4, padding="same"),
            make.norm(4),
            Add(),
            Activation("relu"),
            make.conv(4, 3, "relu", size=1),
            Concatenate(),
            make.conv(7, 4, "relu", padding="valid", strides=2),
            GlobalAveragePooling2D(),
            make.dense(4, 3),
        ],
        (7, 7, 2),
        [(-1,), (0,), (1,), (2,), (3,), (4, 2), (5,), (6,), (7, 5), (8,), (9,), (10,)],
    )


def shapes(make):
    return Network(
        [
            Rescaling(np.float32(0.5), make.array(2)),
            Reshape((2, 2, 3)),
            Permute((2, 3, 1)),
            Normalization(make.array(3, 1), np.abs(make.array(2))),
            UpSampling2D((2, 1), "bilinear"),
            make.conv(2, 3, padding="same"),
            PReLU(np.abs(make.array(3, scale=0.4))),
            UpSampling2D((1, 2)),
            Conv2DTranspose(make.array(3, 3, 2, 3, scale=0.3), strides=2, padding="same"),
            PReLU(make.array(8, 12, 2)),
            Flatten(),
            make.dense(8 * 12 * 2, 4, "relu"),
            make.dense(8 * 12 * 2, 4, "tanh"),
            Subtract(),
            Activation("relu"),
            make.dense(4, 2),
        ],
        (6, 2),
        [(i,) for i in range(-1, 11)] + [(10,), (11, 12), (13,), (14,)],
    )


def deep(make):
    """A chain with activations of slopes in [0, 1] only, of which errors are known otherwise."""
    layers, widths = [make.norm(4)], [4, *make.random.integers(2, 8, 5)]
    for inputs, outputs in pairwise(map(int, widths)):
        layers.append(make.dense(inputs, outputs, make.activation()))
        layers += [make.norm(outputs)] * int(make.random.integers(2))
    return Network([*layers, make.dense(int(widths[-1]), 3)], (4,))


KINDS = {f.__name__: f for f in (mlp, normalized, deep, chain, windows, residual, shapes)}


def disturbed(network, random, size):
    """The network with its weights moved a little, some set to zero, some rounded."""
    layers = {}
    for index, layer in enumerate(network.layers):
        if getattr(layer, "kernel", None) is None:
            continue
        kernel = layer.kernel.copy()
        match random.integers(3):
            case 0:
                kernel += (size * random.standard_normal(kernel.shape)).astype(kernel.dtype)
            case 1:
                kernel[random.random(kernel.shape) < size] = 0
            case 2:
                kernel = (np.round(kernel / size) * size).astype(kernel.dtype)
        layers[index] = layer.replace(kernel=kernel)
    return network.replace(layers)


def pair(kind, seed, dtype=np.float32):
    make = Maker(seed, dtype)
    original = KINDS[kind](make)
    size = float(10 ** make.random.uniform(-6, -0.5))
    return original, disturbed(original, make.random, size), make.random
