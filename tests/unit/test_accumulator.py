"""Weights whose sums fit an accumulator (AXE)."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_networks import KINDS, samples

import netreduce as nr
from netreduce import IntegerNetwork, Network, quantize, quantize_activations
from netreduce.errors import ParameterError
from netreduce.network.layers import ActivationGrid, Conv2D, Dense, Flatten
from netreduce.quantization import layer
from netreduce.quantization.accumulator import Budget

AXE = {"zero": True, "conv": "joint"}
WITH_WEIGHTS = ("dense relu", "conv relu, padded, strided", "conv in groups", "depthwise relu")


def widths(network):
    return [width.worst for width in IntegerNetwork(network).accumulators().values()]


@cache
def rounded(kind, symmetric=False):
    network = KINDS[kind]
    x = samples(network, 20)
    return quantize_activations(network, x, symmetric=symmetric), x


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(WITH_WEIGHTS),
    st.sampled_from(["gpfq", "gptq", "qronos"]),
    st.sampled_from(["max", "output"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([1.58, 2, 4, 8]),
    st.integers(10, 22),
)
def test_no_sum_needs_more_bits_than_asked(
    kind, method, radius, symmetric, per_channel, bits, accumulator_bits
):
    network, x = rounded(kind, symmetric=symmetric)
    chosen = {"method": method, "bits": bits, "radius": radius, "per_channel": per_channel}
    try:
        found = quantize(network, x, **chosen, **AXE, accumulator_bits=accumulator_bits)
    except ParameterError as error:
        assert "too narrow for any weights" in str(error)
        return
    assert max(widths(found)) <= accumulator_bits


@pytest.mark.parametrize("method", ["gpfq", "gptq", "qronos"])
def test_an_accumulator_wide_enough_changes_nothing(method):
    network, x = rounded("conv relu, padded, strided")
    free = quantize(network, x, method=method, **AXE)
    wide = quantize(network, x, method=method, **AXE, accumulator_bits=max(widths(free)))
    for one, other in zip(free.layers, wide.layers, strict=True):
        if isinstance(one, Conv2D):
            np.testing.assert_array_equal(one.kernel, other.kernel)


def test_weights_drawn_towards_zero_are_better_than_those_cut_off(monkeypatch):
    random = np.random.default_rng(0)
    shapes = ((300, 30), (30, 5))
    first, second = (Dense(random.normal(size=s) / 8, activation="relu") for s in shapes)
    network = Network([first, second.replace(activation="linear")], (300,))
    x = random.random((400, 300)).astype(np.float32)
    y = network.predict(x)
    grids = quantize_activations(network, x)

    def error():
        options = {**AXE, "radius": "output", "per_channel": True}
        found = quantize(grids, x, bits=4, accumulator_bits=15, **options)
        assert max(widths(found)) <= 15
        return np.linalg.norm(IntegerNetwork(found).predict(x) - y) / np.linalg.norm(y)

    best = error()
    monkeypatch.setattr(layer, "LIMITED_FRACTIONS", layer.OUTPUT_FRACTIONS)
    narrow = error()
    assert best < 0.9 * narrow  # on wider alphabets the weights are smaller integers
    monkeypatch.setattr(Budget, "shrinkage", lambda self, weights, scale: 0 * scale)
    assert narrow < 0.9 * error()


def test_the_shrinkage_is_the_projection_onto_the_l1_ball():
    weights = np.random.default_rng(1).normal(size=(2, 30, 7))
    most = np.full((2, 7), 40.0)
    budget = Budget(0.0, 8.0, most, most)
    shrinkage = budget.shrinkage(weights, np.full((2, 7), 0.25))[:, None]
    left = np.maximum(np.abs(weights) - shrinkage, 0).sum(axis=1)
    radius = 80 / 8 * 0.5
    sizes = np.abs(weights).sum(axis=1)
    np.testing.assert_allclose(left, np.minimum(sizes, radius))
    assert (sizes > radius).any() and (shrinkage[:, 0][sizes <= radius] == 0).all()


GRID = ActivationGrid(0.1, -128)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"accumulator_bits": 1}, "accumulator_bits must be a whole number from 2 to 32, found 1"),
        ({"accumulator_bits": 16.5}, "accumulator_bits must be a whole number"),
        ({"accumulator_bits": True}, "accumulator_bits must be a whole number"),
        ({"zero": False}, "accumulator_bits needs zero=True"),
        ({"quantize_bias": True}, "accumulator_bits needs quantize_bias=False"),
        ({"method": "msq"}, "not for method 'msq'; methods that keep to it: gpfq, gptq, qronos"),
        (
            {"accumulator_bits": 8},
            "dense_1: accumulators of 8 bits are too narrow for any weights of 2 of its 2 neurons",
        ),
        (
            {"accumulator_bits": 8, "radius": "output", "per_channel": True},
            "dense_1: accumulators of 8 bits are too narrow for any weights of 2 of its 2 neurons",
        ),
    ],
)
def test_bad_input(options, message):
    network = Network([GRID, Dense(np.ones((3, 2)))], (3,))
    with pytest.raises(ParameterError) as caught:
        quantize(network, np.ones((4, 3)), **{"zero": True, "accumulator_bits": 16, **options})
    assert message in str(caught.value)


def test_sums_of_floats_have_no_width():
    network = Network([Dense(np.ones((3, 2))), Dense(np.ones((2, 2)))], (3,))
    with pytest.raises(ParameterError, match="dense_1: what it reads is not on a grid"):
        quantize(network, np.ones((4, 3)), zero=True, accumulator_bits=16)


def test_channels_by_themselves_do_not_know_the_others():
    layers = [GRID, Conv2D(np.ones((2, 2, 3, 4))), Flatten()]
    with pytest.raises(ParameterError, match=r'conv2d_1: .* use conv="joint"'):
        quantize(
            Network(layers, (4, 4, 3)),
            np.ones((2, 4, 4, 3)),
            conv="channel",
            zero=True,
            accumulator_bits=16,
        )


def test_a_bias_alone_can_be_too_much():
    dense = Dense(np.ones((3, 1)), [1e4])
    network = nr.Network([GRID, dense], (3,))
    with pytest.raises(ParameterError, match="too narrow for any weights of 1 of its 1 neurons"):
        quantize(network, np.ones((4, 3)), zero=True, accumulator_bits=16)
