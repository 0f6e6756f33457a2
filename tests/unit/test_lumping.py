import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lumping_networks import KINDS, Builder, mlp

from netreduce.errors import ParameterError, UnsupportedLayerError, VerificationError
from netreduce.formats import load
from netreduce.lumping import class_counts, lump, published_class_counts, replay
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Layer,
    MaxPooling2D,
    Quantization,
)

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "published"


def dense(kernel, bias=None, activation="relu", dtype=np.float64, **options):
    return Dense(
        np.array(kernel, dtype),
        None if bias is None else np.array(bias, dtype),
        activation,
        **options,
    )


def found(lumping):
    """(layer, neuron, neuron) of every merge, whichever of the two stays; the later one first."""
    return {
        (merge.layer, max(merge.neuron, merge.into), min(merge.neuron, merge.into))
        for merge in lumping.merges
    }


def inputs(network, count=200, seed=0):
    return (
        np.random.default_rng(seed)
        .uniform(-1, 1, (count, *network.input_shape))
        .astype(network.dtype)
    )


def same_function(network, lumping, tolerance):
    x = inputs(network)
    expected, got = network.predict(x), lumping.network.predict(x)
    assert np.abs(got - expected).max() <= tolerance * max(1, np.abs(expected).max())


def equal(one, other):
    return all(
        np.array_equal(array, other_array)
        for layer, other_layer in zip(one.layers, other.layers, strict=True)
        for array, other_array in zip(
            layer.arrays().values(), other_layer.arrays().values(), strict=True
        )
    )


# Planted multiples


@pytest.mark.parametrize("kind", KINDS)
@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float32, np.float64]),
    padding=st.sampled_from(["valid", "same"]),
)
@settings(max_examples=8, deadline=None)
def test_planted_multiples_are_found_and_nothing_else(kind, seed, dtype, padding):
    builder = Builder(seed, dtype, padding)
    network = builder.network(kind)
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert found(lumping) == builder.planted
    assert lumping.network.dtype == dtype
    same_function(network, lumping, 1e-5 if dtype == np.float32 else 1e-12)
    assert equal(replay(network, json.loads(json.dumps(lumping.record()))), lumping.network)
    assert lump(lumping.network).network is lumping.network  # nothing is left to merge


@given(seed=st.integers(0, 10**6), dtype=st.sampled_from([np.float32, np.float64]))
@settings(max_examples=20, deadline=None)
def test_dead_constant_and_unread_neurons(seed, dtype):
    first, second, last = mlp(4, 9, 8, 3, seed=seed, dtype=dtype).layers
    kernel, bias = first.kernel.copy(), first.bias.copy()
    kernel[:, [1, 2, 5]], bias[[1, 2, 5]] = (
        0,
        (0.75, -0.75, 0),
    )  # one constant, two dead for their biases
    next_kernel, next_bias = second.kernel.copy(), np.abs(second.bias)
    next_kernel[7] = 0  # nobody reads the neuron
    next_kernel[:, 4], next_bias[4] = -np.abs(next_kernel[:, 4]), -10  # never active behind a ReLU
    network = Network(
        [
            first.replace(kernel=kernel, bias=bias),
            second.replace(kernel=next_kernel, bias=next_bias),
            last,
        ],
        (4,),
    )
    lumping = lump(network, input_range=(-1, 1), verify=True)
    kinds = {(merge.layer, merge.neuron): merge.kind for merge in lumping.merges}
    planted = {
        ("dense_1", 1): "constant",
        ("dense_1", 2): "constant",
        ("dense_1", 5): "constant",
        ("dense_1", 7): "unread",
        ("dense_2", 4): "constant",
    }
    assert (
        planted.items() <= kinds.items()
    )  # other neurons of the second layer may be dead by chance
    assert set(kinds.values()) == {"constant", "unread"}
    same_function(network, lumping, 1e-5 if dtype == np.float32 else 1e-12)


