"""Quantization of pruned networks: with keep_zeros, weights that are zero stay zero."""

from itertools import product

import numpy as np
import pytest
from quantization_definitions import each_neuron, levels, nearest
from quantization_definitions import gpfq as plain_gpfq

from netreduce.network import Network
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D, Flatten
from netreduce.quantization import METHODS, quantize


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def pruned(*shape, share=0.5, seed=0):
    return (
        normal(*shape, seed=seed)
        * (np.random.default_rng([seed, *shape, 1]).random(shape) >= share)
    ).astype(np.float32)


def mlp():
    layers = [
        Dense(pruned(12, 10), normal(10), "leaky_relu"),
        Dense(pruned(10, 8), normal(8), "leaky_relu"),
        Dense(pruned(8, 4), normal(4)),
    ]
    return Network(layers, (12,))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alphabet_scalar": 2},
        {"alphabet_scalar": 2, "quantize_bias": True},
        {"radius": "mse"},
        {"alphabet_scalar": 2, "activation_order": True},
    ],
)
def test_zeros_stay_and_the_others_lie_on_the_alphabet(method, options):
    network = mlp()
    for before, after in zip(
        network.layers,
        quantize(network, normal(60, 12), method, 2, keep_zeros=True, **options).layers,
        strict=True,
    ):
        zero = before.kernel == 0
        assert not after.codes[zero].any()
        allowed = {-3, -1, 1, 3} | ({0} if method in ("gpfq-soft", "gpfq-hard") else set())
        assert set(np.unique(after.codes[~zero])) <= allowed


@pytest.mark.parametrize(
    ("method", "conv"),
    [
        *product(METHODS, ["joint"]),
        *((name, "channel") for name, method in METHODS.items() if not method.scales),
    ],
)
def test_convolutions(method, conv):
    layers = [
        Conv2D(pruned(3, 3, 2, 6), activation="relu"),
        DepthwiseConv2D(pruned(3, 3, 6, 1), activation="relu"),
        Flatten(),
    ]
    network = Network([*layers, Dense(pruned(24, 3))], (6, 6, 2))
    for before, after in zip(
        network.layers,
        quantize(network, normal(40, 6, 6, 2), method, 4, conv=conv, keep_zeros=True).layers,
        strict=True,
    ):
        if not isinstance(before, Flatten):
            assert not after.codes[before.kernel == 0].any()
            assert after.codes[before.kernel != 0].any()


def test_the_radius_is_that_of_the_weights_that_are_left():
    kernel = pruned(12, 10)
    layer = quantize(Network([Dense(kernel)], (12,)), None, "msq", 2, 3, keep_zeros=True).layers[0]
    assert layer.quantization.scale * 3 == 3 * np.median(
        np.abs(kernel[kernel != 0]).astype(np.float64)
    )


def test_gpfq_walks_on_knowing_of_the_zeros():
    kernel, X = pruned(12, 10, share=0.5), normal(50, 12)
    layer = quantize(
        Network([Dense(kernel.astype(np.float64))], (12,)), X, "gpfq", 2, 2, keep_zeros=True
    ).layers[0]
    alphabet = levels(3 * float(layer.quantization.scale), 4)

    def walk(w):
        steps = iter(w)
        return plain_gpfq(
            w, X, X, alphabet, lambda z: 0.0 if next(steps) == 0 else nearest(alphabet, z)
        )

    np.testing.assert_allclose(
        layer.kernel, each_neuron(walk, kernel.astype(np.float64)), atol=1e-12
    )


def test_data_driven_methods_beat_rounding_on_pruned_layers():
    kernel, x = (
        pruned(60, 30, share=0.7).astype(np.float64),
        np.maximum(normal(400, 20) @ normal(20, 60), 0),
    )
    network = Network([Dense(kernel)], (60,))
    errors = {
        method: np.linalg.norm(
            quantize(network, x, method, 4, 4, keep_zeros=True).predict(x) - network.predict(x)
        )
        for method in METHODS
    }
    for method in ("gpfq", "gptq", "qronos"):
        assert errors[method] < 0.9 * errors["msq"]


def test_without_zeros_it_changes_nothing():
    network = Network([Dense(normal(12, 10).astype(np.float32))], (12,))
    for method in METHODS:
        plain, kept = (
            quantize(network, normal(60, 12), method, 2, keep_zeros=keep) for keep in (False, True)
        )
        np.testing.assert_array_equal(plain.layers[0].kernel, kept.layers[0].kernel)
