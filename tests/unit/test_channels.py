"""Channels that go together: without them the network computes what it computed with zeros in their
place, on random graphs of all kinds of layers.
"""

import numpy as np
import pytest
from every_layer import CHAINS, SHAPE

from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Multiply,
    Quantization,
    Subtract,
)


def silenced(channels, gone):
    """The network whose layers with weights read zeros in place of the channels that go."""
    network, changes = channels.network, {}
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Dense | Conv2D | Conv2DTranspose):
            mask = ~np.isin(channels.classes[network.sources[index][0]], gone)
            if mask.all():
                continue
            axis = -1 if isinstance(layer, Conv2DTranspose) else -2
            mask = np.expand_dims(
                mask, tuple(range(-layer.kernel.ndim, axis)) + tuple(range(axis + 1, 0))
            )
            changes[index] = layer.replace(kernel=layer.kernel * mask)
    return network.replace(changes)


def some(channels, rng):
    """Classes that may go together: of every group some, not all."""
    gone = [np.zeros(0, int)]
    for group in channels.groups():
        members = channels.members(group)
        size = rng.integers(0, len(members))
        lost = rng.choice(members, size, replace=False)
        if all((~np.isin(channels.classes[i], lost)).any() for i in group):
            gone.append(lost)
    return np.concatenate(gone)


def random_graph(rng):
    """Images through convolutions that meet in sums, products and concatenations."""
    layers, sources, shapes = [], [], [(6, 6, 2)]

    def add(layer, *reads):
        layers.append(layer)
        sources.append(tuple(read - 1 for read in reads))
        shapes.append(layer.output_shape(*(shapes[read] for read in reads)))
        return len(layers)

    def normal(*shape):
        return rng.standard_normal(shape).astype(np.float32) / np.sqrt(np.prod(shape[:-1]))

    def conv(read, outputs):
        size = int(rng.integers(1, 4))
        kernel = normal(size, size, shapes[read][2], outputs)
        return add(Conv2D(kernel, normal(outputs), "relu", padding="same"), read)

    last = conv(0, 4)
    for _ in range(int(rng.integers(2, 8))):
        channels = shapes[last][2]
        equals = [i for i in range(1, len(shapes)) if shapes[i] == shapes[last]]
        other = int(rng.choice(equals))
        match rng.integers(8):
            case 0:
                last = conv(last, int(rng.integers(2, 6)))
            case 1:
                scales = [np.abs(normal(channels)) + 0.5 for _ in range(2)]
                norm = BatchNormalization(scales[0], normal(channels), normal(channels), scales[1])
                last = add(Activation("relu"), add(norm, last))
            case 2:
                last = add(Add(), conv(last, channels), other)
            case 3:
                last = add(Concatenate(), last, other)
            case 4:
                kernel = normal(3, 3, channels, int(rng.integers(1, 3)))
                depthwise = DepthwiseConv2D(kernel, normal(kernel.shape[2] * kernel.shape[3]))
                last = add(depthwise.replace(padding="same"), last)
            case 5:
                gate = add(GlobalAveragePooling2D(), last)
                squeezed = add(Dense(normal(channels, 3), normal(3), "relu"), gate)
                gate = add(Dense(normal(3, channels), normal(channels), "sigmoid"), squeezed)
                last = add(Multiply(), last, gate)
            case 6:
                last = add(Subtract(), last, other)
            case 7:
                pooling = MaxPooling2D(2, 1, "same"), AveragePooling2D(2, 1, "same")
                last = add(pooling[int(rng.integers(2))], last)
    flat = add(Flatten() if rng.random() < 0.5 else GlobalAveragePooling2D(), last)
    add(Dense(normal(shapes[flat][0], 3), normal(3)), flat)
    return Network(layers, (6, 6, 2), sources)


def check(network, rng):
    channels = Channels(network)
    gone = some(channels, rng)
    reduced = channels.without(gone)
    x = rng.standard_normal((3, *network.input_shape)).astype(np.float32)
    expected = silenced(channels, gone).predict(x)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(reduced.predict(x), expected, atol=1e-5 * scale)
    return len(gone)


