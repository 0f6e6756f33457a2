"""Every kind of layer between grids of integers."""

import numpy as np

import netreduce as nr
from netreduce import Network, quantize_activations
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Permute,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)

SHAPE = (8, 7, 4)


def normal(*shape):
    random = np.random.default_rng(shape)
    return (random.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


def conv(inputs, outputs, activation="linear", **options):
    return Conv2D(normal(3, 3, inputs, outputs), 0.1 * normal(outputs), activation, **options)


def norm(channels):
    slopes = normal(channels, 1)[:, 0]
    return BatchNormalization(slopes, normal(channels), normal(channels), 1 + slopes**2)


def graph(*layers, sources):
    return Network(layers, SHAPE, sources)


def images(*layers):
    """Layers, and a convolution behind them: so that their outputs get a grid."""
    channels = Network(layers, SHAPE).shapes[-1][-1]
    return Network([*layers, conv(channels, 3, padding="same")], SHAPE)


def vectors(*layers):
    features = Network(layers, SHAPE).shapes[-1][0]
    return Network([*layers, Dense(normal(features, 5), normal(5))], SHAPE)


# every kind of layer between grids
KINDS = {
    "dense": vectors(Flatten(), Dense(normal(224, 16), 0.1 * normal(16))),
    "dense relu": vectors(Flatten(), Dense(normal(224, 16), 0.1 * normal(16), "relu")),
    "conv": images(conv(4, 6)),
    "conv relu, padded, strided": images(conv(4, 6, "relu", padding="same", strides=2)),
    "conv dilated": images(conv(4, 6, dilation=2, padding=(1, 2, 0, 1))),
    "conv in groups": images(conv(2, 6, "relu", groups=2)),
    "batch norm": images(conv(4, 6, "relu"), norm(6)),
    "batch norm, relu": images(MaxPooling2D(2), norm(4), Activation("relu")),
    "batch norm of vectors": vectors(
        Flatten(), Dense(normal(224, 16)), Activation("relu"), norm(16), Activation("tanh")
    ),
    "depthwise": images(DepthwiseConv2D(normal(3, 3, 4, 2), 0.1 * normal(8), padding="same")),
    "depthwise relu": images(DepthwiseConv2D(normal(3, 3, 4, 1), 0.1 * normal(4), "relu")),
    "relu apart": images(conv(4, 6), Activation("relu")),
    "relu6": images(conv(4, 6), Activation("relu6")),
    "relu up to 0.5": images(conv(4, 6), Activation("relu", max_value=0.5)),
    "tanh": images(conv(4, 6, "tanh")),
    "leaky relu": images(conv(4, 6), Activation("leaky_relu", 0.1)),
    "sigmoid": vectors(Flatten(), Dense(normal(224, 16)), Activation("sigmoid")),
    "max pooling": images(conv(4, 6), MaxPooling2D(2, padding=(1, 0, 1, 0))),
    "average pooling": images(conv(4, 6), AveragePooling2D(2)),
    "average pooling, padded": images(conv(4, 6), AveragePooling2D(2, padding="same")),
    "average pooling, padding counted": images(
        conv(4, 6), AveragePooling2D(3, padding=(1, 1, 1, 1), count_padding=True)
    ),
    "global average": vectors(conv(4, 6, "relu"), GlobalAveragePooling2D()),
    "global maximum": vectors(conv(4, 6), GlobalMaxPooling2D()),
    "flatten": vectors(conv(4, 6), Dropout(0.5), Flatten()),
    "moved": images(
        conv(4, 6), Cropping2D(1), UpSampling2D(2), Permute((2, 1, 3)), Reshape((8, 6, 6))
    ),
    "zero padding": images(conv(4, 6), ZeroPadding2D(1)),
    "add": graph(
        conv(4, 6, padding="same"),
        conv(6, 6, padding="same"),
        Add(),
        conv(6, 3),
        sources=[(-1,), (0,), (0, 1), (2,)],
    ),
    "add relu": graph(
        conv(4, 6, padding="same"),
        conv(6, 6, padding="same"),
        Add(),
        Activation("relu"),
        conv(6, 3),
        sources=[(-1,), (0,), (0, 1), (2,), (3,)],
    ),
    "add three, relu": graph(
        conv(4, 6, padding="same"),
        conv(6, 6, padding="same"),
        conv(6, 6, padding="same"),
        Add(),
        Activation("relu"),
        conv(6, 3),
        sources=[(-1,), (0,), (0,), (0, 1, 2), (3,), (4,)],
    ),
    "concatenate": graph(
        conv(4, 6, padding="same"),
        conv(6, 2, "relu", padding="same"),
        Concatenate(),
        conv(8, 3),
        sources=[(-1,), (0,), (0, 1), (2,)],
    ),
}


def samples(network, count=1000, seed=0):
    x = np.random.default_rng(seed).normal(size=(count, *network.input_shape))
    return x.astype(np.float32)


def on_grids(network, bits=8, symmetric=False, weight_bits=8, per_channel=True, method="msq"):
    x = samples(network, 100, seed=1)
    rounded = quantize_activations(network, x, bits, symmetric=symmetric)
    return nr.quantize(
        rounded, x, method, weight_bits, radius="max", per_channel=per_channel, zero=True
    )


def up_to(network, index):
    return Network(network.layers[: index + 1], network.input_shape, network.sources[: index + 1])
