"""Layers compute what PyTorch and Keras compute, with their conventions."""

import doctest
import importlib
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from netreduce.errors import ParameterError, ShapeError, UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

RANDOM = np.random.default_rng(0)
CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def normal(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def image(height, width, channels, batch=3):
    return normal(batch, height, width, channels)


def first(x):
    """Channels first, for PyTorch."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def last(x):
    return x.numpy().transpose(0, 2, 3, 1)


def agrees(layer, x, expected):
    found = layer(x)
    assert found.dtype == np.float32
    assert found.shape[1:] == layer.output_shape(x.shape[1:])
    np.testing.assert_allclose(found, expected, **CLOSE)


def to_torch_padded(x, padding, fill=0.0):
    top, bottom, left, right = padding
    return functional.pad(first(x), (left, right, top, bottom), value=fill)


paddings = st.tuples(*[st.integers(0, 3)] * 4)
pairs = st.tuples(st.integers(1, 3), st.integers(1, 3))


@given(paddings, pairs, pairs, st.sampled_from([1, 2, 4]))
@settings(max_examples=40, deadline=None)
def test_convolution_with_explicit_padding_and_groups_is_pytorchs(padding, strides, dilation, g):
    layer = Conv2D(normal(3, 2, 8 // g, 4), normal(4), "relu", strides, padding, dilation, groups=g)
    x = image(9, 8, 8)
    expected = functional.conv2d(
        to_torch_padded(x, padding),
        torch.from_numpy(layer.kernel.transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(layer.bias),
        strides,
        0,
        dilation,
        g,
    )
    agrees(layer, x, last(expected.relu()))


@given(paddings, pairs)
@settings(max_examples=20, deadline=None)
def test_depthwise_convolution_with_explicit_padding_is_pytorchs(padding, strides):
    layer = DepthwiseConv2D(normal(3, 3, 4, 2), normal(8), strides=strides, padding=padding)
    x = image(7, 8, 4)
    expected = functional.conv2d(
        to_torch_padded(x, padding),
        torch.from_numpy(layer.kernel.reshape(3, 3, 1, 8).transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(layer.bias),
        strides,
        groups=4,
    )
    agrees(layer, x, last(expected))


def test_many_groups_in_a_large_batch():
    """More images than are multiplied at a time."""
    layer = Conv2D(normal(3, 3, 2, 12), normal(12), padding=(1, 1, 1, 1), groups=6)
    x = image(16, 16, 12, batch=40)
    kernel = torch.from_numpy(layer.kernel.transpose(3, 2, 0, 1).copy())
    expected = functional.conv2d(
        first(x), kernel, torch.from_numpy(layer.bias), padding=1, groups=6
    )
    agrees(layer, x, last(expected))


@pytest.mark.parametrize("size, stride", [((3, 3), (2, 2)), ((2, 3), (2, 1)), ((3, 3), (1, 1))])
def test_pooling_with_explicit_padding_is_pytorchs(size, stride):
    x = image(9, 8, 3)
    padding = (size[0] // 2, size[0] // 2, size[1] // 2, size[1] // 2)
    half = (size[0] // 2, size[1] // 2)
    most = functional.max_pool2d(first(x), size, stride, half)
    agrees(MaxPooling2D(size, stride, padding), x, last(most))
    for counted in (True, False):
        mean = functional.avg_pool2d(first(x), size, stride, half, count_include_pad=counted)
        layer = AveragePooling2D(size, stride, padding, count_padding=counted)
        agrees(layer, x, last(mean))


def test_ceil_mode_is_padding_at_the_end_that_does_not_count():
    x = image(8, 8, 2) - 5  # a maximum with zeros would be seen
    most = functional.max_pool2d(first(x), 3, 2, ceil_mode=True)
    agrees(MaxPooling2D(3, 2, (0, 1, 0, 1)), x, last(most))
    mean = functional.avg_pool2d(first(x), 3, 2, ceil_mode=True, count_include_pad=False)
    agrees(AveragePooling2D(3, 2, (0, 1, 0, 1)), x, last(mean))


@given(pairs, pairs, st.tuples(*[st.integers(0, 1)] * 2), st.booleans())
@settings(max_examples=40, deadline=None)
def test_transposed_convolution_is_pytorchs(size, strides, padding, more):
    padding = tuple(min(p, k - 1) for p, k in zip(padding, size, strict=True))
    added = tuple(min(int(more), s - 1) for s in strides)
    layer = Conv2DTranspose(
        normal(*size, 4, 3), normal(4), "relu", strides, np.repeat(padding, 2), added
    )
    x = image(5, 6, 3)
    expected = functional.conv_transpose2d(
        first(x),
        torch.from_numpy(layer.kernel.transpose(3, 2, 0, 1).copy()),
        torch.from_numpy(layer.bias),
        strides,
        padding,
        added,
    )
    agrees(layer, x, last(expected.relu()))


def test_upsampling_is_pytorchs():
    x = image(4, 5, 3)
    nearest = functional.interpolate(first(x), scale_factor=(2, 3), mode="nearest")
    agrees(UpSampling2D((2, 3)), x, last(nearest))
    for size in ((2, 3), (1, 4), (3, 1)):
        smooth = functional.interpolate(first(x), scale_factor=size, mode="bilinear")
        agrees(UpSampling2D(size, "bilinear"), x, last(smooth))


def test_global_maximum_and_prelu_are_pytorchs():
    x = image(5, 4, 3)
    agrees(GlobalMaxPooling2D(), x, first(x).amax((2, 3)).numpy())
    alpha = normal(3)
    agrees(PReLU(alpha), x, last(functional.prelu(first(x), torch.from_numpy(alpha))))


GRID = np.concatenate([np.linspace(-8, 8, 4001), [-3, 3, 0, 6, 2.5, -2.5]]).astype(np.float32)
TORCH = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "relu6": functional.relu6,
    "elu": functional.elu,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: torch.clip(0.2 * x + 0.5, 0, 1),
    "tanh": torch.tanh,
    "exponential": torch.exp,
    "silu": functional.silu,
    "hard_swish": functional.hardswish,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": functional.mish,
    "softmax": lambda x: functional.softmax(x, -1),
    "log_softmax": lambda x: functional.log_softmax(x, -1),
}


@pytest.mark.parametrize("name", TORCH)
def test_activations_are_pytorchs(name):
    agrees(Activation(name), GRID[None], TORCH[name](torch.from_numpy(GRID[None])).numpy())
    one = Dense(np.eye(4, dtype=np.float32), activation=name)
    x = normal(5, 4)
    agrees(one, x, TORCH[name](torch.from_numpy(x)).numpy())


def test_every_activation_is_compared():
    from netreduce.network.activations import ACTIVATIONS

    assert set(TORCH) == set(ACTIVATIONS)


PARAMETERS = [
    ("leaky_relu", {"negative_slope": 0.01}),
    ("leaky_relu", {"negative_slope": -0.5}),
    ("leaky_relu", {"negative_slope": 0.5, "max_value": 2.0}),
    ("leaky_relu", {"negative_slope": 0.5, "max_value": 2.0, "threshold": 1.0}),
    ("leaky_relu", {"negative_slope": -0.25, "threshold": 1.0}),
    ("relu", {"max_value": 2.5}),
    ("relu", {"threshold": 1.5}),
    ("relu", {"max_value": 6.0, "threshold": 0.5}),
    ("elu", {"alpha": 0.3}),
    ("elu", {"alpha": 2.0}),
    ("elu", {"alpha": -0.5}),
]


@pytest.mark.parametrize("name, parameters", [(n, {}) for n in TORCH] + PARAMETERS)
def test_the_properties_of_an_activation_hold(name, parameters):
    layer = Activation(name, **parameters)
    f, x = layer.function, np.sort(GRID.astype(np.float64))
    if not f.elementwise:
        return
    y = f.function(x)
    dx, dy = np.diff(x), np.diff(y)
    slopes = dy[dx > 0] / dx[dx > 0]
    least, greatest = f.slopes
    assert slopes.min() >= least - 1e-9 and slopes.max() <= greatest + 1e-9
    if np.isfinite(greatest):  # and no looser than 10 %
        assert slopes.max() >= 0.9 * greatest and abs(slopes.min() - least) <= 0.1
    assert f.lipschitz == max(abs(least), abs(greatest))
    assert f.monotone == (dy >= -1e-12).all()
    if f.minimum is not None:
        place, least_value = f.minimum
        assert (dy[x[1:] <= place] <= 1e-12).all() and (dy[x[:-1] >= place] >= -1e-12).all()
        assert least_value <= y.min() <= least_value + 1e-6
        assert f.function(np.array([place]))[0] >= least_value
    homogeneous = np.allclose(f.function(3 * x), 3 * y, rtol=1e-12, atol=0)
    assert f.positively_homogeneous == homogeneous


def test_parameters_that_a_function_does_not_have_are_refused():
    with pytest.raises(ParameterError, match="'tanh' has no parameter 'alpha'"):
        Activation("tanh", alpha=2.0)
    with pytest.raises(ParameterError, match="'relu' has no parameter 'negative_slope'"):
        Activation("relu", negative_slope=0.1)
    with pytest.raises(ParameterError, match="max_value must be a finite number not below 0"):
        Activation("relu", max_value=-1.0)
    with pytest.raises(ParameterError, match=r"threshold must be .*, found nan"):
        Activation("relu", threshold=float("nan"))
    with pytest.raises(UnsupportedLayerError, match="'swosh' is not supported; known: linear, "):
        Activation("swosh")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    return importlib.import_module("keras")


def by_keras(keras, layer, x, *arrays):
    layer.build(x.shape)
    if arrays:
        layer.set_weights(list(arrays))
    return np.asarray(layer(x))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("size, strides", [((3, 3), 1), ((2, 2), 2), ((3, 4), 2), ((2, 3), 3)])
def test_transposed_convolution_is_keras(keras, padding, size, strides):
    kernel, bias, x = normal(*size, 5, 3), normal(5), image(4, 6, 3)
    for more in (None, *range(strides)):
        if more == 0 and padding == "same" and any(k % 2 == 0 for k in size):
            continue  # Keras cannot compute these: TensorFlow refuses the shape
        theirs = keras.layers.Conv2DTranspose(5, size, strides, padding, output_padding=more)
        expected = by_keras(keras, theirs, x, kernel, bias)
        agrees(Conv2DTranspose(kernel, bias, "linear", strides, padding, more), x, expected)


def test_layers_without_weights_are_keras(keras):
    x = image(6, 5, 4)
    layers = keras.layers
    for ours, theirs in (
        (UpSampling2D((2, 3)), layers.UpSampling2D((2, 3))),
        (UpSampling2D((2, 3), "bilinear"), layers.UpSampling2D((2, 3), interpolation="bilinear")),
        (ZeroPadding2D((1, 0, 2, 3)), layers.ZeroPadding2D(((1, 0), (2, 3)))),
        (Cropping2D((1, 0, 2, 1)), layers.Cropping2D(((1, 0), (2, 1)))),
        (GlobalMaxPooling2D(), layers.GlobalMaxPooling2D()),
        (Reshape((5, 24)), layers.Reshape((5, 24))),
        (Permute((3, 1, 2)), layers.Permute((3, 1, 2))),
        (Rescaling(1 / 127.5, -1.0), layers.Rescaling(1 / 127.5, -1.0)),
        (Activation("relu", max_value=1.0), layers.ReLU(max_value=1.0)),
        (Activation("relu", threshold=0.5), layers.ReLU(threshold=0.5)),
        (
            Activation("leaky_relu", 0.1, max_value=1.0, threshold=0.5),
            layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.5),
        ),
        (Activation("elu", alpha=0.5), layers.ELU(0.5)),
        (Activation("hard_sigmoid"), layers.Activation("hard_sigmoid")),
        (Activation("hard_swish"), layers.Activation("hard_silu")),
    ):
        agrees(ours, x, by_keras(keras, theirs, x))


def test_normalization_and_prelu_are_keras_to_the_last_bit(keras):
    x, mean, variance = image(6, 5, 4), normal(4), normal(4) ** 2
    variance[0] = 0  # a constant feature
    theirs = keras.layers.Normalization(mean=mean, variance=variance)
    expected = by_keras(keras, theirs, x)
    np.testing.assert_array_equal(Normalization(mean, variance)(x), expected)
    for shared in (None, [1, 2]):
        theirs = keras.layers.PReLU(shared_axes=shared)
        theirs.build(x.shape)
        alpha = normal(*theirs.alpha.shape)
        theirs.set_weights([alpha])
        np.testing.assert_array_equal(PReLU(alpha)(x), np.asarray(theirs(x)))


@pytest.mark.parametrize("gate", [(4,), (1, 1, 4), (6, 5, 1), (6, 5, 4)])
def test_products_are_keras(keras, gate):
    x, y = image(6, 5, 4), normal(3, *gate)
    expected = np.asarray(keras.layers.Multiply()([x, y]))
    for inputs in ((x, y), (y, x)):
        np.testing.assert_array_equal(Multiply()(*inputs), expected)
        assert Multiply().output_shape(*(i.shape[1:] for i in inputs)) == expected.shape[1:]


def test_difference():
    x, y = normal(3, 4), normal(3, 4)
    np.testing.assert_array_equal(Subtract()(x, y), x - y)


def test_squeeze_and_excite_runs_as_a_network():
    layers = [
        Conv2D(normal(3, 3, 2, 4), padding=(1, 1, 1, 1)),
        GlobalMaxPooling2D(),
        Dense(normal(4, 4), activation="hard_sigmoid"),
        Multiply(),
        Add(),
    ]
    network = Network(layers, (6, 6, 2), [(-1,), (0,), (1,), (0, 2), (3, 0)])
    x = image(6, 6, 2)
    seen = layers[0](x)
    gate = layers[2](seen.max((1, 2)))[:, None, None]
    np.testing.assert_allclose(network.predict(x), seen * gate + seen, **CLOSE)
    assert network.names == ("conv2d_1", "global_max_pooling2d_1", "dense_1", "multiply_1", "add_1")


def test_a_plain_number_does_not_make_a_network_compute_in_float64():
    network = Network([Rescaling(1 / 255, 0), Normalization(0.5, 2), PReLU(0.1)], (3,))
    assert network.dtype == np.float32
    assert network.predict(np.ones((2, 3), np.uint8)).dtype == np.float32
    assert Network([Rescaling(np.array([0.5]))], (3,)).dtype == np.float64


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: Conv2D(np.ones((3, 3, 1, 1)), padding="full"),
            UnsupportedLayerError,
            "padding must be 'valid', 'same' or four whole numbers .*found 'full'",
        ),
        (lambda: MaxPooling2D(2, padding=1), UnsupportedLayerError, "four whole numbers.*found 1"),
        (
            lambda: Conv2D(np.ones((3, 3, 1, 1)), padding=(1, 1, 1)),
            UnsupportedLayerError,
            r"found \(1, 1, 1\)",
        ),
        (
            lambda: Conv2D(np.ones((3, 3, 1, 1)), padding=(1, 1, -1, 0)),
            UnsupportedLayerError,
            r"found \(1, 1, -1, 0\)",
        ),
        (
            lambda: Conv2D(np.ones((3, 3, 1, 1)), padding=((1, 1), (1, 1))),
            UnsupportedLayerError,
            "four whole numbers",
        ),
        (
            lambda: AveragePooling2D((3, 2), padding=(1, 1, 2, 0)),
            ParameterError,
            r"must be smaller than the windows \(3, 2\)",
        ),
        (
            lambda: Conv2D(np.ones((3, 3, 2, 6)), groups=4),
            ShapeError,
            "6 output channels cannot be cut into 4 groups",
        ),
        (
            lambda: Conv2D(np.ones((3, 3, 2, 6)), groups=0),
            ParameterError,
            r"groups must be positive integers, found \(0,\)",
        ),
        (
            lambda: Conv2D(np.ones((3, 3, 2, 6)), groups=3).output_shape((8, 8, 2)),
            ShapeError,
            r"expects inputs of shape \(height, width, 6\), found \(8, 8, 2\)",
        ),
        (
            lambda: Conv2D(np.ones((5, 5, 1, 1)), padding=(1, 0, 0, 0)).output_shape((3, 9, 1)),
            ShapeError,
            "a window of 5 does not fit into an image of 3 padded by 1",
        ),
        (
            lambda: Conv2DTranspose(np.ones((3, 3, 4, 2)), strides=2, output_padding=2),
            ParameterError,
            r"output_padding must be smaller than the strides \(2, 2\), found \(2, 2\)",
        ),
        (
            lambda: Conv2DTranspose(np.ones((3, 3, 4, 2))).output_shape((8, 8, 4)),
            ShapeError,
            r"Conv2DTranspose .* expects inputs of shape \(height, width, 2\)",
        ),
        (
            lambda: Conv2DTranspose(np.ones((1, 1, 4, 2)), padding=(1, 1, 0, 0)).output_shape(
                (2, 8, 2)
            ),
            ShapeError,
            "leaves nothing of an image of 2×8",
        ),
        (lambda: UpSampling2D(2, "bicubic"), UnsupportedLayerError, "found 'bicubic'"),
        (lambda: UpSampling2D(np.inf), ParameterError, "one or two positive integers, found inf"),
        (lambda: UpSampling2D("many"), ParameterError, "positive integers, found 'many'"),
        (lambda: UpSampling2D(0), ParameterError, "one or two positive integers, found 0"),
        (lambda: ZeroPadding2D((1, 2)), ParameterError, "four whole numbers .*, found"),
        (
            lambda: Cropping2D((3, 3, 0, 0)).output_shape((6, 6, 1)),
            ShapeError,
            r"leaves nothing of shape \(6, 6, 1\)",
        ),
        (
            lambda: Reshape((3, 5)).output_shape((4, 4)),
            ShapeError,
            r"expects 15 values, found shape \(4, 4\)",
        ),
        (lambda: Reshape((-1, 5)), ParameterError, r"positive integers, found \(-1, 5\)"),
        (lambda: Permute((0, 1)), ParameterError, r"positive integers, found \(0, 1\)"),
        (lambda: Permute((1, 3)), ParameterError, r"counted from 1, found \(1, 3\)"),
        (
            lambda: Permute((2, 1)).output_shape((4, 4, 1)),
            ShapeError,
            r"inputs with 2 axes, found shape \(4, 4, 1\)",
        ),
        (
            lambda: Multiply().output_shape((4, 4, 3), (2,)),
            ShapeError,
            r"found \(\(4, 4, 3\), \(2,\)\)",
        ),
        (lambda: Multiply().output_shape((4,)), ShapeError, r"two or more inputs"),
        (lambda: Subtract().output_shape((4,), (1,)), ShapeError, "two inputs of one shape"),
        (
            lambda: PReLU(np.ones(3)).output_shape((4, 4, 2)),
            ShapeError,
            r"alpha of shape \(3,\) does not fit inputs of shape \(4, 4, 2\)",
        ),
        (
            lambda: Rescaling(np.ones((2, 3))).output_shape((3,)),
            ShapeError,
            r"scale of shape \(2, 3\) does not fit",
        ),
        (lambda: Rescaling(np.inf), ParameterError, "Rescaling: scale must be finite"),
        (lambda: Normalization(0.0, -1.0), ParameterError, "variance must not be negative"),
        (lambda: GlobalMaxPooling2D().output_shape((4,)), ShapeError, "GlobalMaxPooling2D expects"),
    ],
)
def test_what_does_not_fit_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    "name",
    [
        "folding.batch_norm",
        "network.activations",
        "network.architectures",
        "network.layers.channelwise",
        "network.layers.joining",
        "network.layers.pooling",
        "network.layers.shaping",
        "network.layers.weighted",
        "network.layers.windows",
    ],
)
def test_examples_of_the_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"netreduce.{name}"))
    assert found.attempted and not found.failed


def test_a_deep_network_still_says_in_a_line_what_it_is():
    network = Network([Dense(np.eye(1)) for _ in range(200)], (1,))
    shown = "dense_1, dense_2, dense_3, … 196 more …, dense_200"
    assert repr(network) == f"<Network (1,) → (1,): {shown}; 400 parameters>"
