import sys

import numpy as np
import pytest

from netreduce.errors import ParameterError, SampleError
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    MaxPooling2D,
)
from netreduce.pruning.nnrelief import nnrelief


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def smallest_set(signals, fraction):
    """Indices of the largest signals, one after the other until they carry the fraction."""
    kept = []
    for i in sorted(range(len(signals)), key=lambda i: -signals[i]):
        if sum(signals[j] for j in kept) >= fraction * sum(signals):
            break
        kept.append(i)
    return kept


@pytest.mark.parametrize("fraction", [0.3, 0.9, 0.999])
def test_dense_layers_keep_what_the_definition_says(fraction):
    network = Network(
        [Dense(normal(6, 5), normal(5), "relu"), Dense(normal(5, 3), normal(3))], (6,)
    )
    x = normal(40, 6)
    pruned, value = nnrelief(network, x, fraction), x
    for before, after in zip(network.layers, pruned.layers, strict=True):
        for j in range(before.outputs):
            signals = [*np.abs(before.kernel[:, j] * value).mean(axis=0), abs(before.bias[j])]
            kept = np.isin(np.arange(len(signals)), smallest_set(signals, fraction))
            np.testing.assert_array_equal(after.kernel[:, j], before.kernel[:, j] * kept[:-1])
            assert after.bias[j] == before.bias[j] * kept[-1]
        value = before(value)  # signals of the network before pruning


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_convolutions_keep_whole_kernel_slices(padding):
    layer = Conv2D(normal(3, 2, 4, 5), normal(5), "relu", strides=(2, 1), padding=padding)
    network = Network(
        [layer, Flatten(), Dense(np.ones((np.prod(layer.output_shape((7, 6, 4))), 2)))], (7, 6, 4)
    )
    x = normal(10, 7, 6, 4)
    after = nnrelief(network, x, 0.7).layers[0]
    patches = np.abs(layer.patches(x))
    for j in range(5):
        signals = [
            (patches[..., c] * np.abs(layer.kernel[:, :, c, j])).sum(axis=(3, 4)).mean()
            for c in range(4)
        ] + [abs(layer.bias[j])]
        kept = np.isin(np.arange(5), smallest_set(signals, 0.7))
        np.testing.assert_array_equal(after.kernel[..., j], layer.kernel[..., j] * kept[:-1])
        assert after.bias[j] == layer.bias[j] * kept[-1]


def test_depthwise_convolutions_weigh_their_one_slice_against_the_bias():
    kernel, bias = np.ones((3, 3, 2, 2), np.float32), np.zeros(4, np.float32)
    kernel[:, :, 0, 1] = 1e-6
    bias[1] = 5
    network = Network([DepthwiseConv2D(kernel, bias), MaxPooling2D()], (4, 4, 2))
    after = nnrelief(network, np.ones((3, 4, 4, 2)), 0.9).layers[0]
    assert not after.kernel[:, :, 0, 1].any()
    assert (after.kernel == kernel).all(axis=(0, 1)).sum() == 3
    np.testing.assert_array_equal(after.bias, bias)


def test_neurons_that_never_fire_lose_everything_but_outputs_do_not():
    dead = np.array([[1, -1], [1, -1]], np.float32)
    network = Network(
        [Dense(dead, [0, -1], "relu"), Dense(np.array([[-1.0], [1.0]]), [-1], "relu")], (2,)
    )
    pruned = nnrelief(network, np.ones((4, 2)), 1)
    np.testing.assert_array_equal(pruned.layers[0].kernel, [[1, 0], [1, 0]])
    np.testing.assert_array_equal(pruned.layers[0].bias, [0, 0])
    np.testing.assert_array_equal(pruned.layers[1].kernel, [[-1], [0]])
    np.testing.assert_array_equal(pruned.layers[1].bias, [-1])


