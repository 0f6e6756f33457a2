import math
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from netreduce.errors import ModelFileError, ParameterError, VerificationError
from netreduce.measures.packing import CODINGS, _digits, _from_digits, _gaps, _places, pack, unpack
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
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Quantization,
)

LEVELS = {1.58: 3, 2: 4, 3: 8, 4: 16, 8: 256}


def quantized(rng, shape, bits, zeros=0.0, scale=0.0123):
    """A kernel on the grid of that many bits, some of its codes 0."""
    top = LEVELS[bits] - 1
    codes = 2 * rng.integers(0, top + 1, shape) - top
    codes[rng.random(shape) < zeros] = 0
    scale = np.asarray(scale)
    return {
        "kernel": (scale * codes).astype(np.float32),
        "quantization": Quantization(scale, math.log2(LEVELS[bits])),
    }


def mlp(bits=None, zeros=0.0, widths=(20, 30, 10), seed=0):
    rng = np.random.default_rng(seed)
    layers = [Flatten()]
    for shape in pairwise(widths):
        kernel = rng.normal(size=shape).astype(np.float32) * (rng.random(shape) >= zeros)
        values = {"kernel": kernel} if bits is None else quantized(rng, shape, bits, zeros)
        layers.append(
            Dense(**values, bias=rng.normal(size=shape[1]).astype(np.float32), activation="relu")
        )
    return Network(layers, (widths[0],))


def assert_same(a, b):
    """Equal in every field of every layer, weights bit for bit."""
    assert (a.input_shape, a.sources, a.shapes) == (b.input_shape, b.sources, b.shapes)
    for one, other in zip(a.layers, b.layers, strict=True):
        assert type(one) is type(other)
        for field in fields(one):
            x, y = getattr(one, field.name), getattr(other, field.name)
            if isinstance(x, Quantization):
                assert (x.bits, x.quantized_bias) == (y.bits, y.quantized_bias)
                x, y = x.scale, y.scale
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y)
            else:
                assert x == y


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("bits", [None, 1.58, 2, 3, 4, 8])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.99])
def test_the_very_same_weights_come_back(coding, bits, zeros):
    network = mlp(bits, zeros)
    assert_same(unpack(pack(network, coding)), network)


@pytest.mark.parametrize("coding", CODINGS)
def test_every_kind_of_layer_comes_back(coding):
    rng = np.random.default_rng(1)
    layers = [
        Conv2D(
            **quantized(rng, (3, 3, 2, 4), 2, scale=rng.random((1, 1, 1, 4)) + 0.1),
            activation="relu",
            strides=2,
            padding="same",
        ),
        BatchNormalization(*rng.random((4, 4)).astype(np.float32), epsilon=1e-5),
        DepthwiseConv2D(rng.normal(size=(3, 3, 4, 1)), dilation=(2, 1), padding="same"),
        Add(),
        Concatenate(),
        MaxPooling2D((2, 2), padding="same"),
        AveragePooling2D((2, 2), 1),
        Activation("leaky_relu", 0.3),
        Dropout(0.25),
        GlobalAveragePooling2D(),
        Dense(rng.normal(size=(8, 3)), activation="softmax"),
    ]
    network = Network(
        layers, (9, 8, 2), [(-1,), (0,), (1,), (1, 2), (3, 1), (4,), (5,), (6,), (7,), (8,), (9,)]
    )
    assert_same(unpack(pack(network, coding)), network)


def test_quantized_biases_and_double_precision_come_back():
    grid = Quantization(np.array([[0.25, 0.5]]), 2, quantized_bias=True)
    layer = Dense(np.array([[0.25, 1.5], [-0.75, -0.5]]), np.array([0.25, -1.5]), quantization=grid)
    network = Network([layer, Dense(np.random.default_rng(0).normal(size=(2, 2)))], (2,))
    for coding in CODINGS:
        assert_same(unpack(pack(network, coding)), network)


@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.sampled_from([0.0, 1.5, -2.25, 1e-30, 3e38]),
    ),
    st.sampled_from(CODINGS),
)
def test_any_numbers_come_back(kernel, coding):
    network = Network([Dense(kernel)], kernel.shape[:1])
    assert_same(unpack(pack(network, coding)), network)


