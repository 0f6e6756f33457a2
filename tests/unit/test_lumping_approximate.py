import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lumping_networks import KINDS, Builder, mlp

from netreduce.certificates import certify
from netreduce.errors import ParameterError, SampleError
from netreduce.lumping import lump, replay
from netreduce.network import Network
from netreduce.network.layers import Activation, Dense


def inputs(network, count=200, low=-1, high=1, seed=0):
    return (
        np.random.default_rng(seed)
        .uniform(low, high, (count, *network.input_shape))
        .astype(network.dtype)
    )


def deviation(network, lumped, x):
    return np.abs(network.predict(x).astype(np.float64) - lumped.predict(x)).max(axis=0)


def allowed(lumping):
    return lumping.bound + lumping.rounding


def neurons(lumping):
    return sum(layer.outputs for layer in lumping.network.layers[:-1] if hasattr(layer, "kernel"))


def gradient(network, x, weights):
    """Gradient of weights · output, by hand, for dense layers with ReLU."""
    values = [x, *network.activations(x)]
    slope = weights
    for layer, value in zip(network.layers[::-1], values[:0:-1], strict=True):
        slope = (slope * (value > 0) if layer.activation == "relu" else slope) @ layer.kernel.T
    return slope


def nearly_proportional(noise, dtype, seed=0):
    """20-40-40-5, half of the hidden neurons multiples of the others up to noise."""
    rng = np.random.default_rng(seed)
    network = mlp(20, 40, 40, 5, seed=seed, dtype=dtype)
    layers = list(network.layers)
    for index in range(2):
        kernel, bias = layers[index].kernel.copy(), layers[index].bias.copy()
        ratios = rng.uniform(0.2, 5, 20)
        kernel[:, 20:] = ratios * (
            kernel[:, :20] + noise * rng.standard_normal(kernel[:, :20].shape)
        )
        bias[20:] = ratios * (bias[:20] + noise * rng.standard_normal(20))
        layers[index] = layers[index].replace(kernel=kernel, bias=bias)
    return Network(layers, (20,))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [1e-4, 1e-2])
