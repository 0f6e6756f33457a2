"""GPTAQ, COMQ and Beacon against what their papers say, step by step or by trying everything."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantization_definitions import each_neuron, levels, nearest

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D, Flatten
from netreduce.quantization import quantize
from netreduce.quantization.alphabet import Alphabet
from netreduce.quantization.beacon import beacon
from netreduce.quantization.comq import best_scale, comq, refine
from netreduce.quantization.gpfq import gpfq
from netreduce.quantization.gptaq import gptaq
from netreduce.quantization.gptq import gptq
from netreduce.quantization.msq import msq


@st.composite
def problems(draw, most_inputs=9):
    """Weights (inputs × neurons), correlated inputs of both networks, a few of them dead, and the
    number of levels.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs, neurons = draw(st.integers(1, most_inputs)), draw(st.integers(1, 40))
    X = rng.standard_normal((30, inputs)) @ rng.random((inputs, inputs))
    X_quantized = X + draw(st.sampled_from([0.0, 0.1])) * rng.standard_normal(X.shape)
    X_quantized[:, rng.random(inputs) < draw(st.sampled_from([0.0, 0.3]))] = 0
    weights = rng.standard_normal((inputs, neurons))
    return weights, X, X_quantized, draw(st.sampled_from([3, 4, 8]))


def matrices(X, X_quantized):
    return (X_quantized.T @ X)[None], (X_quantized.T @ X_quantized)[None]


def alphabet_of(radius, count):
    return Alphabet(np.asarray(radius / (count - 1)), count - 1)


def error(weights, X, X_quantized, levels):
    return ((X @ weights - X_quantized @ levels) ** 2).sum(axis=0)


def gptaq_step_by_step(w, X, X_quantized, damping, alphabet):
    """Li et al. (2025), algorithm 1, one column at a time; inputs that are dead in the quantized
    network have weight 0 there.
    """
    H = X_quantized.T @ X_quantized
    live = np.diagonal(H) > 0
    damped = H + np.diag(np.where(live, damping * np.diagonal(H)[live].mean(), 1.0))
    U = np.linalg.cholesky(np.linalg.inv(damped)).T
    P = np.triu((X - X_quantized).T @ X_quantized @ U.T, 1) @ U
    z, q = w.copy(), np.zeros(len(w))
    for t in range(len(w)):
        q[t] = nearest(alphabet, z[t]) if live[t] else 0
        z[t + 1 :] += -(z[t] - q[t]) / U[t, t] * U[t, t + 1 :] + z[t] * P[t, t + 1 :]
    return q


@settings(max_examples=100, deadline=None)
@given(problems(), st.sampled_from([0.01, 0.3]))
def test_gptaq_is_its_algorithm(problem, damping):
    weights, X, X_quantized, count = problem
    live = X_quantized.any(axis=0)
    codes = gptaq(weights[None], *matrices(X, X_quantized), alphabet_of(2.0, count), damping)[0]
    assert (codes[~live] == 0).all()
    if live.any():
        plain = each_neuron(
            gptaq_step_by_step, weights, X, X_quantized, damping, levels(2.0, count)
        )
        np.testing.assert_allclose(2.0 / (count - 1) * codes, plain, atol=1e-12)


def test_gptaq_makes_up_for_silenced_inputs():
    rng = np.random.default_rng(0)
    X = np.maximum(rng.standard_normal((200, 24)) @ (np.eye(24) + rng.random((24, 24)) / 5), 0)
    X_quantized = X.copy()
    X_quantized[:, :6] = 0
    weights, alphabet = rng.standard_normal((24, 10)), alphabet_of(2.0, 4)
    G, H = matrices(X, X_quantized)
    found, blind = (
        alphabet.scale * method(weights[None], *given, alphabet)[0]
        for method, given in ((gptaq, (G, H)), (gptq, (H,)))
    )
    errors = [error(weights, X, X_quantized, one).sum() for one in (found, blind)]
    assert errors[0] < 0.6 * errors[1]


@settings(max_examples=30, deadline=None)
@given(problems())
def test_gptaq_without_quantized_inputs_is_gptq(problem):
    weights, X, _, count = problem
    G, H = matrices(X, X)
    alphabet = alphabet_of(2.0, count)
    np.testing.assert_array_equal(
        gptaq(weights[None], G, H, alphabet), gptq(weights[None], H, alphabet)
    )