def test_what_dies_when_others_go():
    """Neuron 0 is read by neuron 1 of the next layer alone, which nobody reads; neurons 1 and 2
    cancel once they are merged.
    """
    first = dense([[1, 1, 2, 3], [1, -1, -2, 1]], [0.1, 0.4, 0.8, 0.3])
    second = dense([[0, 1], [2, 0], [-1, 0], [1, 1]], [0, 0])
    last = dense([[1.0], [0.0]], activation="linear")
    network = Network([first, second, last], (2,))
    lumping = lump(network, verify=True)
    assert {(m.layer, m.neuron, m.kind) for m in lumping.merges} == {
        ("dense_2", 1, "unread"),
        ("dense_1", 0, "unread"),
        ("dense_1", 1, "multiple"),
        ("dense_1", 2, "unread"),
    }
    assert lumping.network.layers[0].kernel.shape == (2, 1)
    same_function(network, lumping, 1e-12)


def test_a_layer_keeps_one_neuron():
    network = Network(
        [dense(np.zeros((2, 3)), [1, 2, -3]), dense(np.ones((3, 2)), activation="linear")], (2,)
    )
    lumping = lump(network, verify=True)
    assert lumping.network.layers[0].outputs == 1
    assert np.allclose(lumping.network.predict(np.zeros((1, 2))), 3)
    network = Network([dense(np.ones((2, 3))), dense(np.zeros((3, 2)), [5, 6], "linear")], (2,))
    lumping = lump(network, verify=True)
    assert lumping.network.layers[0].outputs == 1
    assert np.allclose(lumping.network.predict(np.ones((1, 2))), [[5, 6]])


# What may merge


@pytest.mark.parametrize(
    ("activation", "doubles", "twins"),
    [
        ("relu", True, True),
        ("leaky_relu", True, True),
        ("linear", True, True),
        *((name, False, True) for name in ("tanh", "relu6", "gelu", "silu", "elu")),
    ],
)
def test_activations(activation, doubles, twins):
    kernel = np.array([[0.3, 0.6, -0.3, 0.3], [0.7, 1.4, -0.7, 0.7]])
    network = Network(
        [
            dense(kernel, [0.2, 0.4, -0.2, 0.2], activation),
            dense([[1.0], [2], [3], [4]], activation="linear"),
        ],
        (2,),
    )
    # the double stays, or of twins the first; a negative multiple never merges
    expected = {("dense_1", 0, 1), ("dense_1", 3, 1)} if doubles else {("dense_1", 3, 0)}
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert {(m.layer, m.neuron, m.into) for m in lumping.merges} == expected
    assert {m.ratio for m in lumping.merges} == ({0.5} if doubles else {1.0})
    same_function(network, lumping, 1e-12)


def test_an_activation_layer_of_its_own():
    kernel = [[1, 2, 1], [1, 2, 1]]
    for layer, expected in ((Activation("leaky_relu", -0.5), {0, 2}), (Activation("sigmoid"), {2})):
        network = Network(
            [
                dense(kernel, [1, 2, 1], "linear"),
                layer,
                dense(np.ones((3, 1)), activation="linear"),
            ],
            (2,),
        )
        lumping = lump(network, input_range=(-1, 1), verify=True)
        assert {merge.neuron for merge in lumping.merges} == expected
        same_function(network, lumping, 1e-12)


def test_outputs_and_layers_before_softmax_between_stay():
    twins = dense([[1, 1], [2, 2]], [1, 1])
    assert not lump(Network([twins], (2,))).merges
    network = Network(
        [twins.replace(activation="linear"), Activation("softmax"), dense(np.ones((2, 1)))], (2,)
    )
    assert not lump(network).merges


def test_residual_block():
    """The channels inside the block merge, and those of the stream, which all layers make alike."""
    rng = np.random.default_rng(0)

    def conv(activation="relu"):
        kernel, bias = rng.standard_normal((3, 3, 4, 4)), rng.standard_normal(4)
        kernel[..., 3], bias[3] = 2 * kernel[..., 0], 2 * bias[0]
        return Conv2D(kernel, bias, activation, padding="same")

    layers = [conv(), conv(), conv("linear"), Add(), Activation("relu"), conv("linear")]
    network = Network(layers, (5, 5, 4), [(-1,), (0,), (1,), (2, 0), (3,), (4,)])
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert found(lumping) == {(f"conv2d_{k}", 3, 0) for k in (1, 2, 3)}
    same_function(network, lumping, 1e-12)


