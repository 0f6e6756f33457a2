"""Lumping's parts, each by what it must get right."""

from fractions import Fraction

import numpy as np
import pytest
from every_layer import NETWORKS
from lumping_networks import KINDS, Builder

from netreduce.errors import ParameterError
from netreduce.lumping import lump, replay
from netreduce.lumping.approximate import _weighted_medians, cluster
from netreduce.lumping.bound import Propagation, _tail, gains
from netreduce.lumping.boxes import REAL, Arithmetic, Box, activate, propagate
from netreduce.lumping.deviation import Deviation
from netreduce.lumping.expansion import expanded, in_double
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    PReLU,
    Quantization,
)

SINGLE = Arithmetic.of(Network([Dense(np.ones((1, 1), np.float32))], (1,)))


def constants(lumping):
    return {(m.layer, m.neuron) for m in lumping.merges if m.kind == "constant"}


def dense(kernel, activation="linear", bias=None, dtype=np.float64):
    bias = None if bias is None else np.array(bias, dtype)
    return Dense(np.array(kernel, dtype), bias, activation)


# The lumped network in the shape of the original


def same_as_lumped(network, lumping):
    other = expanded(lumping.deviation.draft)
    if other is None:
        return False
    assert other.network.shapes == network.shapes
    x = np.random.default_rng(0).uniform(-1, 1, (20, *network.input_shape))
    expected = in_double(lumping.network).predict(x)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(other.network.predict(x), expected, atol=1e-9 * scale, rtol=1e-9)
    return True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_the_expanded_network_computes_what_the_lumped_one_does(kind, tolerance):
    compared = 0
    for seed in range(6):
        for padding in ("valid", "same"):
            network = Builder(seed, np.float32, padding).network(kind)
            compared += same_as_lumped(network, lump(network, tolerance, (-1, 1)))
    assert compared or kind in ("depthwise", "pooled", "branches", "after")


@pytest.mark.parametrize("name", NETWORKS)
def test_the_same_with_every_layer(name):
    for tolerance in (0.0, 0.3):
        same_as_lumped(NETWORKS[name], lump(NETWORKS[name], tolerance, (-1, 1)))


def test_multiples_before_an_activation_that_is_not_homogeneous():
    network = Network(
        [dense([[1.0, 1.3], [1.0, 1.3]], "relu"), Activation("tanh"), dense([[1.0], [2.0]])], (2,)
    )
    lumping = lump(network, 0.5, (-1, 1))
    assert len(lumping.merges) == 1 and expanded(lumping.deviation.draft) is None
    x = np.random.default_rng(0).uniform(-1, 1, (500, 2))
    difference = np.abs(network.predict(x) - lumping.network.predict(x))
    # what c = 1 loses where tanh sees 1.3 z instead of z counts
    assert difference.max() > 0.05 and (difference <= lumping.bound).all()


# Signs


def reads_negatively(*layers, sources=None, shape=(2,), features=2):
    """Those layers, and behind them a ReLU whose weights are all negative."""
    end = [dense(-np.ones((features, 1)) * [[1, 1]], "relu", [0, 0]), dense(np.ones((2, 1)))]
    count = len(layers)
    sources = None if sources is None else [*sources, (count - 1,), (count,)]
    return Network([*layers, *end], shape, sources)


@pytest.mark.parametrize(
    ("layer", "dead"),
    [
        (dense(np.eye(2), "relu"), True),
        (dense(np.eye(2), "elu"), False),
        (dense(np.eye(2), "linear"), False),
        (BatchNormalization(*np.ones((1, 2)), *np.zeros((2, 2)), np.ones(2)), False),
        (BatchNormalization(np.zeros(2), *np.zeros((2, 2)), np.ones(2)), True),
    ],
)
def test_dead_are_neurons_behind_what_is_never_negative(layer, dead):
    network = reads_negatively(layer)
    assert (len(constants(lump(network, input_range=(-1, 1), verify=True))) > 0) == dead


@pytest.mark.parametrize(("other", "dead"), [("relu", True), ("linear", False)])
def test_a_sum_is_never_negative_where_all_terms_are(other, dead):
    layers = [dense(np.eye(2), "relu"), dense(np.eye(2), other), Add()]
    network = reads_negatively(*layers, sources=[(-1,), (-1,), (0, 1)])
    assert (len(constants(lump(network, input_range=(-1, 1), verify=True))) > 0) == dead


