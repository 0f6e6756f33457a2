"""Random networks with planted multiples, for the tests of lumping."""

from itertools import pairwise

import numpy as np

from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)

KINDS = ("mlp", "before", "after", "pooled", "depthwise", "branches")
LEAKY = Activation("leaky_relu", 0.1)


class Builder:
    """Makes layers and plants multiples into them; `planted` lists (layer, neuron, into)."""

    def __init__(self, seed, dtype, padding):
        self.rng = np.random.default_rng(seed)
        self.dtype, self.padding = dtype, padding
        self.planted = set()

    def array(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def dense(self, inputs, outputs, activation="relu"):
        return Dense(self.array(inputs, outputs), self.array(outputs), activation)

    def conv(self, inputs, outputs, activation="relu", padding="valid", size=3):
        return Conv2D(
            self.array(size, size, inputs, outputs),
            self.array(outputs),
            activation,
            padding=padding,
        )

    def norm(self, channels):
        gamma = (self.rng.uniform(0.5, 2, channels) * self.rng.choice([-1, 1], channels)).astype(
            self.dtype
        )
        return BatchNormalization(
            gamma,
            self.array(channels),
            self.array(channels),
            self.rng.uniform(0.5, 2, channels).astype(self.dtype),
        )

    def ratio(self):
        return float(self.rng.choice([1, 2, 0.5, self.rng.uniform(0.05, 20)]))

    def pair(self, layer, channels):
        """Two channels, the second to become a multiple of the first."""
        into, neuron = np.sort(self.rng.choice(channels, 2, replace=False))
        self.planted.add((layer, int(neuron), int(into)))
        return into, neuron, self.ratio()

    def with_multiple(self, layer, into, neuron, ratio):
        kernel, bias = layer.kernel.copy(), layer.bias.copy()
        kernel[..., neuron], bias[neuron] = (
            ratio * kernel[..., into].astype(float),
            ratio * float(bias[into]),
        )
        return layer.replace(kernel=kernel, bias=bias)

    def with_multiple_behind_norm(self, layer, norm, into, neuron, ratio):
        """The same for a linear layer with a batch normalization of its own for each channel."""
        slope, shift = norm.affine()
        scaled = self.with_multiple(layer, into, neuron, ratio * slope[into] / slope[neuron])
        kernel, bias = scaled.kernel, layer.bias.copy()
        beta = norm.beta.copy()
        beta[neuron] = ratio * (slope[into] * bias[into] + shift[into]) - slope[neuron] * (
            float(bias[neuron]) - norm.mean[neuron]
        )
        return layer.replace(kernel=kernel, bias=bias), norm.replace(beta=beta)

    def norm_for(self, norm, into, neuron, ratio):
        """A batch normalization behind the activation that keeps multiples proportional, shift
        included.
        """
        slope, shift = norm.affine()
        gamma, beta = norm.gamma.copy(), norm.beta.copy()
        gamma[neuron] = np.abs(gamma[neuron]) * np.sign(gamma[into])
        slope[neuron] = np.abs(slope[neuron]) * np.sign(slope[into])
        beta[neuron] = (
            ratio * slope[neuron] / slope[into] * shift[into] + slope[neuron] * norm.mean[neuron]
        )
        return norm.replace(gamma=gamma, beta=beta)

    def with_later_multiple(self, layer, into, neuron, ratio, one, other, factor):
        """Neuron `other` sees factor times what `one` sees, once the layer before has merged
        `neuron` into `into`: weight by weight they differ.
        """
        layer = self.with_multiple(layer, one, other, factor)
        kernel = layer.kernel.copy()
        kernel[neuron, other] = self.rng.standard_normal()
        kernel[into, other] = factor * (
            float(kernel[into, one]) + ratio * float(kernel[neuron, one])
        ) - ratio * float(kernel[neuron, other])
        return layer.replace(kernel=kernel)

    def network(self, kind):
        return getattr(self, f"_{kind}")()

    def _mlp(self):
        a, b, c, d = (
            self.dense(5, 7),
            self.dense(7, 6, "leaky_relu"),
            self.dense(6, 5, "tanh"),
            self.dense(5, 3, "linear"),
        )
        into, neuron, ratio = self.pair("dense_1", 7)
        a = self.with_multiple(a, into, neuron, ratio)
        one, other, factor = self.pair("dense_2", 6)
        b = self.with_later_multiple(b, into, neuron, ratio, one, other, factor)
        into, neuron, _ = self.pair("dense_3", 5)  # tanh: identical neurons only
        c = self.with_later_multiple(c, one, other, factor, into, neuron, 1)
        return Network([a, Dropout(0.5), b, c, d], (5,))

    def _before(self):
        first, norm, second, last = (
            self.conv(2, 5, "linear", self.padding),
            self.norm(5),
            self.conv(5, 4, "relu", self.padding),
            self.dense(64, 3),
        )
        first, norm = self.with_multiple_behind_norm(first, norm, *self.pair("conv2d_1", 5))
        second = self.with_multiple(second, *self.pair("conv2d_2", 4))
        size = (8, 8, 2) if self.padding == "same" else (12, 12, 2)
        pool = MaxPooling2D(2, padding=self.padding)
        return Network(
            [
                first,
                norm,
                LEAKY,
                pool,
                second,
                *([] if self.padding == "valid" else [Dropout(0.1)]),
                *self.end(last, size),
            ],
            size,
        )

    def end(self, last, size):
        rows = size[0] // 2 if self.padding == "same" else (size[0] - 2) // 2 - 2
        return [Flatten(), self.dense(rows * rows * 4, 3, "linear")]

    def _after(self):
        first, norm, second, other = (
            self.conv(2, 5, "relu", self.padding),
            self.norm(5),
            self.conv(5, 4, "leaky_relu", self.padding),
            self.norm(4),
        )
        into, neuron, ratio = self.pair("conv2d_1", 5)
        first = self.with_multiple(first, into, neuron, ratio)
        if self.padding == "same":
            norm = self.norm_for(norm, into, neuron, ratio)
        second = self.with_multiple(second, *self.pair("conv2d_2", 4))
        rows = 6 if self.padding == "same" else 2
        dense, third = self.dense(rows * rows * 4, 6), self.norm(6)
        dense = self.with_multiple(dense, *self.pair("dense_1", 6))
        return Network(
            [first, norm, second, other, Flatten(), dense, third, self.dense(6, 3, "linear")],
            (6, 6, 2),
        )

    def _pooled(self):
        """Batch normalization, then pooling, then batch normalization of every position of every
        channel.
        """
        first, norm = self.conv(2, 5, "relu", self.padding), self.norm(5)
        into, neuron, ratio = self.pair("conv2d_1", 5)
        first, norm = (
            self.with_multiple(first, into, neuron, ratio),
            self.norm_for(norm, into, neuron, ratio),
        )
        pool = MaxPooling2D(2) if self.rng.random() < 0.5 else AveragePooling2D(2, padding="same")
        features = (3 if self.padding == "same" else 2) ** 2 * 5
        return Network(
            [first, norm, pool, Flatten(), self.norm(features), self.dense(features, 3, "linear")],
            (6, 6, 2),
        )

    def _depthwise(self):
        first = self.conv(2, 5)
        depthwise = DepthwiseConv2D(
            self.array(2, 2, 5, 2), self.array(10), "relu", padding=self.padding
        )
        into, neuron, ratio = self.pair("conv2d_1", 5)
        first = self.with_multiple(first, into, neuron, ratio)
        kernel, bias = depthwise.kernel.copy(), depthwise.bias.copy().reshape(5, 2)
        for k in range(2):
            factor = self.ratio()
            kernel[:, :, neuron, k], bias[neuron, k] = (
                factor / ratio * kernel[:, :, into, k].astype(float),
                factor * float(bias[into, k]),
            )
        depthwise = depthwise.replace(kernel=kernel, bias=bias.ravel())
        pointwise = self.conv(10, 4, size=1)
        pointwise = self.with_multiple(pointwise, *self.pair("conv2d_2", 4))
        return Network(
            [
                first,
                depthwise,
                self.norm(10),
                pointwise,
                GlobalAveragePooling2D(),
                self.dense(4, 3, "linear"),
            ],
            (6, 6, 2),
        )

    def _branches(self):
        """Two layers read the first one, one of them behind a batch normalization; multiples in
        both, by the same ratio, are multiples in their sum.
        """
        first, norm, left, right = (
            self.conv(2, 5),
            self.norm(5),
            self.conv(5, 4, "relu"),
            self.conv(5, 4, "linear"),
        )
        first = self.with_multiple(first, *self.pair("conv2d_1", 5))
        left, right = (self.with_multiple(layer, 0, 1, 2) for layer in (left, right))
        self.planted |= {("conv2d_2", 1, 0), ("conv2d_3", 1, 0)}
        last = self.conv(4, 3, "linear", "same")
        return Network(
            [first, norm, left, right, Add(), last],
            (6, 6, 2),
            [(-1,), (0,), (1,), (0,), (2, 3), (4,)],
        )


def mlp(*widths, seed=0, dtype=np.float32, activation="relu"):
    """A random network of dense layers."""
    rng = np.random.default_rng(seed)
    layers = [
        Dense(
            (rng.standard_normal((n, m)) / np.sqrt(n)).astype(dtype),
            (0.3 * rng.standard_normal(m)).astype(dtype),
            activation,
        )
        for n, m in pairwise(widths)
    ]
    return Network([*layers[:-1], layers[-1].replace(activation="linear")], widths[:1])


def from_dictionary(N):
    """The network of dense layers that dictionaries stand for."""
    layers = []
    for i in range(1, N["k"]):
        before, here = sorted(N["S"][i - 1]), sorted(N["S"][i])
        kernel = np.array([[N["W"][i][r, s] for s in here] for r in before], np.float64)
        layers.append(Dense(kernel, np.array([N["b"][i][s] for s in here], np.float64), "relu"))
    return Network(layers, (len(N["S"][0]),))