def test_close_but_different_neurons_stay():
    """Ratios that differ by one part in 10^5 in float32, in 10^13 in float64."""
    for dtype, step in ((np.float32, 1e-5), (np.float64, 1e-13)):
        network = Network(
            [
                dense([[1, 2], [1, 2 + 2 * step]], [1, 2], dtype=dtype),
                dense([[1.0], [1]], activation="linear", dtype=dtype),
            ],
            (2,),
        )
        assert not lump(network).merges


# Batch normalization and padding


def normalized(padding, betas):
    """Two proportional channels whose batch normalizations shift them by the same, or not by the
    same, multiple.
    """
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 2))
    kernel[..., 1] = 2 * kernel[..., 0]
    norm = BatchNormalization(np.ones(2), np.array(betas, float), np.zeros(2), np.ones(2))
    behind = Conv2D(rng.standard_normal((3, 3, 2, 3)), padding=padding)
    return Network([Conv2D(kernel, np.array([0.5, 1.0]), "relu"), norm, behind], (7, 7, 2))


@pytest.mark.parametrize(
    ("padding", "betas", "merged"), [("valid", (1, 5), 1), ("same", (1, 5), 0), ("same", (1, 2), 1)]
)
def test_shifts_before_padding(padding, betas, merged):
    network = normalized(padding, betas)
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert len(lumping.merges) == merged
    same_function(network, lumping, 1e-12)


def test_constant_channels_before_padding_join_one_of_them():
    """A constant that a padded convolution reads is no bias: it is missing at the border. But one
    constant channel can stand for all.
    """
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 5))
    kernel[..., :3] = 0
    norm = BatchNormalization(
        rng.uniform(1, 2, 5), rng.standard_normal(5), rng.standard_normal(5), np.ones(5)
    )
    layers = [
        Conv2D(kernel, np.array([0.0, 0.0, 1.0, 0.3, 0.1]), "relu"),
        norm,
        Conv2D(rng.standard_normal((3, 3, 5, 3)), padding="same"),
    ]
    network = Network(layers, (7, 7, 2))
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert len(lumping.merges) == 2 and all(
        merge.kind == "constant" and merge.into in (0, 1, 2) for merge in lumping.merges
    )
    same_function(network, lumping, 1e-12)
    assert equal(replay(network, lumping.record()), lumping.network)


def test_a_norm_of_zero_slope_makes_a_constant():
    rng = np.random.default_rng(0)
    norm = BatchNormalization(np.array([1.0, 0, 2]), np.array([1.0, 2, 3]), np.zeros(3), np.ones(3))
    for first in (
        Conv2D(rng.standard_normal((3, 3, 2, 3)), None, "relu"),
        Conv2D(rng.standard_normal((3, 3, 2, 3))),
    ):
        network = Network(
            [
                first,
                norm,
                Activation("relu"),
                MaxPooling2D(),
                Flatten(),
                dense(rng.standard_normal((12, 2)), activation="linear"),
            ],
            (6, 6, 2),
        )
        lumping = lump(network, input_range=(-1, 1), verify=True)
        assert [(merge.neuron, merge.kind) for merge in lumping.merges] == [(1, "constant")]
        same_function(network, lumping, 1e-12)


def test_a_channel_that_one_reader_sees_as_constant():
    """It cannot stand for a channel that this reader sees move, though the other reader sees both
    as multiples; two of its kind merge.
    """
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 4))
    kernel[..., 1:] = kernel[..., :1] * [2, 3, 4]
    norm = BatchNormalization(
        np.array([0.0, 1, 2, 0]), np.array([1.0, 2, 3, 4]), np.zeros(4), np.ones(4)
    )
    layers = [
        Conv2D(kernel, None, "relu"),
        norm,
        Conv2D(rng.standard_normal((3, 3, 4, 2))),
        Conv2D(rng.standard_normal((3, 3, 4, 2))),
        Add(),
    ]
    network = Network(layers, (7, 7, 2), [(-1,), (0,), (0,), (1,), (2, 3)])
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert found(lumping) == {("conv2d_1", 2, 1), ("conv2d_1", 3, 0)}
    same_function(network, lumping, 1e-12)
    assert (
        np.abs(
            network.predict(inputs(network))
            - lump(network, 0.9, (-1, 1)).network.predict(inputs(network))
        ).max(axis=0)
        < 1e-9
    ).all()


