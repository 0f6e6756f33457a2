"""Lossless compression: what goes, that the outputs stay, and that a record repeats it."""

import json
from itertools import pairwise

import numpy as np
import pytest

import netreduce as nr
from netreduce.errors import ParameterError, UnsupportedLayerError, VerificationError
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    Multiply,
    Quantization,
)
from netreduce.pruning import lossless as module
from netreduce.pruning.lossless import lossless, replay


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def mlp(widths, seed=0, spread=1.5, dtype=np.float32):
    layers = [
        Dense(
            (normal(*pair, seed=seed) / np.sqrt(pair[0])).astype(dtype),
            (spread * normal(pair[1], seed=seed)).astype(dtype),
            "relu",
        )
        for pair in pairwise(widths)
    ]
    return Network([*layers[:-1], layers[-1].replace(activation="linear")], widths[:1])


def points(network, low=0.0, high=1.0, number=400):
    rng = np.random.default_rng(5)
    shape = (number, *network.input_shape)
    both = np.concatenate([rng.random(shape), rng.integers(0, 2, shape)])
    return (low + both * (np.asarray(high) - low)).astype(network.dtype)


def assert_equal(network, compressed, low=0.0, high=1.0):
    x = points(network, low, high)
    expected = network.predict(x)
    atol = 1e-5 * max(1, np.abs(expected).max())
    np.testing.assert_allclose(compressed.predict(x), expected, rtol=0, atol=atol)


def assert_same(first, second):
    assert first.shapes == second.shapes
    for one, other in zip(first.layers, second.layers, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])


def test_public_name():
    assert nr.lossless is lossless


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_stay_the_same_and_records_repeat(seed):
    network = mlp((6, 12, 10, 3), seed)
    result = lossless(network)
    assert_equal(network, result.network)
    assert sum(result.removed.values()) > 2
    record = json.loads(json.dumps(result.record()))
    assert_same(replay(network, record), result.network)


@pytest.mark.parametrize("seed", range(6))
def test_neurons_go_that_never_change_their_side_on_a_dense_grid_of_inputs(seed):
    network = mlp((2, 8, 6, 2), seed, spread=0.7)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 200)] * 2), -1).reshape(-1, 2)
    hidden = network.layers[0](grid)
    seen = (hidden > 0).any(axis=0), (hidden <= 0).any(axis=0)
    gone = lossless(network).removed.get("dense_1", 0)
    stable = int((~(seen[0] & seen[1])).sum())
    assert gone <= stable
    assert gone >= min(7, int((~seen[0]).sum()))


def test_neurons_that_are_never_active_go():
    hidden = Dense(np.eye(3), [-2.0, -0.5, -1.0], "relu")  # the last one is 0 at most
    network = Network([hidden, Dense(np.ones((3, 2)), [0.5, -0.5])], (3,))
    result = lossless(network)
    assert result.record()["inactive"] == {"dense_1": [0, 2]}
    assert result.network.layers[0].outputs == 1
    assert_equal(network, result.network)
    assert lossless(network, (0, 3)).removed == {}


def test_linear_neurons_that_depend_on_others_go_and_layers_that_are_linear_merge():
    first = Dense(normal(3, 8), np.full(8, 20.0), "relu")  # all active, of rank 3
    second = Dense(normal(8, 5), normal(5), "relu")
    network = Network([first, second, Dense(normal(5, 2))], (3,))
    result = lossless(network, (-1, 1))
    record = result.record()
    assert len(record["dependent"]["dense_1"]["neurons"]) == 5
    assert record["linear"] == ["dense_1"]
    assert result.removed["dense_1"] == 8
    assert result.network.layers[0].kernel.shape[0] == 3
    assert len(result.network.layers) == 2
    assert_equal(network, result.network, -1.0)
    assert_same(replay(network, record), result.network)


def test_a_linear_layer_stays_where_merging_would_make_more_weights():
    narrow = Dense(normal(10, 2), np.full(2, 50.0), "relu")
    network = Network([narrow, Dense(normal(2, 10), -np.abs(normal(10)), "relu")], (10,))
    assert len(lossless(network).network.layers) == 2


def test_cases_prove_what_the_relaxation_does_not():
    # relu(x) + relu(-x) is |x| ≤ 1, for the relaxation up to 2
    first = Dense([[1.0, -1.0]], activation="relu")
    second = Dense([[1.0, 1.0], [1.0, 0.0]], [-1.1, 0.0], "relu")
    network = Network([first, second, Dense(np.ones((2, 1)))], (1,))
    assert lossless(network, (-1, 1)).record()["inactive"]["dense_2"] == [0]


