import math

import numpy as np
import pytest

from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Quantization,
)
from netreduce.pruning.structured import structured


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def silence(network, index, removed, ends):
    """The network with the readers of some channels of a layer cut off: what removing these
    channels must compute.

    `ends` maps each layer that reads the channels, through whatever lies between, to the rows of
    its kernel for one channel.
    """
    changes = {}
    for end, rows in ends.items():
        kernel = network.layers[end].kernel.copy()
        for channel in removed:
            kernel[rows(channel)] = 0
        changes[end] = network.layers[end].replace(kernel=kernel)
    return network.replace(changes)


def weakest(layer, count):
    norms = np.abs(layer.kernel).reshape(-1, layer.outputs).sum(axis=0)
    return np.argsort(norms)[:count]


def test_dense_layers_lose_the_neurons_of_smallest_norm():
    network = Network(
        [Dense(normal(6, 8), normal(8), "relu"), Dense(normal(8, 3), normal(3))], (6,)
    )
    x = normal(20, 6)
    pruned = structured(network, 0.5)
    assert pruned.shapes == ((4,), (3,))
    silent = silence(network, 0, weakest(network.layers[0], 4), {1: lambda c: c})
    np.testing.assert_allclose(pruned.predict(x), silent.predict(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", [[], [MaxPooling2D()], [AveragePooling2D(padding="same")]])
def test_channels_go_through_normalization_pooling_and_flatten(pooling):
    between = [
        BatchNormalization(*np.random.default_rng(0).random((4, 8)).astype(np.float32)),
        Activation("relu"),
        Dropout(),
        *pooling,
    ]
    head = [Conv2D(normal(3, 3, 2, 8), normal(8), padding="same"), *between, Flatten()]
    positions = math.prod(Network(head, (5, 4, 2)).shapes[-2][:2])
    network = Network([*head, Dense(normal(8 * positions, 3), normal(3))], (5, 4, 2))
    x = normal(6, 5, 4, 2)
    pruned = structured(network, 0.6)
    assert pruned.shapes[0] == (5, 4, 5)
    silent = silence(
        network,
        0,
        weakest(network.layers[0], 3),
        {len(network.layers) - 1: lambda c: slice(c, None, 8)},
    )
    np.testing.assert_allclose(pruned.predict(x), silent.predict(x), rtol=1e-4, atol=1e-5)


def test_channels_go_through_depthwise_convolutions():
    layers = [
        Conv2D(normal(1, 1, 2, 4), normal(4), "relu"),
        DepthwiseConv2D(normal(3, 3, 4, 2), normal(8)),
        GlobalAveragePooling2D(),
        Dense(normal(8, 3)),
    ]
    network = Network(layers, (5, 5, 2))
    pruned = structured(network, 0.5)
    assert pruned.shapes == ((5, 5, 2), (3, 3, 4), (4,), (3,))
    silent = silence(
        network, 0, weakest(network.layers[0], 2), {3: lambda c: slice(2 * c, 2 * c + 2)}
    )
    x = normal(4, 5, 5, 2)
    np.testing.assert_allclose(pruned.predict(x), silent.predict(x), rtol=1e-4, atol=1e-5)


def test_two_readers_are_both_narrowed():
    layers = [
        Dense(normal(4, 6), normal(6), "relu"),
        Dense(normal(6, 3)),
        Dense(normal(6, 3, seed=1)),
        Add(),
    ]
    network = Network(layers, (4,), [(-1,), (0,), (0,), (1, 2)])
    pruned = structured(network, 0.5)
    assert pruned.shapes == ((3,), (3,), (3,), (3,))
    removed = weakest(network.layers[0], 3)
    silent = silence(network, 0, removed, {1: lambda c: c, 2: lambda c: c})
    x = normal(5, 4)
    np.testing.assert_allclose(pruned.predict(x), silent.predict(x), rtol=1e-5, atol=1e-6)


def test_a_residual_block_is_pruned_whole():
    shape = (3, 3, 4, 4)
    layers = [
        Conv2D(normal(*shape), padding="same"),
        Conv2D(normal(*shape, seed=1), padding="same"),
        Conv2D(normal(*shape, seed=2), padding="same"),
    ]
    network = Network(
        [*layers, Add(), Activation("relu"), Flatten(), Dense(normal(36, 2))],
        (3, 3, 4),
        [(-1,), (0,), (1,), (0, 2), (3,), (4,), (5,)],
    )
    assert [
        layer.outputs for layer in structured(network, 0.5).layers if hasattr(layer, "outputs")
    ] == [2, 2, 2, 2]


def test_neurons_that_a_softmax_couples_stay():
    network = Network(
        [
            Dense(normal(4, 6)),
            Activation("softmax"),
            Dense(normal(6, 5), activation="softmax"),
            Dense(normal(5, 2)),
        ],
        (4,),
    )
    assert structured(network, 0.5).shapes == network.shapes


def test_quantized_layers_keep_codes_and_scales():
    codes = 2 * np.random.default_rng(0).integers(0, 4, (3, 3, 6, 6)) - 3
    scales = np.arange(1.0, 7)
    for scale in (
        np.array(0.5),
        scales,
        scales[:, None],
    ):  # one for the layer, one for every output, one for every input
        first = Conv2D((scale * codes).astype(np.float32), quantization=Quantization(scale, 2))
        network = Network([first, first, Flatten(), Dense(normal(6, 2))], (5, 5, 6))
        for layer in structured(network, 0.5).layers[:2]:
            assert set(np.unique(layer.codes)) <= {-3, -1, 1, 3}
            np.testing.assert_array_equal(
                layer.kernel, (layer.quantization.scale * layer.codes).astype(np.float32)
            )


def test_everything_kept_and_never_nothing():
    network = Network([Dense(normal(6, 8), normal(8), "relu"), Dense(normal(8, 3))], (6,))
    np.testing.assert_array_equal(structured(network, 1).layers[0].kernel, network.layers[0].kernel)
    assert structured(network, 1e-9).shapes == ((1,), (3,))


def test_norms_are_those_of_what_is_left_of_the_layer_before():
    first = Dense(np.float32([[0.1, 5, 5]]))
    second = Dense(np.float32([[99, 1], [0, 1], [0, 1]]))  # neuron 0 reads what goes
    pruned = structured(Network([first, second, Dense(np.float32([[1], [2]]))], (1,)), 0.5)
    np.testing.assert_array_equal(pruned.layers[0].kernel, [[5, 5]])
    np.testing.assert_array_equal(pruned.layers[2].kernel, [[2]])
