"""Lumping of channels that meet in Add and Concatenate: planted multiples in random residual
networks are found, whatever their scales and their order, and nothing else.
"""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netreduce.errors import ParameterError
from netreduce.lumping import lump, replay
from netreduce.lumping.expansion import in_double
from netreduce.network import INPUT, Network
from netreduce.network.channels import Channels
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Weighted,
)
from netreduce.quantization import quantize


class Residual:
    """Grows a random residual network layer by layer."""

    def __init__(self, seed, dtype=np.float64):
        self.rng, self.dtype = np.random.default_rng(seed), dtype
        self.layers, self.sources = [], []

    def array(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def add(self, layer, *sources):
        self.layers.append(layer)
        self.sources.append(sources)
        return len(self.layers) - 1

    def conv(self, source, inputs, outputs, activation="linear", size=3):
        kernel = self.array(size, size, inputs, outputs) / np.sqrt(inputs).astype(self.dtype)
        layer = Conv2D(kernel, self.array(outputs), activation, padding="same")
        return self.add(layer, source)

    def norm(self, source, channels):
        spread = self.rng.uniform(0.5, 2, channels).astype(self.dtype)
        return self.add(
            BatchNormalization(
                self.array(channels), self.array(channels), self.array(channels), spread
            ),
            source,
        )

    def images(self):
        """A stem, two blocks, a concatenation with a branch, and one of three ends."""
        width, rng = 4, self.rng
        stream = self.conv(INPUT, 2, width, "relu")
        for _ in range(2):
            inner = self.conv(stream, width, 3, "linear")
            inner = self.add(Activation("relu"), self.norm(inner, 3))
            if rng.random() < 0.5:
                depthwise = DepthwiseConv2D(
                    self.array(3, 3, 3, 2), self.array(6), "relu", padding="same"
                )
                inner = self.conv(self.add(depthwise, inner), 6, width)
            else:
                inner = self.conv(inner, 3, width)
            if rng.random() < 0.5:
                inner = self.norm(inner, width)
            stream = self.add(Add(), stream, inner)
            if rng.random() < 0.7:
                stream = self.add(Activation("relu"), stream)
        branch = self.conv(stream, width, 3, "relu")
        both = self.add(Concatenate(), stream, branch)
        end = rng.integers(3)
        if end == 0:
            last = self.add(GlobalAveragePooling2D(), both)
            self.add(Dense(self.array(width + 3, 2), self.array(2)), last)
        elif end == 1:
            pooled = self.add(MaxPooling2D(2), both)
            last = self.add(Flatten(), pooled)
            self.add(Dense(self.array(4 * (width + 3), 2), self.array(2)), last)
        else:
            self.conv(both, width + 3, 2)
        return Network(self.layers, (4, 4, 2), self.sources)


def widened(network, rng, ratio):
    """The same function with one more channel, wherever its class shows: `ratio` times another,
    behind or before it. Layers that read both share the weights at random.
    """
    channels = Channels(network)
    chosen = rng.choice(np.flatnonzero(channels.removable))
    first = rng.random() < 0.5
    places, scales, layers = {INPUT: np.arange(network.input_shape[-1])}, {}, []
    scales[INPUT] = np.ones(network.input_shape[-1])
    for index, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True)):
        read, scale = places[sources[0]], scales[sources[0]]
        if isinstance(layer, DepthwiseConv2D):
            factor = layer.kernel.shape[3]
            out = (read[:, None] * factor + np.arange(factor)).ravel()
            scale = np.repeat(scale, factor)
            bias = layer.bias[out] * scale.astype(network.dtype)
            layer = layer.replace(kernel=layer.kernel[:, :, read], bias=bias)
            places[index], scales[index] = out, scale
        elif isinstance(layer, Weighted):
            layer = layer.replace(kernel=shared(layer.kernel, read, scale, rng))
            classes = channels.classes[index]
            (more,) = np.nonzero(classes == chosen)
            out, every = np.arange(len(classes)), np.ones(len(classes))
            parts, factors = ((out, more), (every, ratio * np.ones(len(more))))
            if first:
                parts, factors = parts[::-1], factors[::-1]
            places[index], scales[index] = np.concatenate(parts), np.concatenate(factors)
            kernel, bias = layer.kernel[..., places[index]], layer.bias[places[index]]
            scale = scales[index].astype(network.dtype)
            layer = layer.replace(kernel=kernel * scale, bias=bias * scale)
        elif isinstance(layer, BatchNormalization):
            gamma, variance = layer.gamma[read], layer.variance[read]
            moved = ((a[read] * scale).astype(network.dtype) for a in (layer.beta, layer.mean))
            layer = layer.replace(
                gamma=gamma, variance=variance, **dict(zip(("beta", "mean"), moved, strict=True))
            )
            places[index], scales[index] = read, scale
        elif isinstance(layer, Concatenate):
            starts = np.cumsum([0, *(network.shapes[s][-1] for s in sources)])
            places[index] = np.concatenate(
                [places[s] + start for s, start in zip(sources, starts, strict=False)]
            )
            scales[index] = np.concatenate([scales[s] for s in sources])
        elif isinstance(layer, Flatten):
            rows, columns, width = network.shapes[sources[0]]
            at = np.arange(rows * columns)[:, None]
            places[index], scales[index] = (
                (at * width + read).ravel(),
                np.tile(scale, rows * columns),
            )
        else:
            places[index], scales[index] = read, scale
        layers.append(layer)
    return Network(layers, network.input_shape, network.sources)


