"""The methods on one layer's matrices, against their definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantization_definitions import each_neuron, levels, nearest
from quantization_definitions import gpfq as plain_gpfq
from quantization_definitions import gptq as plain_gptq
from quantization_definitions import qronos as plain_qronos

from netreduce import Dense, Network, quantize
from netreduce.errors import ParameterError
from netreduce.quantization.alphabet import Alphabet
from netreduce.quantization.gpfq import gpfq, gpfq_hard, gpfq_soft
from netreduce.quantization.gptq import gptq
from netreduce.quantization.msq import msq
from netreduce.quantization.qronos import qronos
from netreduce.quantization.spfq import spfq
from netreduce.quantization.walk import BLOCK


@st.composite
def problems(draw, least_samples=1):
    """Weights (inputs × neurons), inputs of both networks with dead ones and duplicate samples, and
    an alphabet.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    inputs, neurons, samples = (
        draw(st.integers(1, 9)),
        draw(st.integers(1, 40)),
        draw(st.integers(least_samples, 20)),
    )
    X = rng.random((samples, inputs)) * (rng.random((samples, inputs)) < 0.7)
    X_quantized = X if draw(st.booleans()) else np.abs(X + 0.1 * rng.standard_normal(X.shape))
    dead = rng.random(inputs) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    X_quantized = np.where(dead, 0.0, X_quantized)
    if draw(st.booleans()):
        X, X_quantized = np.repeat(X, 2, axis=0), np.repeat(X_quantized, 2, axis=0)
    return (
        rng.standard_normal((inputs, neurons)),
        X,
        X_quantized,
        draw(st.sampled_from([3, 4, 8, 16])),
        draw(st.floats(0.5, 3)),
    )


def matrices(X, X_quantized):
    return (X_quantized.T @ X)[None], (X_quantized.T @ X_quantized)[None]


def alphabet_of(radius, count):
    return Alphabet(np.asarray(radius / (count - 1)), count - 1)


@settings(max_examples=150, deadline=None)
@given(problems())
def test_gpfq_is_the_walk_of_the_paper(problem):
    weights, X, X_quantized, count, radius = problem
    alphabet = alphabet_of(radius, count)
    codes = gpfq(weights[None], *matrices(X, X_quantized), alphabet)[0]
    np.testing.assert_allclose(
        alphabet.scale * codes,
        each_neuron(plain_gpfq, weights, X, X_quantized, levels(radius, count)),
        atol=1e-12,
    )
    dead = ~X_quantized.any(axis=0)
    assert (codes[dead] == 0).all()
    assert np.isin(codes[~dead], np.arange(1 - count, count, 2)).all()


@settings(max_examples=50, deadline=None)
@given(problems(), st.sampled_from([0.0, 0.05, 0.3]))
def test_sparse_modes_threshold_before_rounding(problem, threshold):
    weights, X, X_quantized, count, radius = problem
    alphabet, with_zero = alphabet_of(radius, count), np.append(0.0, levels(radius, count))
    lam = threshold * radius
    for method, shrink in (
        (gpfq_soft, lambda z: np.sign(z) * max(abs(z) - lam, 0)),
        (gpfq_hard, lambda z: z if abs(z) > lam else 0.0),
    ):
        codes = method(weights[None], *matrices(X, X_quantized), alphabet, threshold)[0]
        plain = each_neuron(
            plain_gpfq,
            weights,
            X,
            X_quantized,
            None,
            lambda z, shrink=shrink: nearest(with_zero, shrink(z)),
        )
        np.testing.assert_allclose(alphabet.scale * codes, plain, atol=1e-12)


def test_sparse_modes_make_zeros():
    rng = np.random.default_rng(0)
    X, weights = rng.standard_normal((200, 50)), rng.standard_normal((1, 50, 20))
    for method in (gpfq_soft, gpfq_hard):
        zeros = [
            (method(weights, *matrices(X, X), alphabet_of(2.0, 16), threshold) == 0).mean()
            for threshold in (0.0, 0.1, 0.4)
        ]
        assert zeros[0] < zeros[1] < zeros[2]


@settings(max_examples=100, deadline=None)
@given(problems(least_samples=3), st.sampled_from([0.01, 0.3]))
def test_gptq_is_the_textbook(problem, damping):
    weights, _, X, count, radius = problem
    alphabet, live = alphabet_of(radius, count), X.any(axis=0)
    codes = gptq(weights[None], *matrices(X, X)[1:], alphabet, damping)[0]
    assert (codes[~live] == 0).all()
    if live.any():
        H = X[:, live].T @ X[:, live]
        plain = each_neuron(
            plain_gptq,
            weights[live],
            H + damping * np.diagonal(H).mean() * np.eye(len(H)),
            levels(radius, count),
        )
        np.testing.assert_allclose(alphabet.scale * codes[live], plain, atol=1e-12)