@pytest.mark.parametrize("channel", [0, 1])
def test_signs_of_channels_behind_flatten(channel):
    """A map of two channels, the first never negative."""
    one = [Conv2D(np.ones((1, 1, 1, 1)), activation=name) for name in ("relu", "linear")]
    kernel = np.zeros((8, 2))
    kernel[channel::2, 0], kernel[:, 1] = -1, 1
    layers = [*one, Concatenate(), Flatten(), dense(kernel, "relu"), dense(np.ones((2, 1)))]
    network = Network(layers, (2, 2, 1), [(-1,), (-1,), (0, 1), (2,), (3,), (4,)])
    found = constants(lump(network, input_range=(-1, 1), verify=True))
    assert found == ({("dense_1", 0)} if channel == 0 else set())


# Equal signatures


@pytest.mark.parametrize(("units", "merged"), [(12, 1), (20, 0)])
def test_units_in_the_last_place_of_both(units, merged):
    kernel = np.float32([[1, 1 + units * np.finfo(np.float32).eps], [1, 1]])
    network = Network([Dense(kernel, activation="relu"), Dense(np.ones((2, 1), np.float32))], (2,))
    assert len(lump(network).merges) == merged


def test_one_weight_in_a_thousand():
    kernel = np.ones((1000, 2), np.float32)
    kernel[500, 1] += np.float32(1e-4)
    network = Network(
        [Dense(kernel, activation="relu"), Dense(np.ones((2, 1), np.float32))], (1000,)
    )
    assert not lump(network).merges


def test_constants_stand_for_constants_that_are_zero_where_they_are():
    """Behind a depthwise convolution with two outputs a channel, one constant is (1, 0), another
    (0, 1), a third (2, 0): before padding the first may stand for the third only.
    """
    first = Conv2D(np.zeros((1, 1, 1, 3)), np.array([1.0, 1, 2]), "relu")
    taps = np.zeros((1, 1, 3, 2))
    taps[0, 0] = [[1, 0], [0, 1], [1, 0]]
    last = Conv2D(np.random.default_rng(0).standard_normal((3, 3, 6, 2)), padding="same")
    network = Network([first, DepthwiseConv2D(taps), last], (4, 4, 1))
    lumping = lump(network, verify=True)
    assert {(m.neuron, m.into) for m in lumping.merges} == {(0, 2)}


# Costs and ratios


def test_ratios_are_positive():
    """The weighted median of (5, −1, −1, −1) over (1, 1, 1, 1) is −1; the projection is 1/2."""
    kernel = np.array([[5, 1], [-1, 1], [-1, 1], [-1.0, 1]])
    network = Network([dense(kernel, "relu"), dense(np.ones((2, 1)))], (4,))
    lumping = lump(network, 0.9, verify=True)
    assert len(lumping.merges) == 1 and lumping.merges[0].ratio > 0