def shared(kernel, read, scale, rng):
    """Rows for channels of which some are multiples of others: together they weigh as before."""
    rows = kernel[..., read, :].astype(np.float64)
    for old in np.flatnonzero(np.bincount(read) > 1):
        copies = np.flatnonzero(read == old)
        (extra,) = copies[scale[copies] != 1] if (scale[copies] != 1).any() else copies[1:]
        (base,) = copies[copies != extra]
        part = rng.standard_normal(rows[..., base, :].shape) * np.abs(rows[..., base, :])
        rows[..., base, :] -= part
        rows[..., extra, :] = part / scale[extra]
    return rows.astype(kernel.dtype)


def widths(network):
    return [layer.outputs for layer in network.layers if isinstance(layer, Weighted)]


def equal(one, other):
    return all(
        np.array_equal(array, other.layers[index].arrays()[name])
        for index, layer in enumerate(one.layers)
        for name, array in layer.arrays().items()
    )


@given(
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([np.float32, np.float64]),
    times=st.integers(1, 5),
    extreme=st.sampled_from([0, 3, 9]),
)
@settings(max_examples=25, deadline=None)
def test_planted_multiples_of_residual_networks_go(seed, dtype, times, extreme):
    builder = Residual(seed, dtype)
    network = builder.images()
    rng = builder.rng
    small, wide = lump(network).network, network
    for _ in range(times):
        ratio = float(10 ** rng.uniform(-extreme, extreme) * rng.uniform(1.1, 2))
        wide = widened(wide, rng, ratio)
    assert sum(widths(wide)) > sum(widths(network))
    lumping = lump(wide, input_range=(-1, 1), verify=True)
    assert widths(lumping.network) == widths(small)
    x = rng.uniform(-1, 1, (20, *network.input_shape)).astype(dtype)
    expected = wide.predict(x).astype(np.float64)
    off = np.abs(lumping.network.predict(x) - expected)
    assert (off <= lumping.bound + lumping.rounding).all()
    assert off.max() <= (2e-4 if dtype == np.float32 else 1e-11) * max(1, np.abs(expected).max())
    record = json.loads(json.dumps(lumping.record()))
    assert equal(replay(wide, record), lumping.network)
    assert lump(lumping.network).network is lumping.network


def stream(kernels, summed=True, activation="relu"):
    """Dense layers whose outputs meet, and one that reads them."""
    layers = [Dense(np.array(kernel, float), activation=activation) for kernel in kernels]
    meeting = Add() if summed else Concatenate()
    inputs = layers[0].outputs if summed else sum(layer.outputs for layer in layers)
    layers += [meeting, Dense(np.arange(1.0, inputs + 1)[:, None])]
    sources = [(INPUT,)] * len(kernels) + [tuple(range(len(kernels))), (len(kernels),)]
    return Network(layers, (len(kernels[0]),), sources)


def test_the_ratio_must_be_that_of_all_summands():
    same = stream([[[1, 2], [3, 6]], [[5, 10], [1, 2]]])
    lumping = lump(same, verify=True)
    assert lumping.network.layers[3].kernel == 2.5  # what neuron 1 makes, twice neuron 0, stays
    assert [(m.layer, m.neuron, m.into, m.ratio, m.kind) for m in lumping.merges] == [
        ("dense_1", 0, 1, 0.5, "multiple"),
        ("dense_2", 0, 1, 0.5, "multiple"),
    ]
    other = stream([[[1, 2], [3, 6]], [[5, 15], [1, 3]]])
    assert lump(other).network is other and not lump(other).merges


