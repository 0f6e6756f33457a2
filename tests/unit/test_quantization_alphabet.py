"""Alphabets: levels, radii, nearest levels, and what makes none."""

from math import log2

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantization_definitions import levels, nearest

from netreduce.errors import ParameterError
from netreduce.quantization.alphabet import level_count, make_alphabet


def test_level_counts():
    assert [level_count(bits) for bits in (1.58, 1.585, log2(3), 2, np.int64(3), 4.0, 8)] == [
        3,
        3,
        3,
        4,
        8,
        16,
        256,
    ]


@pytest.mark.parametrize("bits", [0, 1, -2, 9, 2.5, "4", None, True, float("nan")])
def test_bits_that_make_no_alphabet(bits):
    with pytest.raises(
        ParameterError, match=r"bits must be 1\.58 \(ternary\) or a whole number from 2 to 8, found"
    ):
        level_count(bits)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([1.58, 2, 3, 5]), st.floats(0.3, 6), st.integers(0, 10**6))
def test_nearest_level(bits, scalar, seed):
    kernel = np.random.default_rng(seed).standard_normal((7, 5)).astype(np.float32)
    alphabet = make_alphabet(kernel, bits, scalar)
    plain = levels(scalar * np.median(np.abs(kernel)), level_count(bits))
    np.testing.assert_allclose(
        alphabet.scale * alphabet.nearest(kernel),
        [[nearest(plain, w) for w in row] for row in kernel],
        rtol=1e-6,
    )


def test_radii():
    kernel = np.array([[1.0, -4.0], [2.0, 3.0], [0.5, 8.0]])
    assert make_alphabet(kernel, 2, 3.0).scale * 3 == 3.0 * 2.5
    assert make_alphabet(kernel, 2, radius="max").scale * 3 == 8.0
    np.testing.assert_array_equal(make_alphabet(kernel, 2, 1.0, axes=(0,)).scale * 3, [[1.0, 4.0]])
    np.testing.assert_array_equal(
        make_alphabet(kernel, 2, radius="max", axes=(0,)).scale * 3, [[2.0, 8.0]]
    )


@pytest.mark.parametrize("axes", [None, (0,)])
def test_mse_radius_rounds_best(axes):
    kernel = np.random.default_rng(0).standard_normal((200, 3))

    def error(alphabet):
        return np.sum((alphabet.scale * alphabet.nearest(kernel) - kernel) ** 2)

    best = error(make_alphabet(kernel, 3, radius="mse", axes=axes))
    assert best < error(make_alphabet(kernel, 3, radius="max", axes=axes))
    assert all(
        best <= error(make_alphabet(kernel, 3, scalar, axes=axes)) * 1.01
        for scalar in (1, 2, 3, 4, 5)
    )


def test_no_alphabet():
    mostly_zero = np.zeros((4, 3))
    mostly_zero[0] = 1
    assert make_alphabet(np.zeros((2, 2)), 4).scale > 0
    with pytest.raises(
        ParameterError,
        match=r'at least half of its weights are: radius="max", "mse" or "output" can do',
    ):
        make_alphabet(mostly_zero, 4)
    assert make_alphabet(mostly_zero, 4, radius="max").scale > 0
    with pytest.raises(ParameterError, match=r"the median \|W\| is zero in 2 of 3 channels"):
        make_alphabet(mostly_zero * [1, 0, 1], 4, axes=(0,))
    assert (make_alphabet(mostly_zero * [1, 0, 1], 4, radius="max", axes=(0,)).scale > 0).all()