@pytest.mark.parametrize("norm", [False, True])
def test_a_merge_costs_what_it_can_move_an_output(norm):
    """At its worst position; where a shift is lost as well, with that."""
    from netreduce.lumping import core

    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 1, 2))
    kernel[..., 1] = kernel[..., 0] + 0.3 * rng.standard_normal((3, 3, 1))
    first = Conv2D(kernel, None, "relu", padding="same")
    behind = [
        BatchNormalization(np.ones(2), np.array([0.0, 9.0]), np.zeros(2), np.ones(2)),
        Conv2D(rng.standard_normal((3, 3, 2, 1)), padding="same"),
    ] * norm
    center = np.zeros((25, 1 if norm else 2))
    center[12] = 1
    layers = [first, *behind, Flatten(), dense(center.reshape(-1, 1))]
    network = Network(layers, (5, 5, 1))
    attempts = []
    original = core.Attempt.lumping

    def keep(self, settings):
        attempts.append(self)
        return original(self, settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(core.Attempt, "lumping", keep)
        lumping = lump(network, 0.9)
    assert len(lumping.merges) == 1
    (cost,) = attempts[0].costs
    before = attempts[0].deviation._sides[0]
    moved, _ = before._forward(lambda index, _: attempts[0].draft.local.get(index, 0.0))
    assert cost >= moved[len(layers) - 1].values.max() * (1 - 1e-9)


def test_gains():
    """Of two channels through Flatten, and of a tensor that two layers read."""
    conv = Conv2D(np.ones((1, 1, 1, 2)))
    network = Network([conv, Flatten(), dense([[1.0], [10.0]] * 4)], (2, 2, 1))
    np.testing.assert_allclose(gains(network)[0], [4, 40])
    layers = [conv, Conv2D(np.full((1, 1, 2, 1), 2.0)), Conv2D(np.full((1, 1, 2, 1), 3.0)), Add()]
    network = Network(layers, (2, 2, 1), [(-1,), (0,), (0,), (1, 2)])
    np.testing.assert_allclose(gains(network)[0], [5, 5])


# Errors and rounding


def test_falling_slopes_turn_signs():
    """1 · 1 + (−1) · (−1) is 2, not 0."""
    norm = BatchNormalization(np.array([1.0, -1]), *np.zeros((2, 2)), np.ones(2), 0.0)
    layers = [dense([[1.0]], "relu"), dense([[1.0, 1.0]]), norm, dense([[1.0], [-1.0]])]
    error = Propagation(Network(layers, (1,)), Box(np.array([-1.0]), np.array([1.0])))
    assert error.output_error({0: np.array([0.1])})[0] == pytest.approx(0.2)


def test_boxes_of_functions_that_turn():
    falling = Activation("leaky_relu", -0.5)
    box, rounding = activate(falling, Box(np.array([-1.0]), np.array([2.0])), 0.0, REAL)
    assert box.low[0] == pytest.approx(0, abs=1e-12) and box.high[0] == pytest.approx(2)
    assert rounding > 0
    _, rounding = activate(
        Activation("leaky_relu", 3.0), Box(np.array([-1.0]), np.array([1.0])), 1.0, REAL
    )
    assert rounding >= 3
    _, rounding = activate(Activation("silu"), Box(np.array([-1.0]), np.array([1.0])), 1.0, REAL)
    assert rounding >= 1.09


def test_every_sum_is_rounded():
    image = Box(np.zeros((4, 4, 1)), np.ones((4, 4, 1)))
    for layer, boxes in ((Add(), [image, image]), (AveragePooling2D(2), [image])):
        _, rounding = propagate(layer, boxes, SINGLE)
        assert (rounding > 5e-8).all()
    rng = np.random.default_rng(0)
    layer = Dense(rng.standard_normal((1000, 3)).astype(np.float32))
    x = rng.random((50, 1000), np.float32)
    exact = x.astype(np.float64) @ layer.kernel.astype(np.float64)
    summed = np.zeros((50, 3), np.float32)
    for k in range(1000):
        summed += x[:, [k]] * layer.kernel[k]
    _, rounding = propagate(layer, [Box(np.zeros(1000), np.ones(1000))], SINGLE)
    assert (np.abs(summed - exact) <= rounding).all() and np.abs(summed - exact).max() > 1e-6


def test_the_bound_covers_the_rounding_of_sums_in_float64():
    weights = [Fraction(0.1), Fraction(0.2)]
    network = Network([dense([[1.0, 1.0]], "relu"), dense([[0.1], [0.2]])], (1,))
    lumping = lump(network)
    merged = Fraction(float(lumping.network.layers[1].kernel[0, 0]))
    assert 0 < abs(merged - sum(weights)) <= Fraction(float(lumping.bound[0]))


def test_a_class_is_certified_when_both_scores_may_move(monkeypatch):
    network = Network([dense([[1.0, 1.0]], "relu"), dense([[1.0, 0.5], [0, 0]])], (1,))
    network = network.replace({0: dense([[1.0, 1.1]], "relu")})
    lumping = lump(network, 0.5)
    monkeypatch.setattr(Deviation, "of_logits", np.array([0.15, 0.15]))
    monkeypatch.setattr(Deviation, "rounding_of_logits", np.zeros(2))
    if lumping.steps:
        # at x the scores are apart by x / 2: more than 0.3 from x = 0.6 on
        assert lumping.certified(np.array([[0.55], [0.65]])) == 0.5


# What merging loses on the way


def assert_within(network, lumping, low=-1.0, high=1.0):
    x = np.random.default_rng(0).uniform(low, high, (300, *network.input_shape))
    x[:100] = np.random.default_rng(1).choice([low, high], x[:100].shape)
    difference = np.abs(network.predict(x) - lumping.network.predict(x)).max(axis=0)
    assert lumping.merges and (difference <= lumping.bound + lumping.rounding).all()


@pytest.mark.parametrize("between", [[], "norm"])
def test_slopes_above_1(between):
    """silu rises by up to 1.1: neurons 0.01 apart differ by 0.011 behind it."""
    norm = BatchNormalization(np.ones(2), np.array([0, 0.01]), np.zeros(2), np.ones(2), 0.0)
    layers = [dense([[1.0, 1.0]], "silu", [0, 0.01])]
    if between:
        layers = [dense([[1.0, 1.0]], "relu"), norm, Activation("silu")]
    network = Network([*layers, dense([[1.0], [1.0]])], (1,))
    assert_within(network, lump(network, 0.1, (2.3, 2.5)), 2.3, 2.5)


@pytest.mark.parametrize("reader", ["convolution", "depthwise"])
def test_shifts_that_padding_cuts(reader):
    kernel = np.random.default_rng(0).standard_normal((3, 3, 1, 2))
    kernel[..., 1] = kernel[..., 0]
    norm = BatchNormalization(np.ones(2), np.array([0.0, 9.0]), np.zeros(2), np.ones(2))
    behind = [Conv2D(np.ones((3, 3, 2, 1)), padding="same")]
    if reader == "depthwise":
        behind = [
            DepthwiseConv2D(np.ones((3, 3, 2, 1)), padding="same"),
            Conv2D(np.ones((1, 1, 2, 1))),
        ]
    network = Network([Conv2D(kernel, None, "relu"), norm, *behind], (5, 5, 1))
    assert_within(network, lump(network, 0.95, (-1, 1)))


def test_channels_that_are_silent_on_samples_alone():
    network = Network([dense([[1.0, -1.0]], "relu"), dense([[1.0], [1.0]])], (1,))
    samples = np.linspace(0, 1, 9)[:, None]
    assert_within(network, lump(network, 0.0, (-1, 1), samples=samples, match="activations"))


def test_a_constant_before_padding_is_none_behind_it():
    kernel = np.random.default_rng(0).standard_normal((1, 1, 1, 2))
    kernel[..., 0] = 0
    layers = [
        Conv2D(kernel, np.array([1.0, 0.5]), "relu"),
        DepthwiseConv2D(np.ones((3, 3, 2, 1)), padding="same"),
        Conv2D(np.ones((1, 1, 2, 2))),
    ]
    network = Network(layers, (4, 4, 1))
    assert not lump(network, input_range=(-1, 1), verify=True).merges


def test_a_batch_normalization_that_not_every_reader_sees():
    norm = BatchNormalization(np.array([1.0, 2]), np.ones(2), np.zeros(2), np.ones(2))
    first = dense([[1.0, 2.0], [1.0, 2.0]], "linear", [1, 2])
    layers = [first, norm, dense([[1.0], [3.0]]), dense([[2.0], [5.0]]), Add()]
    network = Network(layers, (2,), [(-1,), (0,), (1,), (0,), (2, 3)])
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert [(m.neuron, m.into) for m in lumping.merges] == [(0, 1)]
    x = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    np.testing.assert_allclose(lumping.network.predict(x), network.predict(x), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_sums_that_cancel_but_for_rounding_are_zero(dtype):
    """0.3 / 3 − 0.1 is 1.4e-17, in 32 bits 2.5e-9: nobody reads the neuron that stays."""
    first = dense([[1.0, 3.0, 1.0], [1.0, 3.0, -1.0]], "relu", dtype=dtype)
    network = Network([first, dense([[0.3], [-0.1], [1.0]], dtype=dtype)], (2,))
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert {(m.neuron, m.kind) for m in lumping.merges} == {(0, "multiple"), (1, "unread")}


@pytest.mark.parametrize(("quantization", "kinds"), [(None, 2), (Quantization(0.5, 2), 1)])
def test_codes_have_no_rounding_in_which_a_sum_could_vanish(quantization, kinds):
    """One neuron is 1 + 2⁻²¹ times the other, read with 0.5 and −0.5: as 32-bit numbers
    these may cancel, as codes of a grid they do not.
    """
    first = dense([[1, 1 + 2**-21, 1], [1, 1 + 2**-21, -1]], "relu", dtype=np.float32)
    last = dense([[0.5], [-0.5], [0.5]], dtype=np.float32).replace(quantization=quantization)
    lumping = lump(Network([first, last], (2,)), input_range=(-1, 1))
    assert len({merge.kind for merge in lumping.merges}) == kinds


@pytest.mark.parametrize(("offset", "merged"), [(0, 1), (100, 0)])
def test_intercepts_are_known_up_to_the_rounding_of_what_normalization_adds_up(offset, merged):
    """β − μ is 0.9375 of a million, and 2.75 for the neuron three times as large: three times
    0.9375, but for the rounding of β and μ to 32 bits.
    """
    one, three = 1000000.3125, 3000001.0  # three times `one`, rounded
    norm = BatchNormalization(
        *(np.array(pair, np.float32) for pair in [(1, 1), (one + 0.9375, three + 2.75 + offset)]),
        *(np.array(pair, np.float32) for pair in [(one, three), (1, 1)]),
        epsilon=0,
    )
    first = dense([[1.0, 3.0], [0.5, 1.5]], dtype=np.float32)
    last = dense([[1.0], [1.0]], dtype=np.float32)
    network = Network([first, norm, Activation("relu"), last], (2,))
    assert len(lump(network).merges) == merged


# Records


def test_a_record_repeats_what_goes_before_and_after_the_merges():
    """Neuron 0 is unread from the start, neuron 2 once it stands for neuron 1; of the other hidden
    layer nothing goes.
    """
    kernel = [[1.0, 1.0, 3.0, 1.0], [2.0, 1.0, 3.0, -1.0]]
    behind = dense([[0.0, 0.0], [0.3, 0.3], [-0.1, -0.1], [1.0, 2.0]], "relu", [1.0, 0.5])
    network = Network([dense(kernel, "relu"), behind, dense([[1.0], [2.0]])], (2,))
    lumping = lump(network)
    assert [(m.neuron, m.into, m.kind) for m in lumping.merges if m.layer == "dense_1"] == [
        (0, None, "unread"),
        (1, 2, "multiple"),
        (2, None, "unread"),
    ]
    again = replay(network, lumping.record())
    for layer, other in zip(again.layers, lumping.network.layers, strict=True):
        np.testing.assert_array_equal(layer.kernel, other.kernel)
        np.testing.assert_array_equal(layer.bias, other.bias)


def test_a_record_of_a_layer_that_there_is_not():
    record = lump(Network([dense([[1.0, 2.0]], "relu"), dense([[1.0], [1.0]])], (1,))).record()
    (step,) = record["steps"]
    step |= {"layer": "dense_7", "neurons": [0], "into": [0]}
    with pytest.raises(ParameterError, match="takes neurons out of dense_7, where this network"):
        replay(Network([dense([[1.0]]), dense([[1.0]])], (1,)), record)


# Rounding


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_neurons_on_grids_of_their_own_are_compared_by_their_weights(dtype):
    """Identical neurons of a layer with sigmoid, whose codes are 2, −4 and 4, −8."""
    grid = Quantization([[0.5, 0.25, 0.25]], 4)
    kernel = np.array([[1, 1, 2], [-2, -2, 1]], dtype)
    first = Dense(kernel, None, "sigmoid", quantization=grid)
    (merge,) = lump(Network([first, dense([[1.0], [2.0], [3.0]], dtype=dtype)], (2,))).merges
    assert {merge.neuron, merge.into} == {0, 1} and merge.ratio == 1


@pytest.mark.parametrize("samples", [(), (4,)])
def test_the_box_of_a_log_softmax_holds_what_it_computes(samples):
    rng = np.random.default_rng(0)
    layer = Activation("log_softmax")
    low = rng.uniform(-30, 30, (*samples, 10))
    box = Box(low, low + rng.uniform(0, 5, low.shape))
    out, error = activate(layer, box, np.zeros(low.shape), SINGLE)
    x = rng.uniform(low, box.high, (500, *low.shape))
    y = (
        x
        - np.log(np.exp(x - x.max(-1, keepdims=True)).sum(-1, keepdims=True))
        - x.max(-1, keepdims=True)
    )
    single = layer(x.reshape(-1, 10).astype(np.float32)).reshape(y.shape)
    assert (out.low <= np.minimum(y, single)).all() and (np.maximum(y, single) <= out.high).all()
    rounded = x.astype(np.float32).astype(np.float64)
    exact = rounded - np.log(np.exp(rounded).sum(-1, keepdims=True))
    assert (np.abs(single - exact) <= error).all()
    assert (error <= 26 * SINGLE.roundoff * (1 + 100)).all()
    least = low - box.high.max(-1, keepdims=True) - np.log(10)
    np.testing.assert_allclose(out.low, least, rtol=1e-4)


def test_a_softmax_at_the_end_takes_the_bound_of_its_logits_on():
    """A softmax's outputs move by half of what its logits move, and by 1 at most."""
    kernel = [[1.0, 1.01], [1.0, 1.0]]
    logits = [dense(kernel, "relu"), dense([[3.0, -1.0], [1.0, 2.0]])]
    plain, ended = (
        lump(Network([*logits, *end], (2,)), tolerance=0.1, input_range=(-1, 1))
        for end in ([], [Activation("softmax")])
    )
    assert len(plain.merges) == len(ended.merges) == 1
    most = plain.bound.max()
    assert most > 0
    np.testing.assert_allclose(ended.bound, np.full(2, min(most / 2, 1)), rtol=1e-6)


@pytest.mark.parametrize("unit", [1e-6, 1, 1e6])
def test_multiples_up_to_rounding_in_any_unit(unit):
    """The second neuron is 0.7 times the first, each rounded to 32 bits."""
    kernel = unit * np.random.default_rng(0).standard_normal((50, 1)) * [1, 0.7]
    network = Network([dense(kernel, "relu", dtype=np.float32), dense([[1.0], [1.0]])], (50,))
    (merge,) = lump(network).merges
    assert merge.ratio == pytest.approx(0.7)


# Approximate lumping


def test_ratios_are_weighted_medians_or_else_projections():
    """A median that is not positive is no ratio of neurons with ReLU."""
    ones = np.ones((3, 1))
    above, below = np.array([[1.0], [2.0], [9.0]]), np.array([[3.0], [-1.0], [-1.0]])
    np.testing.assert_allclose(_weighted_medians((above, above), (2 * ones, 2 * ones)), [1.0])
    np.testing.assert_allclose(_weighted_medians((below, below), (2 * ones, 2 * ones)), [1 / 6])


def test_the_tail_is_the_chain_of_vectors_at_the_end():
    square = np.eye(4)
    chain = [dense(square, "relu"), dense(square, "relu"), Activation("softmax")]
    assert _tail(Network(chain[:2], (4,))) == 0
    assert _tail(Network(chain, (4,))) == 3
    images = [Conv2D(np.ones((1, 1, 1, 1))), Flatten()]
    assert _tail(Network([*images, *chain[:2]], (2, 2, 1))) == 2
    branches = Network([*chain[:2], Add(), dense(square)], (4,), [(-1,), (0,), (0, 1), (2,)])
    assert _tail(branches) == 3


def test_of_neurons_that_are_equal_on_samples_the_first_stays():
    kernel = [[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    network = Network([dense(kernel, "relu"), dense([[1.0], [2.0], [3.0]])], (2,))
    x = np.random.default_rng(0).uniform(-1, 1, (100, 2))
    x[:, 1] = np.abs(x[:, 0]) * 2  # so that the first two differ from the third
    lumping = lump(network, tolerance=0.01, samples=x, match="activations")
    assert [(m.neuron, m.into) for m in lumping.merges] == [(1, 0)]


def test_gains_behind_every_kind_of_layer():
    """How far the output can move for a unit error in a channel, at all positions."""
    norm = BatchNormalization([3.0, -2.0], [0.0, 0.0], [0.0, 0.0], [1.0, 1.0], epsilon=0)
    pool = AveragePooling2D((2, 2))
    network = Network(
        [Conv2D(np.ones((1, 1, 1, 2))), norm, pool, Flatten(), dense([[1], [5]])], (2, 2, 1)
    )
    found = gains(network)
    np.testing.assert_allclose(found[3], [1, 5])
    np.testing.assert_allclose(found[1], found[2])
    np.testing.assert_allclose(found[0], [3 * found[1][0], 2 * found[1][1]])


def test_the_bound_of_what_is_exact_is_that_of_rounding():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((5, 3)) @ np.array([[1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    network = Network([dense(kernel, "relu"), dense(rng.standard_normal((4, 2)))], (5,))
    lumping = lump(network, input_range=(-1, 1))
    assert len(lumping.merges) == 1
    assert lumping.bound.max() < 1e-12 and 0 < lumping.rounding.max() < 1e-12


def test_no_channels_are_no_clusters():
    nothing = np.empty((0, 0))
    assert cluster(nothing, np.empty(0, bool), 0.5, lambda cost, made: True, None) == []


def test_the_box_of_a_prelu():
    """−1 to 2 with the slope −0.5 below zero is 0 to 2, with the slope 2 it is −2 to 2."""
    box = Box(np.full(2, -1.0), np.full(2, 2.0))
    out, error = activate(PReLU([-0.5, 2.0]), box, np.array([1e-3, 1e-3]), REAL)
    np.testing.assert_allclose(out.low, [0, -2], atol=1e-14)
    np.testing.assert_allclose(out.high, [2, 2])
    np.testing.assert_allclose(error, [1e-3, 2e-3])