@settings(max_examples=100, deadline=None)
@given(problems(), st.booleans())
def test_comq_cannot_be_bettered_by_one_code_or_the_scale(problem, own):
    weights, X, X_quantized, count = problem
    (G, H), start = matrices(X, X_quantized), alphabet_of(2.0, count)
    if own:
        start = Alphabet(np.full((1, 1, weights.shape[1]), start.scale), start.top)
    codes, alphabet = comq(weights[None], G @ weights[None], H, start, sweeps=100)
    assert alphabet.scale.shape == start.scale.shape
    codes, scale = codes[0], np.broadcast_to(alphabet.scale, (1, 1, weights.shape[1]))[0]
    live = X_quantized.any(axis=0)
    assert (codes[~live] == 0).all()
    assert np.isin(codes[live], np.arange(1 - count, count, 2)).all()
    reached = error(weights, X, X_quantized, scale * codes)
    slack = 1e-9 * (1 + reached)
    for t, code in product(np.flatnonzero(live), range(1 - count, count, 2)):
        changed = codes.copy()
        changed[t] = code
        assert (error(weights, X, X_quantized, scale * changed) >= reached - slack).all()
    inner = (codes * (G[0] @ weights)).sum(axis=0)
    fits = inner > 0 if own else np.full(len(inner), inner.sum() > 0)  # else no scale is best
    for factor in (0.99, 1.01):
        other = error(weights, X, X_quantized, factor * scale * codes)
        moved = other - reached + slack
        moved = np.where(fits, moved, 0)
        assert (moved >= 0).all() if own else moved.sum() >= 0


def test_comq_begins_with_the_walk_of_gpfq():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((50, 12)), rng.standard_normal((12, 8))
    norms = np.linalg.norm(X, axis=0)
    weights[:, 1:] = weights[:, :1] * (1 + 0.01 * rng.random((12, 7)))  # one order for all
    order = np.argsort(-np.abs(weights[:, 0]) * norms)
    weights, X = weights[order], X[:, order]
    assert (np.diff(np.abs(weights) * np.linalg.norm(X, axis=0)[:, None], axis=0) <= 0).all()
    G, H = matrices(X, X)
    alphabet = alphabet_of(2.0, 4)
    np.testing.assert_array_equal(
        comq(weights[None], G @ weights[None], H, alphabet, sweeps=1)[0],
        gpfq(weights[None], G, H, alphabet),
    )


