"""Cross-layer equalization: the same function, like weights, less error after rounding."""

import doctest
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netreduce.folding import equalize
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    MaxPooling2D,
    ZeroPadding2D,
)
from netreduce.quantization import quantize


@st.composite
def networks(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))

    def uneven(*shape):
        """A kernel with output channels of very different size."""
        return rng.normal(size=shape) * np.exp(3 * rng.normal(size=shape[-1]))

    activation = draw(st.sampled_from(["relu", "linear", "leaky_relu", "tanh"]))
    groups = draw(st.sampled_from([1, 2]))
    layers = [
        Conv2D(uneven(3, 3, 2, 4), rng.normal(size=4), activation, padding="same"),
        draw(st.sampled_from([MaxPooling2D(), AveragePooling2D(), ZeroPadding2D((1, 1, 1, 1))])),
        DepthwiseConv2D(uneven(2, 2, 4, 2), rng.normal(size=8)),
        Activation("relu"),
        Conv2D(uneven(2, 2, 8 // groups, 4), rng.normal(size=4), "relu", groups=groups),
        Conv2DTranspose(uneven(2, 2, 3, 4).transpose(0, 1, 2, 3), rng.normal(size=3), "relu"),
        Flatten(),
    ]
    size = int(np.prod(Network(layers, (8, 8, 2)).shapes[-1]))
    layers += [Dense(uneven(size, 5), rng.normal(size=5), "relu"), Dense(uneven(5, 2))]
    return Network(layers, (8, 8, 2)), rng.normal(size=(5, 8, 8, 2))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_the_function_stays(case):
    network, samples = case
    expected = network.predict(samples)
    np.testing.assert_allclose(
        equalize(network).predict(samples), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max()
    )


def test_channels_are_of_like_size_in_both_layers():
    rng = np.random.default_rng(0)
    sizes = np.exp(3 * rng.normal(size=6))
    network = Network(
        [
            Dense(rng.normal(size=(4, 6)) * sizes, rng.normal(size=6), "relu"),
            Dense(rng.normal(size=(6, 7)), rng.normal(size=7), "relu"),
            Dense(rng.normal(size=(7, 2))),
        ],
        (4,),
    )
    first, second, last = (np.abs(layer.kernel) for layer in equalize(network).layers)
    np.testing.assert_allclose(first.max(axis=0), second.max(axis=1), rtol=3e-3)
    np.testing.assert_allclose(second.max(axis=0), last.max(axis=1), rtol=3e-3)


def test_one_alphabet_for_a_layer_then_fits_all_its_channels():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(20, 30)) * np.exp(2 * rng.normal(size=30))
    network = Network([Dense(kernel, activation="relu"), Dense(rng.normal(size=(30, 5)))], (20,))
    samples = rng.normal(size=(100, 20))
    expected = network.predict(samples)

    def error(network):
        rounded = quantize(network, None, "msq", 4, radius="max", per_channel=False)
        return np.linalg.norm(rounded.predict(samples) - expected)

    assert error(equalize(network)) < 0.6 * error(network)


@pytest.mark.parametrize("case", ["read by an addition", "not homogeneous", "quantized"])
def test_what_cannot_be_scaled_stays(case):
    rng = np.random.default_rng(0)
    layers = [Dense(rng.normal(size=(3, 3)), activation="relu"), Dense(rng.normal(size=(3, 3)))]
    network = Network(layers, (3,))
    if case == "read by an addition":
        network = Network([*layers, Add()], (3,), [(-1,), (0,), (0, 1)])
    elif case == "not homogeneous":
        network = network.replace({0: layers[0].replace(activation="sigmoid")})
    else:
        network = quantize(network, None, "msq", 4, layers=[1])
    for layer, before in zip(equalize(network).layers, network.layers, strict=True):
        assert layer is before


def test_silent_channels_stay():
    network = Network([Dense([[1.0, 0.0]], activation="relu"), Dense([[4.0], [3.0]])], (1,))
    first, second = equalize(network).layers
    np.testing.assert_allclose(first.kernel, [[2, 0]])
    np.testing.assert_allclose(second.kernel, [[2], [3]])


def test_examples():
    for name in ("folding.equalization", "repair.repair", "quantization.allocation"):
        found = doctest.testmod(importlib.import_module(f"netreduce.{name}"))
        assert found.attempted and not found.failed