def test_bound_holds_for_100000_samples_and_for_worst_cases(noise, dtype):
    network = nearly_proportional(noise, dtype)
    lumping = lump(network, 0.05, input_range=(0, 1), verify=True)
    assert neurons(lumping) == 40
    x = inputs(network, 100_000, 0, 1)
    observed = deviation(network, lumping.network, x)
    assert (observed <= allowed(lumping)).all()
    for output in range(
        5
    ):  # ascent along the sign of the gradient, in both directions, from the worst samples
        for sign in (-1, 1):
            weights = np.zeros(5)
            weights[output] = sign
            gap = (network.predict(x) - lumping.network.predict(x)) @ weights
            points = x[np.argsort(gap)[-20:]].astype(np.float64)
            for _ in range(40):
                direction = gradient(network, points, weights) - gradient(
                    lumping.network, points, weights
                )
                points = np.clip(points + 0.1 * np.sign(direction), 0, 1)
            observed[output] = max(
                observed[output], deviation(network, lumping.network, points.astype(dtype))[output]
            )
    assert (observed <= allowed(lumping)).all()
    assert lumping.bound.max() < 100 * observed.max()


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 10**6),
    tolerance=st.floats(0.01, 0.9),
    padding=st.sampled_from(["valid", "same"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
@settings(max_examples=8, deadline=None)
def test_bound_holds_for_every_kind_of_network(kind, seed, tolerance, padding, dtype):
    builder = Builder(seed, dtype, padding)
    network = builder.network(kind)
    lumping = lump(network, tolerance, input_range=(-1, 1), verify=True)
    assert len(lumping.merges) >= len(builder.planted)
    assert (deviation(network, lumping.network, inputs(network)) <= allowed(lumping)).all()
    again = replay(network, json.loads(json.dumps(lumping.record())))
    assert (again.predict(inputs(network)) == lumping.network.predict(inputs(network))).all()


def test_a_narrow_input_range_tightens_the_bound():
    network = nearly_proportional(1e-2, np.float64)
    wide, narrow = (
        lump(network, 0.05, (0, 1)),
        lump(network, 0.05, (np.full(20, 0.4), np.full(20, 0.6))),
    )
    assert (narrow.bound < 0.5 * wide.bound).all()
    x = inputs(network, 1000, 0.4, 0.6)
    assert (deviation(network, narrow.network, x) <= allowed(narrow)).all()


def test_tolerance_is_the_cosine():
    """Neurons at 60 degrees: cosine 1/2."""
    kernel = np.array([[1, 0.5], [0, np.sqrt(0.75)]])
    network = Network([Dense(kernel, np.zeros(2), "relu"), Dense(np.ones((2, 1)))], (2,))
    assert len(lump(network, 0.51).merges) == 1
    assert len(lump(network, 0.49).merges) == 0


def test_clusters_are_stars():
    """Three rays 20 degrees apart: the outer ones, at 40, do not merge through the middle one into
    each other.
    """
    angles = np.radians([10, 30, 50])
    kernel = np.array([np.cos(angles), np.sin(angles)])
    network = Network([Dense(kernel, np.zeros(3), "relu"), Dense(np.ones((3, 1)))], (2,))
    merges = lump(network, 1 - np.cos(np.radians(21))).merges
    assert all(abs(merge.neuron - merge.into) == 1 for merge in merges)
    assert not {merge.neuron for merge in merges} & {merge.into for merge in merges}


def test_identical_neurons_only_without_homogeneity():
    """Parallel neurons under tanh merge by their distance, not by their direction."""
    kernel = np.array([[1.0, 3.0, 1.05]])
    network = Network([Dense(kernel, np.zeros(3), "tanh"), Dense(np.ones((3, 1)))], (1,))
    lumping = lump(network, 0.01, verify=True)
    assert {merge.neuron for merge in lumping.merges} | {
        merge.into for merge in lumping.merges
    } == {0, 2}
    assert lumping.merges[0].ratio == 1


@given(keep=st.integers(2, 80), seed=st.integers(0, 100))
@settings(max_examples=8, deadline=None)
def test_keep_is_reached_exactly(keep, seed):
    network = mlp(6, 12, 10, 3, seed=seed)
    lumping = lump(network, keep=keep, verify=True)
    exact = neurons(lump(network))
    assert neurons(lumping) == min(exact, max(keep, neurons(lump(network, keep=1))))


@pytest.mark.parametrize("max_bound", [1e-9, 0.05, 1.0, 30.0])
def test_max_bound_is_kept(max_bound):
    network = nearly_proportional(1e-3, np.float32)
    lumping = lump(network, max_bound=max_bound, verify=True)
    assert lumping.bound.max() <= max_bound
    if max_bound == 1e-9:
        assert lumping.network is network
    if max_bound >= 1:
        assert neurons(lumping) < 80


def test_a_larger_bound_merges_more():
    network = nearly_proportional(1e-2, np.float64)
    left = [neurons(lump(network, max_bound=bound)) for bound in (1, 3, 10, 30)]
    assert left == sorted(left, reverse=True) and left[-1] < left[0]


def test_limits_together():
    network = nearly_proportional(1e-3, np.float64)
    assert neurons(lump(network, 0.05, keep=60)) == 60
    assert neurons(lump(network, 0.05, keep=1)) == 40  # the tolerance ends it
    assert neurons(lump(network, keep=60, max_bound=1e-3)) > 60  # the bound ends it


def test_certified_share():
    network = nearly_proportional(1e-5, np.float64)
    lumping = lump(network, 0.01)
    x = inputs(network, 2000, 0, 1)
    outputs = lumping.network.predict(x)
    ordered = np.sort(outputs, axis=1)
    sure = ordered[:, -1] - ordered[:, -2] > 2 * lumping.bound.max()
    assert sure.mean() <= lumping.certified(x) < 1
    assert lumping.certified(x, lumping.network.predict(x)) == lumping.certified(x)
    predicted = network.predict(x).argmax(axis=1) == outputs.argmax(axis=1)
    assert predicted.mean() >= lumping.certified(x)
    assert lump(network, 0.0).certified(x) == 1  # nothing merged


@pytest.mark.parametrize("separate", [False, True])
def test_softmax_at_the_end(separate):
    """The bound of a probability follows from that of the logits, and so does what is certified."""
    network = nearly_proportional(1e-4, np.float64)
    last = network.layers[-1]
    layers = (
        [*network.layers, Activation("softmax")]
        if separate
        else [*network.layers[:-1], last.replace(activation="softmax")]
    )
    softmax = Network(layers, (20,))
    plain, lumping = lump(network, 0.05), lump(softmax, 0.05, verify=True)
    assert lumping.bound.max() == pytest.approx(min(1, plain.bound.max() / 2), rel=1e-6)
    x = inputs(network, 500, 0, 1)
    assert (deviation(softmax, lumping.network, x) <= allowed(lumping)).all()
    assert lumping.certified(x) == plain.certified(x) > 0


# Data-driven


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_matching_activations_keeps_the_bound(kind, padding):
    network = Builder(3, np.float64, padding).network(kind)
    samples = inputs(network, 100, seed=5)
    lumping = lump(network, 0.3, (-1, 1), samples=samples, match="activations", verify=True)
    assert (deviation(network, lumping.network, inputs(network)) <= allowed(lumping)).all()
    again = replay(network, json.loads(json.dumps(lumping.record())))
    assert (again.predict(samples) == lumping.network.predict(samples)).all()


def test_least_squares_beats_weights_on_the_samples():
    network = mlp(10, 40, 30, 4, seed=2, dtype=np.float64)
    rng = np.random.default_rng(0)
    samples = rng.random((2000, 3)) @ rng.random((3, 10))  # a three-dimensional set of inputs
    by_weights, by_activations = (
        lump(network, keep=35),
        lump(network, keep=35, samples=samples, match="activations"),
    )
    assert neurons(by_activations) == neurons(by_weights) == 35
    errors = [
        np.abs(one.network.predict(samples) - network.predict(samples)).mean()
        for one in (by_weights, by_activations)
    ]
    assert errors[1] < 0.5 * errors[0]


def test_neurons_that_never_act_on_the_samples_go():
    kernel = np.array([[1.0, -1.0, 0.5]])
    network = Network([Dense(kernel, np.array([0, 0, 1.0]), "relu"), Dense(np.ones((3, 1)))], (1,))
    samples = np.linspace(0, 1, 20)[:, None]
    lumping = lump(network, samples=samples, match="activations")
    assert [(merge.neuron, merge.into, merge.kind) for merge in lumping.merges] == [
        (1, None, "constant")
    ]
    np.testing.assert_allclose(
        lumping.network.predict(samples), network.predict(samples), atol=1e-6
    )


# Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"keep": 0}, ParameterError, "keep must be a positive number of neurons, found 0"),
        ({"keep": 2.5}, ParameterError, "keep must be"),
        ({"max_bound": -1}, ParameterError, "max_bound must be a number ≥ 0, found -1"),
        ({"max_bound": float("nan")}, ParameterError, "max_bound must be"),
        (
            {"match": "names"},
            ParameterError,
            "match must be one of weights, activations, found 'names'",
        ),
        ({"match": "activations"}, SampleError, "needed there"),
        ({"samples": np.zeros((2, 3))}, SampleError, 'samples are for match="activations"'),
        (
            {"match": "activations", "samples": np.zeros((2, 4))},
            SampleError,
            r"samples must have shape \(samples, 3\), found \(2, 4\)",
        ),
        ({"match": "activations", "samples": np.zeros((0, 3))}, SampleError, "no samples"),
        (
            {"match": "activations", "samples": np.full((2, 3), np.nan)},
            SampleError,
            "must be finite",
        ),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        lump(mlp(3, 4, 2), **options)


def test_a_number_of_neurons_that_cannot_be_reached_is_said():
    hidden = Dense(np.eye(4, 6, dtype=np.float32) - 0.5, np.zeros(6, np.float32), "relu")
    network = Network([hidden, Dense(np.ones((6, 2), np.float32))], (4,))
    reached = lump(network, keep=5)
    assert reached.settings["neurons"] == reached.network.layers[0].outputs
    opposed = Dense(np.float32([[1, -1], [0, 0]]), np.zeros(2, np.float32), "relu")
    network = Network([opposed, Dense(np.ones((2, 2), np.float32))], (2,))
    stopped = lump(network, keep=1)
    assert stopped.settings["neurons"] == 2
    with pytest.raises(ParameterError, match=r"keep=1 cannot be reached: no two of the 2 neurons"):
        lump(network, keep=1, strict=True)
    assert "neurons" not in lump(network).settings


# Balls


def in_balls(rng, samples, radius, count):
    shift = rng.choice([-1.0, 1.0, 0.3], (count, *samples.shape)) * radius
    return np.clip(samples + shift, 0, 1).reshape(-1, *samples.shape[1:])


def network_for_balls():
    rng = np.random.default_rng(3)
    first, second = rng.standard_normal((2, 12, 12)) / 3
    first[:, 6:] = 1.5 * first[:, :6] + 0.05 * rng.standard_normal((12, 6))
    layers = [Dense(first, np.full(12, 0.3), "relu"), Dense(second, activation="relu")]
    return Network([*layers, Dense(rng.standard_normal((12, 3)))], (12,))


def test_the_bound_in_balls_is_smaller_and_holds_there():
    network, rng = network_for_balls(), np.random.default_rng(0)
    samples, radius = rng.random((5, 12)), 0.02
    whole = lump(network, 0.01)
    lumping = lump(network, 0.01, around=samples, radius=radius, verify=True)
    assert len(lumping.merges) == len(whole.merges) >= 5
    x = in_balls(rng, samples, radius, 300)
    difference = np.abs(lumping.network.predict(x) - network.predict(x)).max(axis=0)
    assert (difference <= lumping.bound + lumping.rounding).all()
    assert (lumping.bound < whole.bound / 2).all()
    record = lumping.record()
    assert record["around"] == 5 and record["radius"] == radius
    assert lumping.certified(x[:50]) >= whole.certified(x[:50])
    with pytest.raises(SampleError, match=r"1 of 2 samples, .* number 1, lie in none of the balls"):
        lumping.certified(np.stack([samples[0], samples[0] + 2.5 * radius]))


def test_max_bound_in_balls_merges_more():
    network, samples = network_for_balls(), np.random.default_rng(1).random((3, 12))
    limit = lump(network, 0.01, around=samples, radius=0.02).bound.max() * 1.01
    whole = lump(network, max_bound=limit)
    lumping = lump(network, max_bound=limit, around=samples, radius=0.02)
    assert lumping.bound.max() <= limit and len(lumping.merges) > len(whole.merges)


def test_merges_in_balls_are_the_cheapest_there_not_in_the_box_around_them():
    samples, radius = np.stack([np.full(12, 0.1), np.full(12, 0.9)]), 0.02
    hull = samples[0] - radius, samples[1] + radius
    bounds = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        first, second = rng.standard_normal((2, 12, 12)) / 3
        second[:, 6:] = second[:, :6] * 1.2 + 0.3 * rng.standard_normal((12, 6))
        layers = [Dense(first, np.full(12, -0.2), "relu"), Dense(second, activation="relu")]
        network = Network([*layers, Dense(rng.standard_normal((12, 3)))], (12,))
        for arguments in ({}, {"around": samples, "radius": radius}):
            lumped = lump(network, keep=20, input_range=hull, **arguments).network
            certificate = certify(network, lumped, hull, around=samples, radius=radius)
            bounds.append(certificate.bound.max())
    in_box, in_balls = np.reshape(bounds, (4, 2)).T
    assert (in_balls <= in_box * (1 + 1e-9)).all() and in_balls.mean() < 0.6 * in_box.mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radius": 0.1}, "around is missing"),
        ({"around": np.zeros((1, 12))}, "radius is missing"),
        ({"around": np.zeros((1, 12)), "radius": 0}, "above 0, found 0"),
        ({"around": np.full((2, 12), 2.0), "radius": 0.1}, "2 of 2 outside"),
    ],
)
def test_bad_balls(arguments, message):
    with pytest.raises(ParameterError, match=message):
        lump(network_for_balls(), **arguments)