def test_negative_slopes_before_max_pooling():
    """max(−x) is not −max(x): channels of opposite slopes merge behind a mean, not behind a
    maximum.
    """
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 3, 2, 2))
    kernel[..., 1] = kernel[..., 0]
    layers = [
        Conv2D(kernel, None, "relu"),
        BatchNormalization(np.array([1.0, -1]), np.zeros(2), np.zeros(2), np.ones(2)),
    ]
    last = [Flatten(), dense(rng.standard_normal((8, 2)), activation="linear")]
    assert not lump(Network([*layers, MaxPooling2D(2), *last], (6, 6, 2))).merges
    network = Network([*layers, AveragePooling2D(2), *last], (6, 6, 2))
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert len(lumping.merges) == 1
    same_function(network, lumping, 1e-12)


def test_depthwise_kernels_must_match_too():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((1, 1, 2, 2))
    kernel[..., 1] = 3 * kernel[..., 0]
    filters = rng.standard_normal((3, 3, 2, 1))
    for factor, merged in ((0.5, 1), (None, 0)):
        taps = filters.copy()
        if factor:
            taps[:, :, 1] = factor * taps[:, :, 0]
        layers = [
            Conv2D(kernel, np.array([1.0, 3])),
            DepthwiseConv2D(taps, None, "relu", padding="same"),
            Conv2D(rng.standard_normal((1, 1, 2, 2))),
        ]
        lumping = lump(Network(layers, (5, 5, 2)), input_range=(-1, 1), verify=True)
        assert len(lumping.merges) == merged


# Quantized layers


def quantized(codes, scale, bits=2, bias=None, activation="relu", dtype=np.float32, **options):
    codes = np.asarray(codes)
    return Dense(
        (scale * codes).astype(dtype),
        bias,
        activation,
        quantization=Quantization(scale, bits, **options),
    )


def test_codes_merge_and_stay_codes():
    """Multiples 1, 3, 5 of odd codes: the representative is the smallest, the next codes are whole
    sums with more levels.
    """
    scale = 0.1234567
    codes = np.array([[3, 1, 1, 5], [-3, -1, 3, -5], [3, 1, -1, 5]])
    bias = np.array([0.3, 0.1, 0.2, 0.5], np.float32)
    after = np.array([[1, 3], [-3, 1], [1, 1], [3, -1]])
    network = Network(
        [quantized(codes, scale, 3, bias), quantized(after, 0.7, 2, activation="linear")], (3,)
    )
    lumping = lump(network, input_range=(-1, 1), verify=True)
    assert {(m.neuron, m.into) for m in lumping.merges} == {(0, 1), (3, 1)}
    first, last = lumping.network.layers
    assert first.quantization.bits == 3 and np.array_equal(first.codes, codes[:, [1, 2]])
    assert np.array_equal(last.codes, [[3 * 1 - 3 + 5 * 3, 3 * 3 + 1 - 5], [1, 1]])
    assert last.quantization.bits == pytest.approx(np.log2(3))  # 15, 5, 1
    np.testing.assert_array_equal((0.7 * last.codes).astype(np.float32), last.kernel)
    same_function(network, lumping, 1e-5)


def test_codes_of_whose_ratio_is_a_fraction_leave_the_grid():
    network = Network(
        [quantized([[2, 3], [2, 3]], 0.5), quantized([[1], [1]], 0.7, activation="linear")], (2,)
    )
    lumping = lump(network, verify=True)
    assert [merge.ratio for merge in lumping.merges] == [1.5]
    assert lumping.network.layers[1].quantization is None
    same_function(network, lumping, 1e-6)


def test_codes_are_compared_exactly():
    """Dequantized in float32, 1001 : 1000 and 1000 : 999 differ by a part in a million; as codes
    they are different.
    """
    network = Network(
        [
            quantized([[1001, 1000], [1000, 999]], 1e-3, 11),
            quantized([[1], [1]], 0.7, activation="linear"),
        ],
        (2,),
    )
    assert not lump(network).merges


def test_scales_per_neuron_and_quantized_biases():
    scale = np.array([[0.1, 0.3]])
    first = Dense(
        (scale * [[1, 1], [-1, -1]]).astype(np.float32),
        (scale[0] * [3, 3]).astype(np.float32),
        "relu",
    )
    first = first.replace(quantization=Quantization(scale, 2, True))
    network = Network([first, quantized([[1], [1]], 0.7, activation="linear")], (2,))
    lumping = lump(network, verify=True)
    assert [merge.ratio for merge in lumping.merges] == [pytest.approx(3)]
    layer = lumping.network.layers[0]
    assert layer.quantization.scale.shape == (1, 1) and layer.bias_codes.tolist() == [3]
    same_function(network, lumping, 1e-6)