@given(st.integers(1, 70000), st.sampled_from([np.uint8, np.uint64]), st.data())
def test_digits_come_back(levels, smallest, data):
    indices = np.array(data.draw(st.lists(st.integers(0, levels - 1), max_size=100)), np.intp)
    word = np.result_type(smallest, np.min_scalar_type(levels - 1))
    np.testing.assert_array_equal(
        _from_digits(_digits(indices, levels, word), levels, len(indices), word), indices
    )


@given(st.lists(st.integers(0, 3000), unique=True, max_size=60))
def test_gaps_come_back(places):
    places = np.sort(np.array(places, np.intp))
    np.testing.assert_array_equal(_places(_gaps(places)), places)


@pytest.mark.parametrize(("bits", "expected"), [(1.58, 1.6), (2, 2.0), (3, 64 / 21), (4, 4.0)])
def test_dense_codes_take_no_more_than_their_bits(bits, expected):
    network = mlp(bits, widths=(200, 200, 200))
    payload = (
        len(pack(network, "dense"))
        - len(pack(mlp(bits, widths=(1, 1, 1)), "dense"))
        - 4 * (400 - 2)
    )
    assert payload * 8 / 80_000 == pytest.approx(expected, rel=0.02)


def test_sparse_and_entropy_coded_files_are_smaller_where_there_is_something_to_save():
    sizes = {
        coding: len(pack(mlp(4, zeros=0.97, widths=(200, 200, 200)), coding)) for coding in CODINGS
    }
    assert sizes["entropy"] < sizes["sparse"] < sizes["dense"] < sizes["float"]


def test_entropy_coding_comes_close_to_the_entropy():
    network = mlp(2, zeros=0.5, widths=(300, 300, 300))
    _, counts = np.unique(network.layers[1].kernel, return_counts=True)
    share = counts / counts.sum()
    entropy = -(share * np.log2(share)).sum()
    assert len(pack(network)) * 8 / 180_000 < 1.1 * entropy + 32 * 600 / 180_000


def test_packing_is_deterministic():
    assert pack(mlp(4)) == pack(mlp(4))


def test_unknown_coding():
    with pytest.raises(
        ParameterError, match=r"coding must be one of float, dense, sparse, entropy, found 'zip'"
    ):
        pack(mlp(), "zip")


def test_weights_off_their_grid():
    layer = Dense(np.full((2, 2), 0.3, np.float32), quantization=Quantization(0.25, 2))
    with pytest.raises(VerificationError, match=r"dense_1: its kernel does not lie on the grid"):
        pack(Network([layer], (2,)), "dense")


def test_something_else_than_a_packed_network():
    with pytest.raises(
        ModelFileError,
        match=r"not a packed network: expected the first bytes b'netreduce1', found b'PK'",
    ):
        unpack(b"PK")


def test_a_damaged_file():
    data = bytearray(pack(mlp()))
    data[-1] ^= 1
    with pytest.raises(ModelFileError, match="damaged"):
        unpack(bytes(data))


@pytest.mark.parametrize(("nonzeros", "most"), [(10, 400), (5000, 22_500)])
def test_positions_are_gaps_or_a_mask_whichever_is_shorter(nonzeros, most):
    """10,000 positions take 1,250 bytes as a mask, and about one byte a non-zero as gaps."""
    rng = np.random.default_rng(0)
    kernel = np.zeros((100, 100), np.float32)
    kernel.flat[rng.choice(kernel.size, nonzeros, replace=False)] = rng.normal(size=nonzeros)
    network = Network([Dense(kernel)], (100,))
    assert len(pack(network, "sparse")) < most
    assert_same(unpack(pack(network, "sparse")), network)


def test_as_many_distinct_values_as_a_byte_holds_are_coded_as_bytes():
    values = np.random.default_rng(0).normal(size=256).astype(np.float32)
    network = Network([Dense(np.resize(values, (100, 100)))], (100,))
    assert len(pack(network, "dense")) < 10_000 + 4 * 256 + 500 + 400
    assert_same(unpack(pack(network, "dense")), network)


def test_codes_beyond_a_byte_come_back():
    codes = np.array([[128, -3], [1, -128]])
    kernel = (0.5 * codes).astype(np.float32)
    network = Network([Dense(kernel, quantization=Quantization(0.5, 8))], (2,))
    for coding in CODINGS:
        np.testing.assert_array_equal(unpack(pack(network, coding)).layers[0].codes, codes)
