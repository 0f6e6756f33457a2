"""Every technique on networks with every kind of layer: the same function, the right shapes."""

import inspect

import numpy as np
import pytest
from every_layer import NETWORKS, SHAPE, conv, samples

from netreduce.errors import UnsupportedLayerError
from netreduce.factorization import lowrank
from netreduce.folding import fold_batch_norm
from netreduce.lumping import lump
from netreduce.measures.cost import cost, layer_costs
from netreduce.measures.packing import CODINGS, pack, unpack
from netreduce.network import Network
from netreduce.network import layers as every
from netreduce.network.layers import (
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Layer,
    PReLU,
)
from netreduce.pruning import magnitude, nnrelief, structured
from netreduce.pruning.selection import select
from netreduce.quantization import quantize

QUANTIZED = (Dense, Conv2D, DepthwiseConv2D)
BASES = (every.Layer, every.Weighted, every.Convolution, every.Pooling2D)
each_network = pytest.mark.parametrize("name", NETWORKS)
# one activation will do where they are all treated alike
SOME = [name for name in NETWORKS if not name.startswith(("activation", "fused"))]
some_networks = pytest.mark.parametrize("name", [*SOME, "activation mish", "fused softmax"])


def close(network, other, tolerance=1e-5):
    x = samples(network)
    expected = network.predict(x)
    scale = max(1, np.abs(expected).max())
    np.testing.assert_allclose(other.predict(x), expected, atol=tolerance * scale, rtol=0)


def test_no_layer_is_left_out():
    classes = {
        kind
        for kind in map(every.__dict__.get, every.__all__)
        if inspect.isclass(kind) and issubclass(kind, Layer)
    }
    found = {type(layer) for network in NETWORKS.values() for layer in network.layers}
    assert found == classes - {*BASES, every.ActivationGrid}  # has tests of its own


def norms(network):
    return sum(isinstance(layer, BatchNormalization) for layer in network.layers)


FOLDED = {  # batch normalizations that are left
    "zero padding": 1,
    "cropping": 0,
    "upsampling": 0,
    "bilinear": 0,
    "largest": 1,
    "mean": 0,
    "mean with padding": 1,
    "global maximum": 1,
    "global mean": 0,
    "reshape": 0,
    "reshape across channels": 1,
    "permute": 0,
    "permute channels": 1,
}


@some_networks
def test_folding_keeps_the_function(name):
    network = NETWORKS[name]
    folded = fold_batch_norm(network)
    close(network, folded)
    if name in FOLDED:
        assert norms(folded) == FOLDED[name]


def drawn(*shape):
    return np.random.default_rng(shape).uniform(0.5, 1.5, shape)


def norm(channels, shift=True):
    some = drawn(4, channels) * np.random.default_rng(1).choice([-1, 1], channels)
    mean, beta = (some[1], some[2]) if shift else (np.zeros(channels), np.zeros(channels))
    return BatchNormalization(some[0], beta, mean, np.abs(some[3]))


@pytest.mark.parametrize(
    "layers, left",
    [
        ([conv(2, 6, "linear", groups=2), norm(6)], 0),
        ([norm(2), conv(2, 6, groups=2)], 0),
        ([norm(2), conv(2, 6, groups=2, padding=(0, 0, 0, 1))], 1),
        ([norm(2, shift=False), conv(2, 6, groups=2, padding=(0, 0, 0, 1))], 0),
        ([Conv2DTranspose(drawn(3, 3, 5, 2), strides=2), norm(5)], 0),
        ([norm(2), Conv2DTranspose(drawn(3, 3, 5, 2), strides=2)], 1),
        ([norm(2, shift=False), Conv2DTranspose(drawn(3, 3, 5, 2), strides=2)], 0),
        ([norm(2), every.ZeroPadding2D((0, 0, 0, 1)), conv(2, 3)], 1),
        ([norm(2), every.ZeroPadding2D(0), conv(2, 3)], 0),
        ([norm(2, shift=False), every.ZeroPadding2D((0, 0, 0, 1)), conv(2, 3)], 0),
        ([norm(2), PReLU(0.2), conv(2, 3)], 1),
        ([norm(2), DepthwiseConv2D(drawn(3, 3, 2, 2), padding=(0, 1, 0, 0))], 1),
    ],
)
def test_batch_normalization_beside_padding_and_groups(layers, left):
    network = Network([*layers, Flatten()], SHAPE)
    folded = fold_batch_norm(network)
    assert norms(folded) == left
    close(network, folded, 1e-6)