@pytest.mark.parametrize("seed", range(60))
def test_random_graphs(seed):
    rng = np.random.default_rng(seed)
    check(random_graph(rng), rng)


@pytest.mark.slow
def test_ten_thousand_random_graphs():
    gone = 0
    for seed in range(10_000):
        rng = np.random.default_rng([1, seed])
        gone += check(random_graph(rng), rng)
    assert gone > 20_000


@pytest.mark.parametrize("name", CHAINS)
def test_every_layer(name):
    network = Network(CHAINS[name], SHAPE)
    for seed in range(3):
        check(network, np.random.default_rng(seed))


def test_a_residual_network_loses_channels_everywhere_at_once():
    rng = np.random.default_rng(0)
    convs = [Conv2D(rng.standard_normal((3, 3, 4, 4)), padding="same") for _ in range(3)]
    network = Network(
        [*convs, Add(), Flatten(), Dense(rng.standard_normal((36, 2)))],
        (3, 3, 4),
        [(-1,), (0,), (1,), (0, 2), (3,), (4,)],
    )
    channels = Channels(network)
    assert channels.groups() == [[0, 2], [1]]
    reduced = channels.without(channels.classes[2][:1])
    assert [layer.kernel.shape for layer in reduced.layers if layer.arrays()] == [
        (3, 3, 4, 3),
        (3, 3, 3, 4),
        (3, 3, 4, 3),
        (27, 2),
    ]


def beside_each_other():
    """Two narrow layers side by side, joined by an addition with a wide one."""
    rng = np.random.default_rng(0)
    layers = [
        *(Conv2D(rng.standard_normal((1, 1, 4, 2)), activation="relu") for _ in range(2)),
        Concatenate(),
        Conv2D(rng.standard_normal((1, 1, 4, 4))),
        Add(),
        GlobalAveragePooling2D(),
        Dense(rng.standard_normal((4, 3)), activation="softmax"),
    ]
    return Network(layers, (6, 6, 4), [(-1,), (-1,), (0, 1), (2,), (2, 3), (4,), (5,)])


def test_no_layer_loses_all_of_its_channels():
    network = beside_each_other()
    channels = Channels(network)
    assert channels.groups() == [[0, 1, 3]]
    members = channels.members([0, 1, 3])
    assert len(members) == 2  # each of the narrow layers keeps its first channel
    assert [layer.outputs for layer in channels.without(members).layers if layer.arrays()] == [
        *(1, 1, 2, 3)
    ]


def test_inputs_outputs_softmax_and_groups_stay():
    rng = np.random.default_rng(0)
    inner = [Dense(rng.random((4, 4)), activation="softmax"), Dense(rng.random((4, 3)))]
    assert not Channels(Network(inner, (4,))).groups()
    beside = [Dense(rng.random((4, 4))), Add(), Dense(rng.random((4, 3)))]
    assert not Channels(Network(beside, (4,), [(-1,), (-1, 0), (1,)])).groups()
    grouped = [
        Conv2D(rng.random((1, 1, 2, 4))),
        Conv2D(rng.random((3, 3, 2, 6)), groups=2),
        Conv2D(rng.random((1, 1, 6, 2))),
    ]
    assert not Channels(Network(grouped, (5, 5, 2))).groups()


def test_what_a_layer_with_softmax_reads_can_go():
    rng = np.random.default_rng(0)
    network = Network(
        [Dense(rng.random((4, 5))), Dense(rng.random((5, 3)), activation="softmax")], (4,)
    )
    assert Channels(network).groups() == [[0]]
    check(network, rng)


def test_grids_are_narrowed_with_their_kernels():
    rng = np.random.default_rng(0)
    codes = rng.integers(-3, 4, (5, 6))
    scale = np.linspace(1, 2, 6)[None]
    first = Dense(codes * scale, quantization=Quantization(scale, 3.0))
    network = Network([first, Dense(rng.random((6, 2)))], (5,))
    channels = Channels(network)
    reduced = channels.without(channels.classes[0][[1, 4]]).layers[0]
    np.testing.assert_array_equal(reduced.codes, np.delete(codes, [1, 4], axis=1))