@settings(max_examples=100, deadline=None)
@given(problems(least_samples=3), st.sampled_from([0.01, 0.3]))
def test_qronos_is_its_alternating_definition(problem, damping):
    weights, X, X_quantized, count, radius = problem
    alphabet, live = alphabet_of(radius, count), X_quantized.any(axis=0)
    G, H = matrices(X, X_quantized)
    codes = qronos(weights[None], G @ weights[None], H, alphabet, damping)[0]
    assert (codes[~live] == 0).all()
    if live.any():
        penalty = damping * (X_quantized[:, live] ** 2).sum(axis=0).mean()
        plain = each_neuron(plain_qronos, weights, X, X_quantized, levels(radius, count), penalty)
        np.testing.assert_allclose(alphabet.scale * codes, plain, atol=1e-12)


def test_more_inputs_than_a_block_of_the_walk():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((400, 2 * BLOCK + 9))
    X_quantized, weights = (
        X + 0.1 * rng.standard_normal(X.shape),
        rng.standard_normal((X.shape[1], 3)),
    )
    (G, H), alphabet, grid = matrices(X, X_quantized), alphabet_of(2.0, 8), levels(2.0, 8)
    for plain, codes in (
        (
            each_neuron(plain_gpfq, weights, X, X_quantized, grid),
            gpfq(weights[None], G, H, alphabet),
        ),
        (
            each_neuron(plain_gpfq, weights, X_quantized, X_quantized, grid),
            gpfq(weights[None], H, H, alphabet),
        ),
        (
            each_neuron(
                plain_gptq,
                weights,
                H[0] + 0.01 * np.diagonal(H[0]).mean() * np.eye(len(H[0])),
                grid,
            ),
            gptq(weights[None], H, alphabet, 0.01),
        ),
    ):
        np.testing.assert_allclose(alphabet.scale * codes[0], plain, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(problems(least_samples=3))
def test_qronos_without_quantized_inputs_is_gptq(problem):
    weights, X, _, count, radius = problem
    G, H = matrices(X, X)
    np.testing.assert_array_equal(
        qronos(weights[None], G @ weights[None], H, alphabet_of(radius, count), 0.02),
        gptq(weights[None], H, alphabet_of(radius, count), 0.02),
    )


def test_spfq_keeps_the_mean_and_follows_its_seed():
    weights = np.array([[[0.3, -0.9, 1.7, -5.0]]])
    alphabet, H = alphabet_of(2.0, 5), np.ones((1, 1, 1))
    draws = np.stack(
        [
            alphabet.scale * spfq(weights, H, H, alphabet, np.random.default_rng(seed))[0, 0]
            for seed in range(4000)
        ]
    )
    np.testing.assert_allclose(draws.mean(axis=0), [0.3, -0.9, 1.7, -2.0], atol=0.03)
    assert [set(column) for column in draws.T] == [{0.0, 1.0}, {-1.0, 0.0}, {1.0, 2.0}, {-2.0}]
    np.testing.assert_array_equal(
        *(spfq(weights, H, H, alphabet, np.random.default_rng(7)) for _ in range(2))
    )


def test_data_driven_methods_beat_rounding_on_the_samples():
    rng = np.random.default_rng(1)
    X = rng.random((400, 60)) @ rng.random((60, 60))
    weights, alphabet = rng.standard_normal((1, 60, 16)), alphabet_of(2.5, 4)
    G, H = matrices(X, X)
    codes = {
        "msq": msq(weights, alphabet),
        "gpfq": gpfq(weights, G, H, alphabet),
        "gptq": gptq(weights, H, alphabet),
        "qronos": qronos(weights, G @ weights, H, alphabet),
        "spfq": spfq(weights, G, H, alphabet, np.random.default_rng(0)),
    }
    error = {
        name: np.linalg.norm(X @ (weights[0] - alphabet.scale * code[0]))
        for name, code in codes.items()
    }
    assert max(error["gpfq"], error["spfq"]) < 0.2 * error["msq"]
    assert max(error["gptq"], error["qronos"]) < error["gpfq"] < error["spfq"]


@pytest.mark.parametrize(
    "method", [lambda w, H, a: gptq(w, H, a, 0.0), lambda w, H, a: qronos(w, H @ w, H, a, 0.0)]
)
def test_singular_gram_matrix_is_reported_with_its_damping(method):
    X = np.random.default_rng(0).standard_normal((3, 8))
    with pytest.raises(ParameterError, match=r"with damping 0 is singular .* use a larger damping"):
        method(np.ones((1, 8, 2)), (X.T @ X)[None], alphabet_of(1.0, 4))


def test_sweeps_do_not_fit_scales_to_weights_of_dead_inputs():
    random = np.random.default_rng(0)
    network = Network([Dense(random.normal(size=(6, 3)))], (6,))
    x = random.normal(size=(3, 6)) * (np.arange(6) > 2)
    found, smaller = (
        quantize(network, samples, "msq", sweeps=1).layers[0] for samples in (x, x / 2**20)
    )
    np.testing.assert_array_equal(found.kernel, smaller.kernel)
    assert not found.codes[:3].any()