@settings(max_examples=100, deadline=None)
@given(problems(), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_sweeps_after_a_walk_end_where_no_code_betters_the_error(problem, own, damping):
    weights, X, X_quantized, count = problem
    (G, H), start = matrices(X, X_quantized), alphabet_of(2.0, count)
    if own:
        start = Alphabet(np.full((1, 1, weights.shape[1]), start.scale), start.top)
    walked = gpfq(weights[None], G, H, start)
    codes, alphabet = refine(walked, weights[None], G @ weights[None], H, start, damping, 100)
    live = X_quantized.any(axis=0)
    assert (codes[0, ~live] == 0).all()
    assert np.isin(codes[0, live], np.arange(1 - count, count, 2)).all()
    pull = damping * (X_quantized[:, live] ** 2).sum(axis=0).mean() if live.any() else 0.0

    def penalized(levels):
        near = ((levels - weights)[live] ** 2).sum(axis=0)
        return error(weights, X, X_quantized, levels) + pull * near

    scale = np.broadcast_to(alphabet.scale, (1, 1, weights.shape[1]))[0]
    reached = penalized(scale * codes[0])
    slack = 1e-9 * (1 + reached)
    before = penalized((start.scale * walked)[0])
    assert (reached <= before + slack).all() if own else reached.sum() <= (before + slack).sum()
    for t, code in product(np.flatnonzero(live), range(1 - count, count, 2)):
        changed = codes[0].copy()
        changed[t] = code
        assert (penalized(scale * changed) >= reached - slack).all()


@settings(max_examples=100, deadline=None)
@given(problems())
def test_beacon_cannot_be_bettered_by_one_code_with_its_best_scale(problem):
    weights, X, X_quantized, count = problem
    codes, alphabet = beacon(
        weights[None], *matrices(X, X_quantized), alphabet_of(2.0, count), sweeps=100
    )
    codes, scale, live = codes[0], alphabet.scale[0], X_quantized.any(axis=0)
    assert (codes[~live] == 0).all()
    assert (scale > 0).all()
    assert np.isin(codes[live], np.arange(1 - count, count, 2)).all()
    reached = error(weights, X, X_quantized, scale * codes)
    for t, code in product(np.flatnonzero(live), range(1 - count, count, 2)):
        changed = codes.copy()
        changed[t] = code
        assert (
            least_error(weights, X, X_quantized, changed) >= reached - 1e-9 * (1 + reached)
        ).all()


def least_error(weights, X, X_quantized, codes):
    """With the best scale of every neuron."""
    target, made = X @ weights, X_quantized @ codes
    squares = (made**2).sum(axis=0)
    scale = np.maximum((target * made).sum(axis=0), 0) / np.where(squares > 0, squares, 1)
    return ((target - scale * made) ** 2).sum(axis=0)


@pytest.mark.parametrize("count", [3, 4])
def test_few_weights_are_quantized_almost_as_well_as_can_be(count):
    """Beacon against all codes that there are; walks, which never go back, are far from that."""
    rng = np.random.default_rng(1)
    X = rng.standard_normal((40, 5)) @ rng.random((5, 5))
    weights = rng.standard_normal((5, 60))
    G, H = matrices(X, X)
    every = np.array(list(product(range(1 - count, count, 2), repeat=5)), float).T
    least = np.array([least_error(w[:, None], X, X, every).min() for w in weights.T])

    def excess(codes, alphabet):
        made = np.broadcast_to(alphabet.scale, (1, 1, 60))[0] * codes[0]
        return np.mean(error(weights, X, X, made)) / np.mean(least)

    start = alphabet_of(2.0, count)
    found = excess(*beacon(weights[None], G, H, start))
    assert 1 <= found < 2
    assert found < excess(*comq(weights[None], G @ weights[None], H, start)) / 2
    assert found < excess(gpfq(weights[None], G, H, start), start) / 4


def test_rivals_beat_rounding_on_the_samples():
    rng = np.random.default_rng(1)
    X = rng.random((400, 60)) @ rng.random((60, 60))
    X_quantized = X + 0.05 * rng.standard_normal(X.shape)
    weights, alphabet = rng.standard_normal((1, 60, 16)), alphabet_of(2.5, 4)
    G, H = matrices(X, X_quantized)
    rounded = error(weights[0], X, X_quantized, alphabet.scale * msq(weights, alphabet)[0])
    for codes, chosen in (
        (gptaq(weights, G, H, alphabet), alphabet),
        comq(weights, G @ weights, H, alphabet),
        beacon(weights, G, H, alphabet),
    ):
        made = error(weights[0], X, X_quantized, (chosen.scale * codes)[0])
        assert made.sum() < 0.2 * rounded.sum()


def test_scale_stays_where_no_code_says_anything():
    none = np.zeros((1, 3, 2))
    scale = np.full((1, 1, 2), 0.7)
    np.testing.assert_array_equal(best_scale(none, none, np.eye(3)[None], scale), scale)


def of_all_kinds(kernel, rng):
    """A network with every kind of layer that is quantized, the first with that kernel; samples."""
    network = Network(
        [
            Conv2D(kernel, rng.standard_normal(6), "relu"),
            DepthwiseConv2D(rng.standard_normal((2, 2, 6, 2)), activation="relu"),
            Conv2D(rng.standard_normal((2, 2, 6, 4)), activation="relu", groups=2),
            Flatten(),
            Dense(rng.standard_normal((64, 3)), rng.standard_normal(3)),
        ],
        (8, 8, 2),
    )
    samples = rng.standard_normal((50, 8, 8, 2))
    return network, samples


@pytest.mark.parametrize("method", ["beacon", "comq"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("keep_zeros", [False, True])
def test_whole_networks(method, per_channel, keep_zeros):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 6))
    kernel[..., 1] = 0  # a silent channel
    kernel[0, 0, 0, 2] = 0
    network, samples = of_all_kinds(kernel, rng)
    quantized = quantize(
        network,
        samples,
        method,
        bits=3,
        conv="joint",
        radius="mse",
        per_channel=per_channel,
        keep_zeros=keep_zeros,
    )
    for layer in (quantized.layers[i] for i in (0, 1, 2, 4)):
        assert layer.quantization.scale.size > 1 or (method == "comq" and not per_channel)
        np.testing.assert_allclose(
            layer.kernel, (layer.quantization.scale * layer.codes).astype(layer.kernel.dtype)
        )
        assert np.abs(layer.codes).max() <= 7
    alone = method == "beacon" or per_channel or keep_zeros
    assert quantized.layers[0].kernel[..., 1].any() != alone
    assert (quantized.layers[0].kernel[0, 0, 0, 2] == 0) == keep_zeros
    rounded = quantize(network, None, "msq", bits=3, radius="mse", per_channel=per_channel)
    exact = network.predict(samples)
    assert np.linalg.norm(quantized.predict(samples) - exact) < 0.7 * np.linalg.norm(
        rounded.predict(samples) - exact
    )


@pytest.mark.parametrize("radius", ["mse", "output"])
@pytest.mark.parametrize("keep_zeros", [False, True])
def test_sweeps_in_whole_networks(radius, keep_zeros):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 6))
    kernel[0, 0, 0, 2] = 0
    network, samples = of_all_kinds(kernel, rng)
    words = {"radius": radius, "per_channel": True, "conv": "joint", "keep_zeros": keep_zeros}
    plain, swept = (
        quantize(network, samples, "gpfq", 2, sweeps=sweeps, **words) for sweeps in (0, 6)
    )
    for index in (0, 1, 2, 4):
        layer = swept.layers[index]
        np.testing.assert_allclose(
            layer.kernel, (layer.quantization.scale * layer.codes).astype(layer.kernel.dtype)
        )
        assert np.isin(layer.codes, [-3, -1, 1, 3] + [0] * keep_zeros).all()
    assert (swept.layers[0].kernel[0, 0, 0, 2] == 0) == keep_zeros
    exact = network.predict(samples)
    errors = [np.linalg.norm(found.predict(samples) - exact) for found in (plain, swept)]
    assert errors[1] < 0.95 * errors[0]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"correct_bias": "no"}, "correct_bias must be True or False, found 'no'"),
        ({"sweeps": -1}, "sweeps must be a whole number not below 0, found -1"),
        ({"sweeps": 1.5}, "sweeps must be a whole number"),
        ({"sweeps": 2, "method": "spfq"}, "sweeps is not for method 'spfq'; .*msq, gpfq"),
        ({"sweeps": 2, "power_of_two": True}, "sweeps needs power_of_two=False"),
        ({"sweeps": 2, "conv": "channel"}, "conv2d_1: sweeps chooses one scale .*joint"),
        ({"correct_bias": True, "quantize_bias": True}, "correct_bias needs quantize_bias=False"),
        ({"sweeps": 2, "accumulator_bits": 16, "zero": True}, "accumulator_bits needs sweeps=0"),
    ],
)
def test_what_sweeps_and_corrected_biases_exclude(options, message):
    network = Network([Conv2D(np.ones((2, 2, 1, 2)))], (4, 4, 1))
    with pytest.raises(ParameterError, match=message):
        quantize(network, np.ones((5, 4, 4, 1)), **{"conv": "joint", **options})


@pytest.mark.parametrize("method", ["beacon", "comq"])
def test_alphabets_that_exclude_each_other(method):
    rng = np.random.default_rng(0)
    network = Network([Conv2D(rng.standard_normal((2, 2, 1, 2)))], (4, 4, 1))
    samples = rng.standard_normal((5, 4, 4, 1))
    with pytest.raises(
        ParameterError, match=f"conv2d_1: method '{method}' chooses one scale .*joint"
    ):
        quantize(network, samples, method, conv="channel")
    with pytest.raises(ParameterError, match=f'radius="output" is not for method {method!r}'):
        quantize(network, samples, method, conv="joint", radius="output")
    with pytest.raises(ParameterError, match=f"power_of_two is not for method {method!r}"):
        quantize(network, samples, method, conv="joint", power_of_two=True)