def test_on_its_samples_the_full_fraction_changes_nothing():
    network = Network(
        [Dense(normal(6, 5), normal(5), "relu"), Dense(normal(5, 3), normal(3))], (6,)
    )
    x = normal(40, 6) * (np.arange(6) > 1)  # two inputs carry nothing
    pruned = nnrelief(network, x, 1)
    assert not pruned.layers[0].kernel[:2].any()
    np.testing.assert_allclose(pruned.predict(x), network.predict(x), atol=1e-6)


def test_residual_networks_and_batches(monkeypatch):
    layers = [
        Dense(normal(4, 4), normal(4), "relu"),
        Dense(normal(4, 4, seed=1), normal(4), "relu"),
        Add(),
        Dense(normal(4, 2)),
    ]
    network = Network(layers, (4,), [(-1,), (0,), (0, 1), (2,)])
    x = normal(50, 4)
    whole = nnrelief(network, x, 0.8)
    monkeypatch.setattr(sys.modules[nnrelief.__module__], "BATCH", 7)
    for one, other in zip(whole.layers, nnrelief(network, x, 0.8).layers, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])
    assert (
        sum(np.count_nonzero(layer.kernel) for layer in whole.layers if not isinstance(layer, Add))
        < 40
    )


@pytest.mark.parametrize("samples", [None, np.ones((0, 4))])
def test_no_samples(samples):
    with pytest.raises(SampleError, match="nnrelief measures signals on samples, found none"):
        nnrelief(Network([Dense(normal(4, 2))], (4,)), samples, 0.9)


def test_samples_of_another_shape():
    with pytest.raises(
        SampleError, match=r"samples must have shape \(samples, 4\), found \(3, 5\)"
    ):
        nnrelief(Network([Dense(normal(4, 2))], (4,)), np.ones((3, 5)), 0.9)


@pytest.mark.parametrize("join", [Add(), Concatenate()])
def test_a_tensor_that_is_read_twice(join):
    layers = [Dense(normal(4, 6), normal(6), "relu"), join, Dense(normal(join_width(join), 3))]
    network = Network(layers, (4,), [(-1,), (0, 0), (1,)])
    pruned = nnrelief(network, normal(20, 4), 0.8)
    assert 0 < np.count_nonzero(pruned.layers[0].kernel) < 24


def join_width(join):
    return 6 if isinstance(join, Add) else 12


@pytest.mark.parametrize(
    "behind",
    [
        [Activation("relu")],
        [BatchNormalization(*(np.ones(5, np.float32),) * 4), Activation("relu")],
        [Dropout(), Activation("relu")],
    ],
)
def test_a_neuron_is_dead_behind_normalization_and_activation(behind):
    bias = np.float32([-99, 1, -99, 1, 1])
    network = Network([Dense(normal(6, 5), bias), *behind, Dense(normal(5, 3))], (6,))
    pruned = nnrelief(network, normal(40, 6), 0.9).layers[0]
    assert pruned.kernel.any(axis=0).tolist() == [False, True, False, True, True]
    assert (pruned.bias[[0, 2]] == 0).all()


def test_the_frobenius_norm_of_the_authors_program():
    layer = Conv2D(normal(3, 3, 4, 5), normal(5), "relu", strides=2, padding="same")
    network = Network([layer, Flatten(), Dense(normal(80, 2))], (8, 7, 4))
    x = normal(10, 8, 7, 4)
    after = nnrelief(network, x, 0.7, norm="frobenius").layers[0]
    means = np.abs(layer.patches(x)).mean(axis=0)
    for j in range(5):
        maps = (means * np.abs(layer.kernel[..., j])).sum(axis=(2, 3))
        signals = [np.linalg.norm(maps[..., c]) for c in range(4)]
        signals.append(abs(layer.bias[j]) * np.sqrt(16))
        kept = np.isin(np.arange(5), smallest_set(signals, 0.7))
        np.testing.assert_array_equal(after.kernel[..., j], layer.kernel[..., j] * kept[:-1])
        assert after.bias[j] == layer.bias[j] * kept[-1]
    with pytest.raises(ParameterError, match="norm must be one of sum, frobenius, found 'max'"):
        nnrelief(network, x, 0.7, norm="max")