@pytest.mark.parametrize(("constant", "on_grid"), [(2.0, True), (0.3, False)])
def test_a_constant_in_a_quantized_bias(constant, on_grid):
    last = quantized([[1], [3]], 0.5, 2, np.array([1.5], np.float32), "linear", quantized_bias=True)
    network = Network([dense([[1, 0], [1, 0]], [0.1, constant], dtype=np.float32), last], (2,))
    layer = lump(network, verify=True).network.layers[1]
    assert layer.quantization.quantized_bias == on_grid
    assert layer.bias[0] == pytest.approx(1.5 + 1.5 * constant)
    assert layer.codes.tolist() == [[1]]


def test_a_kernel_off_its_grid():
    off = Dense(np.array([[0.1], [0.25]], np.float32), quantization=Quantization(0.1, 2))
    with pytest.raises(ParameterError, match="dense_1: its kernel does not lie on the grid"):
        lump(Network([off], (2,)))


# Counts


def test_class_counts():
    network = mlp(5, 12, 10, 3)
    kernel, bias = network.layers[0].kernel.copy(), network.layers[0].bias.copy()
    kernel[:, [2, 7]], bias[[2, 7]] = 0, 0
    kernel[:, 5], bias[5] = 2 * kernel[:, 1], 2 * bias[1]
    network = network.replace({0: network.layers[0].replace(kernel=kernel, bias=bias)})
    assert class_counts(network) == {
        "dense_1": 10,
        "dense_2": 10,
    }  # all-zero neurons are one class, and constants go only in lump


@pytest.mark.parametrize(
    ("zeros", "published", "right"),
    [((), 100, 100), ((0,), 1, 100), ((10,), 11, 100), ((50,), 51, 100), ((10, 20, 30), 13, 98)],
)
def test_published_counts_let_zeros_swallow_the_rest(zeros, published, right):
    network = mlp(20, 100, 3)
    kernel, bias = network.layers[0].kernel.copy(), network.layers[0].bias.copy()
    kernel[:, list(zeros)], bias[list(zeros)] = 0, 0
    network = network.replace({0: network.layers[0].replace(kernel=kernel, bias=bias)})
    assert published_class_counts(network) == {"dense_1": published}
    assert class_counts(network) == {"dense_1": right}


def test_published_counts_skip_zero_biases_and_take_any_sign():
    network = Network(
        [dense([[1, 2, 1, -1], [1, 2, 1, -1]], [1, 2, 0, -1]), dense(np.ones((4, 1)))], (2,)
    )
    assert published_class_counts(network) == {"dense_1": 2}  # {0, 1, 3}, {2}
    assert class_counts(network) == {"dense_1": 3}  # {0, 1}, {2}, {3}


# Real networks


@pytest.mark.parametrize("name", ["1.58bit_scalar2", "4bit_scalar5"])
def test_published_cifar10_networks(name):
    path = PUBLISHED / f"cifar10_cnn_gpfq_{name}.h5"
    if not path.exists():
        pytest.skip(f"needs the published network {path.name}, which is not part of the project")
    network = load(path)
    lumping = lump(network)
    x = np.random.default_rng(0).random((4, 32, 32, 3), np.float32)
    assert np.abs(lumping.network.logits().predict(x) - network.logits().predict(x)).max() <= 1e-4
    assert (
        not lumping.merges and not lumping.bound.any()
    )  # float biases and hundreds of inputs leave no two channels proportional
    assert class_counts(network) == {
        layer: counts["neurons_after"]
        for layer, counts in lumping.record()["layers"].items()
        if layer in class_counts(network)
    }


# Records