def test_batch_normalization_activations_and_pooling_behind_convolutions():
    norm = BatchNormalization(*(np.abs(normal(6, seed=i)) + 0.1 for i in range(4)))
    norm = norm.replace(beta=np.array([-99, 0.1, 0.1, -99, 0.1, 0.1], np.float32))
    layers = [
        Conv2D(normal(3, 3, 2, 6) / 5, normal(6), padding="same"),
        norm,
        Activation("relu"),
        MaxPooling2D(),
        Conv2D(normal(3, 3, 6, 4) / 5, np.array([9.0, -99, 0.1, 0.2], np.float32), "relu"),
        Flatten(),
        Dense(normal(16, 3)),
    ]
    network = Network(layers, (8, 8, 2))
    result = lossless(network)
    assert {0, 3} <= set(result.record()["inactive"]["conv2d_1"])
    assert result.removed["conv2d_1"] == len(result.record()["inactive"]["conv2d_1"]) < 6
    assert result.removed["conv2d_2"] == 1
    assert_equal(network, result.network)
    assert_same(replay(network, result.record()), result.network)


@pytest.mark.parametrize("first", [[], [Activation("relu")]])
def test_convolutions_without_pooling(first):
    bias = np.array([-99, 0.1, 0.1], np.float32)
    layers = [
        *first,
        Conv2D(normal(3, 3, 2, 3) / 5, bias, "relu"),
        Flatten(),
        Dense(normal(48, 4) / 5, np.array([0.1, -0.5, 9, -99], np.float32), "relu"),
        Dense(normal(4, 2)),
    ]
    network = Network(layers, (6, 6, 2))
    result = lossless(network, (-0.2, 0.2))
    assert result.removed["conv2d_1"] == 1 and result.removed["dense_1"] >= 1
    assert_equal(network, result.network, -0.2, 0.2)


def test_networks_that_branch():
    branches = [Dense(normal(4, 5), np.array([-9, 9, -9, 9, 0.0], np.float32), "relu")] * 2
    layers = [*branches, Add(), Dense(normal(5, 5), np.full(5, 9.0), "relu"), Dense(normal(5, 2))]
    network = Network(layers, (4,), [(-1,), (-1,), (0, 1), (2,), (3,)])
    result = lossless(network)
    assert_equal(network, result.network)
    assert_same(replay(network, result.record()), result.network)


def test_dropout_between_and_several_readers():
    first = Dense(normal(2, 6), np.full(6, 9.0), "relu")
    layers = [first, Dropout(0.5), Dense(normal(6, 3)), Dense(normal(6, 3)), Add()]
    network = Network(layers, (2,), [(-1,), (0,), (1,), (0,), (2, 3)])
    result = lossless(network)
    assert result.network.layers[0].outputs == 2
    assert_equal(network, result.network)


def test_quantized_layers_are_left_as_they_are():
    codes = np.array([[1.0, -1.0, 1.0], [1.0, -1.0, -1.0]])
    hidden = Dense(codes, [0, -1, 0], "relu", quantization=Quantization(np.asarray(1.0), 1.0))
    network = Network([hidden, Dense(np.ones((3, 1)))], (2,))
    result = lossless(network)
    assert result.removed == {}
    np.testing.assert_array_equal(result.network.layers[0].codes, codes)


def test_a_range_of_arrays_and_a_softmax_at_the_end():
    network = mlp((4, 8, 3))
    network = network.replace({1: network.layers[1].replace(activation="softmax")})
    low, high = np.zeros(4), np.array([0.0, 0.1, 1, 1])
    assert_equal(network, lossless(network, (low, high)).network, low, high)


def test_what_is_refused(monkeypatch):
    network = mlp((4, 8, 3))
    with pytest.raises(ParameterError, match="input_range is empty"):
        lossless(network, (1, 0))
    kernel = network.layers[0].kernel.copy()
    kernel[0, 0] = np.nan
    with pytest.raises(ParameterError, match="dense_1: 1 values of its kernel are NaN"):
        lossless(network.replace({0: network.layers[0].replace(kernel=kernel)}))
    product = Network([Dense(normal(4, 4)), Multiply()], (4,), [(-1,), (0, -1)])
    with pytest.raises(UnsupportedLayerError, match="multiply_1"):
        lossless(product)
    record = lossless(mlp((6, 12, 10, 3), 1)).record()
    with pytest.raises(ParameterError, match="the record is of another network: no layer dense_2"):
        replay(network, record)
    record["inactive"] = {"dense_1": [9]}
    with pytest.raises(ParameterError, match="neuron 9 of dense_1, which has 8"):
        replay(network, record)
    monkeypatch.setattr(module, "TOLERANCE", 0.0)
    with pytest.raises(VerificationError, match="lossless: outputs differ by"):
        for seed in range(20):
            lossless(mlp((2, 9, 8, 3), seed, spread=4))


def test_a_network_without_hidden_layers():
    network = Network([Dense(normal(3, 2))], (3,))
    result = lossless(network)
    assert result.removed == {}
    assert_same(result.network, network)