def test_channels_that_one_summand_makes_alone():
    """Where one layer makes zeros, the other decides."""
    network = stream([[[1, 2, 1], [3, 6, 2]], [[0, 0, 1], [0, 0, 1]]])
    lumping = lump(network, verify=True)
    assert widths(lumping.network)[:2] == [2, 2]


def test_each_part_of_a_concatenation_by_itself():
    network = stream([[[1, 2], [3, 6]], [[1, 4], [3, 2]]], summed=False)
    lumping = lump(network, verify=True)
    assert widths(lumping.network)[:2] == [1, 2]
    assert lumping.network.layers[3].kernel.ravel().tolist() == [2.5, 3, 4]


def test_dead_channels_of_a_stream_go():
    lumping = lump(stream([[[0, 1], [0, 2]], [[0, 5], [0, 1]]]), verify=True)
    assert widths(lumping.network)[:2] == [1, 1]
    assert {merge.kind for merge in lumping.merges} == {"constant"}


def test_unread_channels_of_a_stream_go():
    network = stream([[[1, 2], [3, 5]], [[5, 1], [1, 2]]])
    network = network.replace({3: network.layers[3].replace(kernel=np.array([[0.0], [2.0]]))})
    lumping = lump(network, verify=True)
    assert widths(lumping.network)[:2] == [1, 1]
    assert {merge.kind for merge in lumping.merges} == {"unread"}
    assert equal(replay(network, lumping.record()), lumping.network)


def test_a_layer_of_a_stream_keeps_one_channel():
    network = stream([[[1, 2], [3, 5]], [[5, 1], [1, 2]]])
    network = network.replace({3: network.layers[3].replace(kernel=np.zeros((2, 1)))})
    assert widths(lump(network, verify=True).network)[:2] == [1, 1]


def test_merged_weights_that_the_type_cannot_hold():
    """3e38 + 2 · 3e38 is beyond float32: nothing merges."""
    network = stream([[[1, 2], [3, 6]], [[5, 10], [1, 2]]])
    layers = [
        layer.replace(**{key: array.astype(np.float32) for key, array in layer.arrays().items()})
        for layer in network.layers
    ]
    layers[3] = layers[3].replace(kernel=np.full((2, 1), 3e38, np.float32))
    network = Network(layers, network.input_shape, network.sources)
    assert lump(network).network is network


@pytest.mark.parametrize("seed", [0, 2, 6, 8])
def test_bounds_behind_sums_come_from_the_network_in_its_former_shape(seed):
    builder = Residual(seed, np.float32)
    network = widened(builder.images(), builder.rng, 1.7)
    lumping = lump(network, input_range=(-1, 1))
    assert lumping.merges and lumping.draft.readings
    x = builder.rng.uniform(-1, 1, (200, *network.input_shape))
    first, second = (in_double(n).predict(x) for n in (network, lumping.network))
    found = np.abs(first - second).max(axis=0)
    assert (found <= lumping.bound * (1 + 1e-9) + 1e-12).all()
    assert lumping.bound.max() < lumping.deviation.quick.max()


def test_quantized_streams_stay_on_their_grid():
    network = stream([[[1, 1, 2], [3, 3, 1]], [[2, 2, 1], [1, 1, 4]]])
    x = np.random.default_rng(0).random((20, 2))
    quantized = quantize(network, x, bits=2, method="msq", alphabet_scalar=2)
    lumping = lump(quantized, verify=True)
    assert widths(lumping.network)[:2] == [2, 2]
    for before, after in zip(quantized.layers[:2], lumping.network.layers[:2], strict=True):
        assert after.quantization.bits == before.quantization.bits


def test_records_of_other_networks():
    network = stream([[[1, 2], [3, 6]], [[5, 10], [1, 2]]])
    record = lump(network).record()
    other = stream([[[1], [3]], [[5], [1]]])
    with pytest.raises(ParameterError, match="dense_3 does not read so many channels"):
        replay(other, record)
    with pytest.raises(ParameterError, match="no layer dense_9"):
        replay(network, record | {"readings": [record["readings"][0] | {"layer": "dense_9"}]})
    with pytest.raises(ParameterError, match="takes neurons out of dense_3, where"):
        replay(network, record | {"dropped": {"dense_3": [0]}})