def test_record():
    builder = Builder(1, np.float32, "valid")
    network = builder.network("mlp")
    lumping = lump(network, input_range=(-1, np.ones(5)))
    record = json.loads(json.dumps(lumping.record()))
    assert record["input_range"] == [-1, 1] and record["tolerance"] == 0
    assert record["bound"] == pytest.approx(lumping.bound)
    assert record["rounding"] == pytest.approx(lumping.rounding)
    # what storing the merged weights in float32 costs, and what evaluating both networks does
    assert (lumping.bound > 0).all() and (lumping.bound < lumping.rounding).all()
    layer = record["layers"]["dense_1"]
    assert (layer["neurons_before"], layer["neurons_after"], layer["classes"]) == (7, 6, 6)
    assert (layer["parameters_before"], layer["parameters_after"]) == (42, 36)
    assert (layer["macs_before"], layer["macs_after"]) == (35, 30)
    assert layer["bits_before"] == 42 * 32
    step = record["steps"][0]
    _, neuron, into = next(planted for planted in builder.planted if planted[0] == "dense_1")
    assert (step["layer"], step["kinds"]) == ("dense_1", ["multiple"])
    assert sorted(step["neurons"] + step["into"]) == [into, neuron] and step["ratio"][0] <= 1


def test_a_record_of_another_network():
    record = lump(Builder(1, np.float32, "valid").network("mlp")).record()
    with pytest.raises(
        ParameterError,
        match="takes neurons out of dense_1, where this network has none to take out",
    ):
        replay(mlp(5, 2, 2), record)


# Bad input


@pytest.mark.parametrize("tolerance", [-0.1, 1, 2.0, float("nan"), "0.1", None])
def test_tolerance_out_of_range(tolerance):
    with pytest.raises(ParameterError, match=r"tolerance must be in \[0, 1\), found"):
        lump(mlp(3, 4, 2), tolerance)


@pytest.mark.parametrize(
    ("input_range", "message"),
    [
        ((np.zeros(4), np.ones(4)), r"an end of shape \(4,\); expected a pair .* of shape \(3,\)"),
        ((0, 1, 2), "not a pair"),
        (1.0, "not a pair"),
        ((1, 0), "low ≤ high"),
        ((0, float("inf")), "must be finite"),
    ],
)
def test_bad_input_range(input_range, message):
    with pytest.raises(ParameterError, match=message):
        lump(mlp(3, 4, 2), input_range=input_range)


@pytest.mark.parametrize(("field", "value"), [("kernel", np.nan), ("bias", np.inf)])
def test_parameters_that_are_not_finite(field, value):
    network = mlp(3, 4, 2)
    array = network.layers[1].arrays()[field].copy()
    array.flat[0] = value
    network = network.replace({1: network.layers[1].replace(**{field: array})})
    with pytest.raises(
        ParameterError, match=f"dense_2: 1 values of its {field} are NaN or infinite"
    ):
        lump(network)


def test_unknown_layers():
    class Mystery(Layer):
        def __call__(self, x):
            return x

    with pytest.raises(
        UnsupportedLayerError, match="mystery_1: lumping does not know what a Mystery computes"
    ):
        lump(Network([mlp(3, 4, 2).layers[0], Mystery(), mlp(3, 4, 2).layers[1]], (3,)))


def test_verification_fails_when_the_bound_is_exceeded(monkeypatch):
    from netreduce.lumping.deviation import Deviation

    network = Builder(1, np.float32, "valid").network("mlp")
    lump(network, verify=True)
    monkeypatch.setattr(Deviation, "bound", np.zeros(3))
    monkeypatch.setattr(Deviation, "rounding", np.zeros(3))
    with pytest.raises(VerificationError, match=r"output \d differs by .*, more than the bound 0"):
        lump(network, verify=True)


@pytest.mark.parametrize("end", ["linear", "sigmoid"])
def test_two_classes_by_one_output_are_certified_away_from_the_threshold(end):
    random = np.random.default_rng(0)
    network = Network(
        [
            Dense(random.normal(size=(3, 40)).astype("f4"), activation="relu"),
            Dense(0.1 * random.normal(size=(40, 1)).astype("f4"), activation=end),
        ],
        (3,),
    )
    lumping = lump(network, tolerance=0.05, input_range=(-1, 1))
    x = random.uniform(-1, 1, (500, 3)).astype("f4")
    before, after = network.predict(x)[:, 0], lumping.network.predict(x)[:, 0]
    threshold = 0.5 if end == "sigmoid" else 0.0
    far = np.abs(after - threshold) > lumping.bound[0]
    assert 0 < lumping.certified(x) == far.mean() < 1
    assert ((before > threshold) == (after > threshold))[far].all()