@pytest.mark.parametrize("make", [
    lambda: conv(2, 6, "linear", groups=2),
    lambda: Conv2DTranspose(drawn(3, 3, 6, 2) - 1, drawn(6), strides=2),
])  # fmt: skip
def test_quantized_kernels_keep_their_codes_when_batch_normalization_is_folded(make):
    layer = make()
    kernel = np.rint(layer.kernel * 4) / 4
    grid = every.Quantization(0.25, 3)
    layer = layer.replace(kernel=kernel.astype(np.float32), quantization=grid)
    network = Network([layer, norm(6)], SHAPE)
    folded = fold_batch_norm(network)
    assert len(folded.layers) == 1
    np.testing.assert_array_equal(np.abs(folded.layers[0].codes), np.abs(layer.codes))
    close(network, folded)


@some_networks
def test_packing_gives_the_network_back(name):
    network = NETWORKS[name]
    expected = network.predict(samples(network))
    for coding in CODINGS:
        packed = pack(network, coding)
        again = unpack(packed)
        assert pack(again, coding) == packed
        np.testing.assert_array_equal(again.predict(samples(network)), expected)


@each_network
def test_costs_are_counted(name):
    network = NETWORKS[name]
    counted = cost(network)
    arrays = [array for layer in network.layers for array in layer.arrays().values()]
    assert counted.parameters == sum(array.size for array in arrays)
    assert len(layer_costs(network)) == sum(bool(layer.arrays()) for layer in network.layers)
    assert 0 < counted.nonzero_macs <= counted.macs


def test_multiplications_of_layers():
    layers = [
        Conv2D(drawn(3, 3, 1, 4), groups=2),  # 5 × 4 places, 4 channels, 9 weights each
        PReLU(drawn(4)),
        Conv2DTranspose(drawn(2, 3, 5, 4), strides=2),  # 5 × 4 pixels, 2 · 3 · 5 · 4 weights each
    ]
    costs = layer_costs(Network(layers, SHAPE))
    assert [layer.macs for layer in costs] == [5 * 4 * 36, 5 * 4 * 4, 5 * 4 * 120]
    assert [layer.weights for layer in costs] == [36, 0, 120]
    assert [layer.neurons for layer in costs] == [4, 0, 5]


@some_networks
@pytest.mark.parametrize("conv", ["channel", "joint"])
def test_quantization_puts_every_kernel_on_its_grid(name, conv):
    network = NETWORKS[name]
    quantized = quantize(network, samples(network), bits=3, conv=conv)
    assert quantized.shapes == network.shapes
    assert np.isfinite(quantized.predict(samples(network))).all()
    for before, after in zip(network.layers, quantized.layers, strict=True):
        if isinstance(before, QUANTIZED):
            assert np.abs(after.codes).max() <= 7
            scale = after.quantization.scale
            np.testing.assert_allclose(after.kernel, scale * after.codes, rtol=1e-6)
        else:
            assert after is before


@pytest.mark.parametrize("conv_mode", ["channel", "joint"])
@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("gpfq", {}),
        ("gpfq", {"radius": "output"}),
        ("gpfq", {"keep_zeros": True, "activation_order": True}),
        ("gptq", {}),
        ("qronos", {}),
        ("msq", {}),
    ],
)
def test_groups_are_quantized_as_convolutions_of_their_own(method, more, conv_mode):
    random = np.random.default_rng(0)
    x = random.uniform(0, 1, (30, 6, 5, 4)).astype(np.float32)
    layer = conv(4, 6, groups=2, padding=(1, 0, 0, 1), strides=(2, 1))
    options = {"bits": 3, "conv": conv_mode, "per_channel": True, **more}
    both = quantize(Network([layer], (6, 5, 4)), x, method, **options)
    for part, (inputs, outputs) in enumerate(layer.parts()):
        one = Conv2D(
            layer.kernel[..., outputs],
            layer.bias[outputs],
            "relu",
            layer.strides,
            layer.padding,
        )
        alone = quantize(Network([one], (6, 5, 2)), x[..., inputs], method, **options)
        codes = both.layers[0].codes[..., outputs]
        np.testing.assert_array_equal(codes, alone.layers[0].codes, err_msg=f"group {part}")


