"""Lumping at extreme scales, in both orders of neurons, with everything between layers: exact up to
the rounding that the original itself has, and never beyond its bound.
"""

import warnings
from itertools import pairwise

import numpy as np
import pytest
from lumping_networks import KINDS, Builder, mlp

from netreduce.certificates import certify, deviation_bound
from netreduce.errors import NetreduceError, ParameterError, SampleError, VerificationError
from netreduce.lumping import lump, replay
from netreduce.lumping.bound import Propagation
from netreduce.lumping.boxes import Arithmetic, Box
from netreduce.lumping.lipschitz import chain_of
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)

SEEDS = range(25)
MANY_SEEDS = range(25, 1525)


def in_double(network):
    return network.replace(
        {
            i: layer.replace(**{k: v.astype(np.float64) for k, v in layer.arrays().items()})
            for i, layer in enumerate(network.layers)
        }
    )


def points(network, count=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, *network.input_shape))
    x[: count // 2] = rng.choice([-1, 1], x[: count // 2].shape)
    return x.astype(network.dtype)


def own_rounding(network, x):
    """How far rounding can move the outputs of a network at each sample."""
    arithmetic, double = Arithmetic.of(network), in_double(network)
    x = x.astype(np.float64)
    return np.stack([Propagation(double, Box(s, s)).rounding_error(0, arithmetic) for s in x])


def deviation(network, lumped, x):
    before, after = network.predict(x), lumped.predict(x)
    assert np.isfinite(before).all() and np.isfinite(after).all()
    return np.abs(before.astype(np.float64) - after)


def assert_exact(network, lumping):
    """No output moves by more than evaluating the original may, a few units in the last place of
    what is summed.
    """
    x = points(network)
    difference = deviation(network, lumping.network, x)
    assert (difference <= 2 * own_rounding(network, x)).all()
    assert (difference <= lumping.bound + lumping.rounding).all()


def assert_certified_within_the_range_only(network, lumping, x):
    """Samples outside the range are refused; of the others, those certified keep their class."""
    before, after = (each.logits().predict(x) for each in (network, lumping.network))
    for sample, one, other in zip(x, before, after, strict=True):
        if lumping.certified(sample[None]) == 1:
            same = one.argmax() == other.argmax() if len(one) > 1 else (one > 0) == (other > 0)
            assert same
        beyond = sample.copy()
        beyond.flat[np.abs(sample).argmax()] = 1.001
        with pytest.raises(SampleError, match="outside the input range"):
            lumping.certified(beyond[None])


def scaled_mlp(seed):
    """Dense layers with planted multiples, every neuron scaled by a power of two from 2^-50 to
    2^50, so that ratios go up to 10^±30, and the weights that read it by the inverse.
    """
    rng = np.random.default_rng(seed)
    dtype = rng.choice([np.float32, np.float64])
    widths = rng.integers(2, 7, rng.integers(3, 6))
    layers = list(mlp(*map(int, widths), seed=seed, dtype=np.float64).layers)
    planted = 0
    for index in range(len(layers) - 1):
        kernel, bias = layers[index].kernel.copy(), layers[index].bias.copy()
        into, neuron = rng.choice(len(bias), 2, replace=False)
        ratio = float(rng.choice([1, 2, rng.uniform(0.1, 10)]))
        kernel[:, neuron], bias[neuron] = ratio * kernel[:, into], ratio * bias[into]
        activation = str(rng.choice(["relu", "leaky_relu", "linear"]))
        scales = 2.0 ** rng.integers(-50, 51, len(bias))
        layers[index] = Dense(kernel * scales, bias * scales, activation)
        following = layers[index + 1]
        layers[index + 1] = following.replace(kernel=following.kernel / scales[:, None])
        planted += 1
    cast = [
        layer.replace(kernel=layer.kernel.astype(dtype), bias=layer.bias.astype(dtype))
        for layer in layers
    ]
    return Network(cast, (int(widths[0]),)), planted


def normalized(seed):
    """A convolution with planted multiples of ratios up to 10^±6, batch normalizations with large
    and small shifts before or behind the activation, pooling, Flatten or its like, dense layers.
    """
    rng = np.random.default_rng(seed)
    builder = Builder(seed, rng.choice([np.float32, np.float64]), "valid")
    channels = int(rng.integers(3, 6))

    def shifted(norm):
        return norm.replace(
            beta=(norm.beta * 10.0 ** rng.uniform(-3, 3, channels)).astype(builder.dtype),
            mean=(norm.mean * 10.0 ** rng.uniform(-3, 3, channels)).astype(builder.dtype),
        )

    first = builder.conv(2, channels, "linear")
    into, neuron = rng.choice(channels, 2, replace=False)
    ratio = float(10.0 ** rng.uniform(-6, 6))
    first = builder.with_multiple(first, into, neuron, ratio)
    between = [Activation(str(rng.choice(["relu", "leaky_relu"])))]
    if rng.random() < 0.7:
        between.append(shifted(builder.norm(channels)))
    if rng.random() < 0.3:
        taps = builder.array(2, 2, channels, 1)
        taps[:, :, neuron] = taps[:, :, into]
        between.append(DepthwiseConv2D(taps))
    if rng.random() < 0.5:
        between.append(MaxPooling2D(2) if rng.random() < 0.5 else AveragePooling2D(2))
    end = GlobalAveragePooling2D() if rng.random() < 0.3 else Flatten()
    layers = [first, *between, end]
    features = Network(layers, (6, 6, 2)).shapes[-1][0]
    if rng.random() < 0.3 and isinstance(end, Flatten):
        layers.append(Activation(str(rng.choice(["relu", "tanh", "leaky_relu"]))))
    layers += [builder.dense(features, 4), builder.dense(4, 3, "linear")]
    return Network(layers, (6, 6, 2)), 0


def check_one(make, seed):
    network, planted = make(seed)
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert len(lumping.merges) >= planted
    assert_exact(network, lumping)
    # in real arithmetic less than what rounding can do, and `max_bound` merges as much by it
    assert (lumping.bound <= lumping.rounding).all()
    bounded = lump(network, input_range=(-1, 1), max_bound=max(lumping.bound.max(), 1e-30))
    assert len(bounded.merges) >= len(lumping.merges)
    again = replay(network, lumping.record())
    x = points(network)
    assert np.array_equal(again.predict(x), lumping.network.predict(x))
    for options in ({"tolerance": 0.3}, {"keep": 3}, {"max_bound": 1e-3}):
        limited = lump(network, input_range=(-1, 1), verify=True, **options)
        assert (deviation(network, limited.network, x) <= limited.bound + limited.rounding).all()
        assert_certified_within_the_range_only(network, limited, x)
    samples = points(network, 6, seed=1)
    driven = lump(network, 0.3, (-1, 1), samples=samples, match="activations", verify=True)
    assert np.isfinite(driven.network.predict(x)).all() and not np.isnan(driven.bound).any()


@pytest.mark.parametrize("make", [scaled_mlp, normalized])
@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks(make, seed):
    check_one(make, seed)


@pytest.mark.slow
@pytest.mark.parametrize("make", [scaled_mlp, normalized])
def test_thousands_of_random_networks(make):
    for seed in MANY_SEEDS:
        check_one(make, seed)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_planted_networks(kind):
    for seed in range(400):
        dtype, padding = ((np.float32, "valid"), (np.float64, "same"))[seed % 2]
        network = Builder(seed, dtype, padding).network(kind)
        for tolerance in (0.0, 0.3):
            lumping = lump(network, tolerance, (-1, 1), verify=True)
            difference = deviation(network, lumping.network, points(network))
            assert (difference <= lumping.bound + lumping.rounding).all()
        assert_exact(network, lump(network, input_range=(-1, 1)))


# The neuron that stays


def pair(ratio, swapped, between=(), dtype=np.float32):
    """Two neurons, one `ratio` times the other, and what lies behind them."""
    rows = np.array([[1.0, ratio], [-0.5, -0.5 * ratio]]) / np.sqrt(ratio)
    bias = np.array([0.3, 0.3 * ratio]) / np.sqrt(ratio)
    reading = np.array([[1.0], [1 / ratio]]) * np.sqrt(ratio)
    order = [1, 0] if swapped else [0, 1]
    layers = [
        Dense(rows[:, order].astype(dtype), bias[order].astype(dtype), "relu"),
        *between,
        Dense(reading[order].astype(dtype)),
    ]
    return Network(layers, (2,))


@pytest.mark.parametrize("swapped", [False, True])
def test_a_ratio_beyond_the_range_of_float32(swapped):
    """2^130: as a multiple of the smaller one, the larger has a weight that is infinite."""
    network = pair(2.0**130, swapped)
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert [(m.into, m.ratio) for m in lumping.merges] == [(0 if swapped else 1, 2.0**-130)]
    assert_exact(network, lumping)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("larger_shifts", [False, True])
def test_the_neuron_with_the_smaller_shift_stays(swapped, larger_shifts):
    """A batch normalization adds 1 to one neuron and next to nothing, for its size, to the other:
    c times the rounding of the first sum would be c times as far off.
    """
    ratio = 2.6e5
    gamma, beta = np.ones(2), np.array([1.0, 1.0])
    if larger_shifts:
        beta = np.array([0.0, 1e10])
    order = [1, 0] if swapped else [0, 1]
    norm = BatchNormalization(
        gamma.astype(np.float32), beta[order].astype(np.float32), *np.float32([[0, 0], [1, 1]])
    )
    network = pair(ratio, swapped, [norm])
    lumping = lump(network, input_range=(-1, 1), verify=True)
    (merge,) = lumping.merges
    assert merge.into == order.index(0 if larger_shifts else 1)
    assert_exact(network, lumping)


def test_merges_that_the_type_cannot_hold_are_refused():
    """The neuron that stays has no weight at one output, and the other's, times 2^-130, underflows;
    a constant times a weight overflows the bias.
    """
    rows = np.float32([[2.0**-65, 2.0**65], [2.0**-66, 2.0**66]])
    reading = np.float32([[1.5, 1.5], [0, 2.0**-70]])
    network = Network([Dense(rows, activation="relu"), Dense(reading)], (2,))
    lumping = lump(network, input_range=(0, 1), verify=True)
    assert not lumping.merges and lumping.network is network
    constant = Network(
        [
            Dense(np.zeros((2, 2), np.float32), np.float32([1e30, 1]), "relu"),
            Dense(np.float32([[1e30], [1]])),
        ],
        (2,),
    )
    lumping = lump(constant)
    assert all(merge.neuron != 0 for merge in lumping.merges)
    assert all(np.isfinite(layer.bias).all() for layer in lumping.network.layers)
    assert lumping.rounding[0] == np.inf  # the original overflows


def test_a_record_whose_weights_the_type_cannot_hold():
    record = lump(pair(2.0**20, False, dtype=np.float64)).record()
    small, large = (
        np.float32([[2.0**-70, 2.0**60], [2.0**-70, 2.0**60]]),
        np.float32([[0], [2e-38]]),
    )
    other = Network([Dense(small, activation="relu"), Dense(large[::-1])], (2,))
    record["steps"][0]["neurons"], record["steps"][0]["into"] = [1], [0]
    record["steps"][0]["ratio"] = [2.0**130]
    other = other.replace({1: Dense(np.float32([[1.0], [1.0]]))})
    with pytest.raises(ParameterError, match="neuron 1 out of dense_1; the merged weights are bey"):
        replay(other, record)


# NaN and infinity


def test_verification_takes_nan_and_infinity_for_a_violation():
    network = pair(1.5, False)
    overflowing = network.replace({1: Dense(np.float32([[3e38], [3e38]]))})
    with pytest.raises(VerificationError, match="the original or lumped network gives values that"):
        lump(overflowing, input_range=(-10, 10), verify=True)


def test_a_bound_that_is_not_a_number_is_no_bound(monkeypatch):
    from netreduce.lumping.deviation import Deviation

    network = mlp(3, 6, 2, seed=1)
    monkeypatch.setattr(Deviation, "quick", np.full(2, np.nan))
    monkeypatch.setattr(Deviation, "bound", np.full(2, np.nan))
    assert lump(network, max_bound=10.0).network is network
    with pytest.raises(VerificationError):
        lump(network, 0.9, verify=True)


# Least squares on samples


@pytest.mark.parametrize("silent", ["all", "some", "identical", "one"])
def test_samples_that_tell_little(silent):
    network = mlp(3, 8, 6, 2, seed=3)
    samples = np.random.default_rng(0).random((20, 3)).astype(np.float32)
    if silent == "all":
        first = network.layers[0]
        network = network.replace({0: first.replace(bias=first.bias - 100)})
    elif silent == "some":
        first = network.layers[0]
        network = network.replace(
            {0: first.replace(bias=first.bias - np.float32([100] * 5 + [0] * 3))}
        )
    elif silent == "identical":
        samples = np.repeat(samples[:1], 20, axis=0)
    else:
        samples = samples[:1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lumping = lump(network, 0.5, samples=samples, match="activations", verify=True)
    assert np.isfinite(lumping.bound).all()
    for step in lumping.steps:
        for mixture in (step.mixtures or {}).values():
            assert np.abs(mixture.weights).max(initial=0) < 1e5
    np.testing.assert_allclose(
        lumping.network.predict(samples), network.predict(samples), rtol=0.3, atol=0.3
    )


def test_the_larger_of_two_channels_takes_over():
    """As a multiple of a channel that hardly acts, the other would have a weight of 10^6."""
    kernel = np.array([[1e-6, 1.0]])
    network = Network([Dense(kernel, np.zeros(2), "relu"), Dense(np.ones((2, 1)))], (1,))
    lumping = lump(network, samples=np.linspace(0, 1, 9)[:, None], match="activations")
    assert [(m.neuron, m.into) for m in lumping.merges] == [(0, 1)]
    assert lumping.merges[0].ratio == pytest.approx(1e-6)


# Activations behind Flatten


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh"])
@pytest.mark.parametrize("options", [{"tolerance": 0.4}, {"keep": 4}, {"max_bound": 50.0}])
def test_activations_behind_flatten(norm, activation, options):
    builder = Builder(7, np.float32, "valid")
    layers = [builder.conv(2, 5, "linear"), *([builder.norm(5)] if norm else []), Flatten()]
    layers += [Activation(activation), builder.dense(80, 3, "linear")]
    network = Network(layers, (6, 6, 2))
    lumping = lump(network, input_range=(-1, 1), verify=True, **options)
    assert (options.get("keep") != 4) or lumping.network.layers[0].outputs == 4
    difference = deviation(network, lumping.network, points(network))
    assert (difference <= lumping.bound + lumping.rounding).all()


# What the bound covers


def test_rounding_covers_underflow():
    """Numbers below the smallest normal one may be flushed to zero."""
    layers = [
        Dense(np.float32([[1e-20, 2e-20]]), None, "relu"),
        Dense(np.float32([[1e-19], [1e-19]])),
    ]
    network = Network(layers, (1,))
    lumping = lump(network, verify=True)
    assert len(lumping.merges) == 1
    # x = 1: 1e-39 + 2e-39 is no normal number, and neither is any term
    assert lumping.rounding[0] > 2 * 3e-39


def test_rounding_covers_batch_normalization_in_both_forms():
    """Keras sums slope · x, slope · mean and beta, which here nearly cancel."""
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((4, 6)).astype(np.float32)
    kernel[:, 1] = kernel[:, 0]
    mean = np.float32([1000.25] * 6)
    norm = BatchNormalization(*np.ones((1, 6), np.float32), mean, mean, np.float32([1] * 6), 1e-3)
    network = Network(
        [Dense(kernel, activation="relu"), norm, Dense(np.ones((6, 1), np.float32))], (4,)
    )
    lumping = lump(network, input_range=(-1, 1))
    x = points(network, 200)
    hidden = np.maximum(x @ kernel, 0)
    slope = (norm.gamma / np.sqrt(norm.variance + np.float32(1e-3))).astype(np.float32)
    keras = ((hidden - mean) * slope + norm.beta).sum(axis=1, keepdims=True)
    assert (np.abs(keras - lumping.network.predict(x)) <= lumping.bound + lumping.rounding).all()


def test_samples_outside_the_range_are_not_certified():
    network = mlp(3, 6, 2, seed=1)
    lumping = lump(network, 0.9, (0, 1))
    x = np.random.default_rng(0).random((5, 3))
    assert 0 <= lumping.certified(x) <= 1
    x[3, 1] = 1.5
    message = r"sample 3 has the value 1.5 at \(1,\), outside the input range \[0, 1\]"
    with pytest.raises(SampleError, match=message):
        lumping.certified(x)
    with pytest.raises(SampleError, match=message):
        lump(network).certified(x)  # the same where nothing merged
    with pytest.raises(NetreduceError, match="samples must have shape"):
        lumping.certified(x[:, :2])


def test_ends_of_the_range_that_the_type_rounds_are_inside():
    lumping = lump(mlp(3, 6, 2, seed=1), 0.9, (0, 0.1))
    assert lumping.certified(np.full((2, 3), 0.1, np.float32)) >= 0


def test_pixels_that_are_always_zero_count_for_nothing():
    network = mlp(6, 8, 2, seed=1, dtype=np.float64)
    high = np.array([1.0, 1, 1, 0, 0, 0])
    whole, narrow = lump(network, 0.9, (0, 1)), lump(network, 0.9, (0, high))
    assert (narrow.bound < whole.bound).all()


# Exact lumping in real arithmetic


def autoencoder():
    """That of MLPerf Tiny, 640-128-128-128-128-8-128-128-128-128-640 with batch normalization, with
    weights and statistics as Keras has them before training, and one planted multiple a layer.
    """
    rng = np.random.default_rng(0)
    widths = [640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640]
    layers = []
    for inputs, outputs in pairwise(widths):
        limit = np.sqrt(6 / (inputs + outputs))
        kernel = rng.uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
        if len(layers) == 27:
            return Network([*layers, Dense(kernel)], (640,))
        kernel[:, 5] = np.float32(1.7) * kernel[:, 3]
        norm = BatchNormalization(
            *np.ones((1, outputs), np.float32),
            *np.zeros((2, outputs), np.float32),
            np.ones(outputs, np.float32),
        )
        layers += [Dense(kernel), norm, Activation("relu")]
    raise AssertionError


def test_the_bound_of_exact_lumping_of_a_deep_network():
    network = autoencoder()
    lumping = lump(network, verify=True)
    assert len(lumping.merges) >= 9
    x = np.random.default_rng(1).random((200, 640), np.float32)
    difference = deviation(in_double(network), in_double(lumping.network), x.astype(np.float64))
    assert (difference <= lumping.bound).all() and lumping.bound.max() <= 1e-3
    certificate = certify(network, lumping.network)
    for bound in (certificate.bound, deviation_bound(network, lumping.network)):
        assert (difference <= bound).all() and bound.max() <= 1e-3


@pytest.mark.parametrize("seed", range(3))
def test_errors_in_chains_are_no_larger_than_their_lipschitz_constants_say(seed):
    rng = np.random.default_rng(seed)
    widths = [7, *rng.integers(2, 9, 4), 3]
    layers = []
    for inputs, outputs in pairwise(map(int, widths)):
        layers.append(Dense(rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs)))
        layers.append(Activation(str(rng.choice(["relu", "leaky_relu", "tanh", "sigmoid"]))))
    network = Network(layers[:-1], (7,))
    chain, count = chain_of(network), 300
    for start in range(-1, len(network.layers) - 1):
        size = 10.0 ** rng.uniform(-2, 1)
        shape = (7,) if start < 0 else network.shapes[start]
        error = size * rng.random(shape)
        one = rng.standard_normal((count, *shape))
        other = one + error * rng.choice([-1, 1, 0.5], (count, *shape))
        reach = chain.reach(start, error)
        for index in range(start + 1, len(network.layers)):
            layer = network.layers[index]
            if isinstance(layer, Dense):
                one, other = layer(one), layer(other)
                assert (np.abs(other - one) <= reach[index]).all()
            else:
                assert (np.abs(other - one) <= reach[index]).all()
                one, other = layer(one), layer(other)


def test_max_bound_merges_what_exact_lumping_merges():
    rng = np.random.default_rng(0)
    builder = Builder(0, np.float32, "same")
    layers, channels = [], 1
    for outputs in (16, 32):
        conv = builder.conv(channels, outputs, padding="same")
        conv = conv.replace(kernel=conv.kernel / np.float32(3 * np.sqrt(channels)))
        for neuron in range(outputs // 2, outputs):
            conv = builder.with_multiple(conv, neuron - outputs // 2, neuron, rng.uniform(0.1, 9))
        layers += [conv, MaxPooling2D(2)]
        channels = outputs
    dense = builder.dense(4 * 4 * 32, 10, "linear")
    network = Network(
        [*layers, Flatten(), dense.replace(kernel=dense.kernel / np.float32(20))], (16, 16, 1)
    )
    exact = lump(network)
    assert len(exact.merges) == 24 and exact.bound.max() < 0.01 < exact.rounding.max()
    limited = lump(network, max_bound=0.01)
    assert len(limited.merges) >= 24 and limited.bound.max() <= 0.01