def test_groups_are_quantized_on_the_quantized_network_before_them():
    """G and H differ: both are those of each group."""
    x = samples(NETWORKS["groups"], 40)
    first = conv(2, 4, padding="same")
    second = conv(4, 6, groups=2)
    options = {"bits": 2, "per_channel": True, "conv": "joint"}
    both = quantize(Network([first, second], SHAPE), x, **options)
    halves = [
        Conv2D(second.kernel[..., outputs], second.bias[outputs], "relu")
        for _, outputs in second.parts()
    ]
    split = [first, *(conv(4, 2, "linear", size=1) for _ in halves), *halves, Concatenate()]
    for i, (inputs, _) in enumerate(second.parts(), start=1):
        chosen = np.zeros((1, 1, 4, 2), np.float32)
        chosen[0, 0, inputs] = np.eye(2)
        split[i] = Conv2D(chosen)
    network = Network(split, SHAPE, [(-1,), (0,), (0,), (1,), (2,), (3, 4)])
    alone = quantize(network, x, layers=[0, 3, 4], **options)
    codes = np.concatenate([alone.layers[3].codes, alone.layers[4].codes], axis=-1)
    np.testing.assert_array_equal(both.layers[1].codes, codes)


@each_network
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_lumping_keeps_its_bound(name, tolerance):
    network = NETWORKS[name]
    lumping = lump(network, tolerance, verify=True)
    assert lumping.network.shapes[-1] == network.shapes[-1]
    assert not np.isnan(lumping.bound).any()
    if tolerance == 0:
        close(network, lumping.network)


@some_networks
def test_lumping_by_activations_keeps_its_bound(name):
    network = NETWORKS[name]
    lump(network, 0.1, match="activations", samples=samples(network), verify=True)


@some_networks
def test_structured_pruning_keeps_the_outputs(name):
    network = NETWORKS[name]
    pruned = structured(network, 0.5)
    assert pruned.shapes[-1] == network.shapes[-1]
    assert np.isfinite(pruned.predict(samples(network))).all()
    close(network, structured(network, 1.0))


@some_networks
def test_selection_keeps_the_outputs(name):
    network = NETWORKS[name]
    x = samples(network, 60)
    try:
        selected = select(network, x, fraction=0.5)
    except UnsupportedLayerError as error:
        assert "no hidden layer has neurons or channels that can go" in str(error)
        assert "softmax" in name or name.startswith("groups")
        return
    assert selected.shapes[-1] == network.shapes[-1]
    assert np.isfinite(selected.predict(x)).all()
    close(network, select(network, x, fraction=1.0), 1e-4)


@some_networks
@pytest.mark.parametrize("method", ["nnrelief", "magnitude"])
def test_pruned_networks_run(name, method):
    network = NETWORKS[name]
    x = samples(network)
    pruned = nnrelief(network, x, 0.6) if method == "nnrelief" else magnitude(network, 0.6)
    assert cost(pruned).nonzeros < cost(network).nonzeros
    folded = lump(pruned).network
    close(pruned, folded)


def test_nnrelief_of_groups_is_that_of_convolutions_of_their_own():
    x = np.random.default_rng(0).uniform(0, 1, (20, 6, 5, 4)).astype(np.float32)
    layer = conv(4, 6, groups=2, padding=(1, 0, 0, 1))
    both = nnrelief(Network([layer], (6, 5, 4)), x, 0.7).layers[0]
    assert (both.kernel == 0).any()
    for inputs, outputs in layer.parts():
        one = Conv2D(layer.kernel[..., outputs], layer.bias[outputs], "relu", padding=layer.padding)
        alone = nnrelief(Network([one], (6, 5, 2)), x[..., inputs], 0.7).layers[0]
        np.testing.assert_array_equal(both.kernel[..., outputs], alone.kernel)
        np.testing.assert_array_equal(both.bias[outputs], alone.bias)


@some_networks
def test_factorized_networks_run(name):
    network = NETWORKS[name]
    close(network, lowrank(network, 1.0))
    assert lowrank(network, 0.5).shapes[-1] == network.shapes[-1]
