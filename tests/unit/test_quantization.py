"""Whole networks: what each layer is quantized on, how samples arrive, sweeps, records, and bad
input.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quantization_definitions import each_neuron, levels
from quantization_definitions import gpfq as plain_gpfq

from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
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
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)
from netreduce.quantization import METHODS, dead_weights, gram, quantize, quantize_many
from netreduce.quantization import samples as samples_module

GIVEN = [name for name, method in METHODS.items() if not method.scales]  # the alphabet
DATA_DRIVEN = [name for name, method in METHODS.items() if method.needs]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def mlp(seed=0, widths=(12, 10, 8, 4)):
    shapes = list(pairwise(widths))
    return Network(
        [Dense(normal(*s, seed=seed), normal(s[1], seed=seed), "relu") for s in shapes], widths[:1]
    )


def batch_norm(channels):
    return BatchNormalization(*(np.abs(normal(channels, seed=i)) + 0.1 for i in range(4)))


def cnn():
    return Network(
        [
            Conv2D(normal(3, 3, 3, 5), normal(5), "relu", padding="same"),
            batch_norm(5),
            MaxPooling2D(),
            DepthwiseConv2D(normal(3, 2, 5, 2), normal(10), "relu", strides=(2, 1)),
            AveragePooling2D((1, 2)),
            Conv2D(normal(2, 2, 10, 6), normal(6), "leaky_relu", padding="same", dilation=(1, 2)),
            Flatten(),
            Dense(normal(24, 7), normal(7), "relu"),
            batch_norm(7),
            Dense(normal(7, 3), normal(3), "softmax"),
        ],
        (10, 10, 3),
    )


def residual():
    return Network(
        [
            Flatten(),
            Dense(normal(8, 6), normal(6), "relu"),
            Dense(normal(6, 6), normal(6)),
            Add(),
            Activation("relu"),
            Dense(normal(6, 5), normal(5), "relu"),
            Concatenate(),
            Dense(normal(11, 3), normal(3)),
        ],
        (2, 4),
        sources=[(-1,), (0,), (1,), (1, 2), (3,), (4,), (4, 5), (6,)],
    )


def inputs(network, count=30, seed=0):
    return np.abs(normal(count, *network.input_shape, seed=seed))


def kernels(network):
    return [layer.kernel for layer in network.layers if hasattr(layer, "kernel")]


def assert_same(a, b):
    for x, y in zip(kernels(a), kernels(b), strict=True):
        np.testing.assert_array_equal(x, y)


def layer_input(network, index, x):
    (source,) = network.sources[index]
    return x if source < 0 else list(network.activations(x))[source]


def windows(layer, x):
    """Patches by plain slicing, (samples · positions, kernel rows, kernel columns, channels)."""
    (kh, kw), (sh, sw), (dh, dw) = layer.kernel.shape[:2], layer.strides, layer.dilation
    x = layer.padded(x).astype(np.float64)
    patches = [
        x[:, y : y + (kh - 1) * dh + 1 : dh, z : z + (kw - 1) * dw + 1 : dw]
        for y in range(0, x.shape[1] - (kh - 1) * dh, sh)
        for z in range(0, x.shape[2] - (kw - 1) * dw, sw)
    ]
    return np.concatenate(patches)


def plain_layer(layer, analog, quantized, alphabet, conv):
    """The walk of the paper on every neuron of a layer, by channel or jointly."""
    kernel = layer.kernel.astype(np.float64)
    if isinstance(layer, Dense):
        return each_neuron(
            plain_gpfq, kernel, analog.astype(np.float64), quantized.astype(np.float64), alphabet
        )
    X, X_quantized = windows(layer, analog), windows(layer, quantized)
    if conv == "joint" and not isinstance(layer, DepthwiseConv2D):
        flat = each_neuron(
            plain_gpfq,
            kernel.reshape(-1, layer.outputs),
            X.reshape(len(X), -1),
            X_quantized.reshape(len(X), -1),
            alphabet,
        )
        return flat.reshape(kernel.shape)
    out = np.empty_like(kernel)
    for c in range(kernel.shape[2]):
        columns = (p[..., c].reshape(len(p), -1) for p in (X, X_quantized))
        out[:, :, c] = each_neuron(
            plain_gpfq, kernel[:, :, c].reshape(-1, kernel.shape[3]), *columns, alphabet
        ).reshape(kernel[:, :, c].shape)
    return out


@pytest.mark.parametrize("conv", ["channel", "joint"])
@pytest.mark.parametrize("make", [mlp, cnn, residual])
def test_every_layer_walks_on_the_outputs_of_the_quantized_layers_before_it(make, conv):
    network = make()
    x = inputs(network)
    quantized = quantize(network, x, bits=3, alphabet_scalar=2.5, conv=conv)
    for index, layer in enumerate(network.layers):
        if hasattr(layer, "kernel"):
            alphabet = levels(2.5 * np.median(np.abs(layer.kernel)), 8)
            plain = plain_layer(
                layer,
                layer_input(network, index, x),
                layer_input(quantized, index, x),
                alphabet,
                conv,
            )
            np.testing.assert_allclose(
                quantized.layers[index].kernel, plain, rtol=1e-6, err_msg=network.names[index]
            )
        else:
            assert quantized.layers[index] is layer


@pytest.mark.parametrize("method", GIVEN)
@pytest.mark.parametrize("conv", ["channel", "joint"])
def test_weights_are_codes_times_scale(method, conv):
    network = cnn()
    x = inputs(network)
    x[..., 1] = 0
    for bits, per_channel in ((1.58, False), (3, True)):
        quantized = quantize(network, x, method, bits, conv=conv, per_channel=per_channel)
        for before, layer in zip(network.layers, quantized.layers, strict=True):
            if hasattr(layer, "kernel"):
                record = layer.quantization
                top = round(2**bits) - 1
                assert record.bits == bits
                assert record.scale.size == (layer.outputs if per_channel else 1)
                np.testing.assert_array_equal(
                    layer.kernel, (record.scale * layer.codes).astype(np.float32)
                )
                assert np.isin(layer.codes, [0, *range(-top, top + 1, 2)]).all()
                assert layer.kernel.dtype == before.kernel.dtype
                np.testing.assert_array_equal(layer.bias, before.bias)
        if method != "msq":
            assert (quantized.layers[0].codes[:, :, 1] == 0).all()


@pytest.mark.parametrize("apart", [False, True], ids=["chunks together", "chunks apart"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("make", [mlp, cnn, residual])
def test_batches_memory_and_threads_do_not_matter(method, make, apart, monkeypatch):
    monkeypatch.setattr(gram, "MIN_ROWS", 1 if apart else 256)
    network = make()
    x = inputs(network, 57)
    conv = "joint" if METHODS[method].scales else "channel"
    whole = quantize(network, x, method, conv=conv)
    assert_same(whole, quantize(network, [x[:1], x[1:41], x[41:]], method, conv=conv))
    monkeypatch.setattr(samples_module, "CHUNK_BYTES", 1 << 9)
    small = quantize(network, x, method, conv=conv)
    assert_same(small, quantize(network, np.array_split(x, 57), method, conv=conv, memory=0))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert_same(small, quantize(network, x, method, conv=conv, memory=700))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 100))
def test_streaming_is_whole(sizes, seed):
    network = mlp(seed)
    x = inputs(network, sum(sizes), seed)
    assert_same(quantize(network, x), quantize(network, np.split(x, np.cumsum(sizes)[:-1])))


@pytest.mark.parametrize("make", [mlp, cnn, residual])
def test_quantize_many_gives_what_quantize_gives(make):
    network = make()
    x = inputs(network)
    last = len(network.layers) - 1
    sweep = [
        {"method": "msq"},
        {"method": "gptq", "bits": 2},
        {"bits": 3, "alphabet_scalar": 3},
        {"method": "qronos", "conv": "joint", "quantize_bias": True},
        {"bits": 3, "layers": [last]},
        {"bits": 3, "conv": "joint", "activation_order": True},
        {"bits": 3, "alphabet_scalar": 3},
    ]
    for memory in (0, 1 << 20):
        results = list(quantize_many(network, x, sweep, memory=memory))
        assert [setting for setting, _, _ in results] == sweep
        for setting, quantized, seconds in results:
            assert_same(quantized, quantize(network, x, **setting))
            assert seconds >= 0


def test_sweeps_read_the_samples_less_often():
    network, x = mlp(), inputs(mlp())

    class Counting(list):
        count = 0

        def __iter__(self):
            Counting.count += 1
            return super().__iter__()

    batches = Counting([x])
    counts = [
        Counting.count
        for _ in quantize_many(network, batches, [{"bits": bits} for bits in (2, 3, 4)])
    ]
    assert counts == [2, 3, 4]


def test_chosen_layers_only():
    network, x = mlp(), inputs(mlp())
    whole, first = quantize(network, x), quantize(network, x, layers=["dense_1"])
    np.testing.assert_array_equal(first.layers[0].kernel, whole.layers[0].kernel)
    assert first.layers[1:] == network.layers[1:]
    assert_same(quantize(network, x, layers=[2, 0, "dense_2"]), whole)


PUBLISHED = {"conv": "channel", "radius": "median", "per_channel": False}
BEST = {"conv": "joint", "per_channel": True}


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        ({}, {**BEST, "radius": "output"}),
        ({"method": "qronos"}, {"method": "qronos", **BEST, "radius": "output"}),
        ({"method": "msq"}, {"method": "msq", **BEST, "radius": "output"}),
        ({"method": "beacon"}, {"method": "beacon", **BEST, "radius": "mse"}),
        ({"radius": "max"}, {**BEST, "radius": "max"}),
        ({"alphabet_scalar": 2.0}, {"alphabet_scalar": 2.0, **PUBLISHED}),
        ({"radius": "median"}, {"alphabet_scalar": 2.0, **PUBLISHED}),
        (
            {"alphabet_scalar": 3, "conv": "joint"},
            {"alphabet_scalar": 3, **PUBLISHED, "conv": "joint"},
        ),
    ],
)
def test_a_scalar_asks_for_the_published_setting_and_nothing_for_the_best(asked, meant):
    network = cnn()
    x = inputs(network)
    found, explicit = quantize(network, x, bits=3, **asked), quantize(network, x, bits=3, **meant)
    ((_, many, _),) = quantize_many(network, x, [{"bits": 3, **asked}])
    for layers in zip(found.layers, explicit.layers, many.layers, strict=True):
        for name in layers[0].arrays():
            one, other, third = (getattr(layer, name) for layer in layers)
            np.testing.assert_array_equal(one, other)
            np.testing.assert_array_equal(one, third)


def test_without_samples_the_weights_decide():
    network = cnn()
    found, explicit = quantize(network, None, "msq"), quantize(network, None, "msq", radius="mse")
    for one, other in zip(found.layers, explicit.layers, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, getattr(other, name))


def test_a_few_large_weights_do_not_spoil_the_default():
    kernel = normal(3, 3, 2, 6) ** 5  # the largest is hundreds of medians
    network = Network([Conv2D(kernel, padding="same", activation="relu")], (8, 8, 2))
    x = normal(100, 8, 8, 2)
    wanted = network.predict(x)

    def error(**setting):
        change = quantize(network, x, bits=4, **setting).predict(x) - wanted
        return np.linalg.norm(change) / np.linalg.norm(wanted)

    assert 4 * error() < error(alphabet_scalar=2.0)


def test_bias_as_a_weight_on_a_constant_input():
    network = Network([Dense(normal(6, 4), normal(4))], (6,))
    x = inputs(network)
    layer = quantize(network, x, alphabet_scalar=2, quantize_bias=True).layers[0]
    with_constant = Network(
        [Dense(np.vstack([network.layers[0].kernel, network.layers[0].bias]))], (7,)
    )
    constant = np.hstack([x, np.ones((len(x), 1), np.float32)])
    radius = 2 * np.median(np.abs(network.layers[0].kernel))
    plain = plain_layer(with_constant.layers[0], constant, constant, levels(radius, 16), "joint")
    np.testing.assert_allclose(np.vstack([layer.kernel, layer.bias]), plain, rtol=1e-6)
    np.testing.assert_array_equal(
        layer.bias, (layer.quantization.scale * layer.bias_codes).astype(np.float32)
    )

    network = cnn()
    for conv in ("channel", "joint"):
        for per_channel in (False, True):
            for layer in quantize(
                network,
                inputs(network),
                bits=5,
                conv=conv,
                quantize_bias=True,
                per_channel=per_channel,
            ).layers:
                if hasattr(layer, "kernel"):
                    scale = np.broadcast_to(layer.quantization.scale.reshape(-1), layer.bias.shape)
                    np.testing.assert_array_equal(
                        layer.bias, (scale * layer.bias_codes).astype(np.float32)
                    )
                    assert (layer.bias_codes % 2 == 1).all()


def test_activation_order_is_a_permutation_of_the_inputs():
    kernel, x = normal(9, 5), inputs(mlp(widths=(9, 5)))
    order = np.argsort(-np.linalg.norm(x.astype(np.float64), axis=0))
    for method in DATA_DRIVEN:
        if method != "spfq":
            ordered = (
                quantize(Network([Dense(kernel)], (9,)), x, method, 3, activation_order=True)
                .layers[0]
                .kernel
            )
            np.testing.assert_array_equal(
                ordered[order],
                quantize(Network([Dense(kernel[order])], (9,)), x[:, order], method, 3)
                .layers[0]
                .kernel,
            )


def test_dead_inputs_are_recorded():
    network, x = mlp(), inputs(mlp())
    x[:, [2, 5]] = 0
    quantized = quantize(network, x, bits=4)
    dead = [int((~layer_input(quantized, i, x).any(axis=0)).sum()) for i in range(3)]
    assert dead[0] == 2
    assert [dead_weights(layer) for layer in quantized.layers] == [
        n * layer.outputs for n, layer in zip(dead, quantized.layers, strict=True)
    ]
    assert [dead_weights(layer) for layer in quantize(network, x, bits=1.58).layers] == [0, 0, 0]
    assert dead_weights(network.layers[0]) == 0
    assert dead_weights(quantize(network, None, "msq").layers[0]) == 0


def test_stochastic_rounding_follows_the_seed():
    network, x = mlp(), inputs(mlp())
    assert_same(quantize(network, x, "spfq", seed=3), quantize(network, x, "spfq", seed=3))
    with pytest.raises(AssertionError):
        assert_same(quantize(network, x, "spfq", seed=3), quantize(network, x, "spfq", seed=4))


def test_integer_and_double_samples_are_cast_as_in_predict():
    network = mlp()
    x = np.random.default_rng(0).integers(0, 9, (20, 12), dtype=np.uint8)
    assert_same(quantize(network, x), quantize(network, x.astype(np.float64)))


def test_progress_names_the_layers():
    calls = []
    quantize(mlp(), inputs(mlp()), progress=lambda *call: calls.append(call))
    assert calls == [("dense_1", 0, 3), ("dense_2", 1, 3), ("dense_3", 2, 3)]


class Forgetful:
    """Gives fewer samples each time."""

    def __init__(self, x):
        self.x = x

    def __iter__(self):
        self.x = self.x[:-1]
        return iter([self.x])


X = inputs(mlp())
NAN = np.where(np.arange(12) == 3, np.nan, X)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (X[:, :5], r"samples must have shape \(samples, 12\), found \(30, 5\)"),
        ([X, X[:, :5]], r"samples must have shape \(samples, 12\), found \(30, 5\)"),
        (X[0], r"samples must have shape \(samples, 12\), found \(12,\)"),
        (np.float32(1), r"samples must have shape \(samples, 12\), found \(\)"),
        (NAN, "samples must be finite, found 30 NaN or infinite values"),
        ([X, NAN], "samples must be finite, found 30 NaN or infinite values"),
        (X.astype(complex), "samples must be real numbers, found dtype complex64|complex128"),
        (X[:0], "there are no samples"),
        ([], "there are no samples"),
        (iter([X]), "can be iterated just once"),
        (
            (x for x in [X]),
            "this generator can be iterated just once: pass an array, a list of mini-batches",
        ),
        (
            [(X, np.zeros(30))],
            "a mini-batch must be an array of samples, found tuple: leave out labels",
        ),
        (None, "this method learns from samples"),
        (7, "samples must be an array or an iterable of mini-batches, found int"),
        (X * np.float32(3e37), "dense_2: its inputs overflow"),
    ],
)
def test_bad_samples(samples, message):
    with pytest.raises(SampleError, match=message), np.errstate(all="ignore"):
        quantize(mlp(), samples)


def test_samples_that_become_fewer():
    message = "the samples gave 29 on one iteration and 28 on another"
    with pytest.raises(SampleError, match=message):
        quantize(mlp(), Forgetful(X))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"method": "rtn"},
            (
                "method must be one of gpfq, gpfq-soft, gpfq-hard, spfq, msq, gptq, gptaq, qronos,"
                " adaround, comq, beacon, found 'rtn'"
            ),
        ),
        ({"bits": 1}, "bits must be"),
        *(
            ({"alphabet_scalar": a}, "alphabet_scalar must be a positive number, found")
            for a in (0, -1.0, float("nan"), float("inf"), "2", True)
        ),
        (
            {"alphabet_scalar": 2.0, "radius": "mse"},
            "alphabet_scalar needs radius=\"median\", found 'mse'",
        ),
        (
            {"radius": "mean"},
            "radius must be one of 'median', 'max', 'mse', 'output', found 'mean'",
        ),
        ({"conv": "both"}, "conv must be 'channel' or 'joint', found 'both'"),
        ({"damping": 0.1}, "method 'gpfq' has no damping"),
        ({"method": "gptq", "threshold": 0.1}, "method 'gptq' has no threshold"),
        ({"method": "gptq", "damping": -1}, "damping must be a number not below 0, found -1"),
        (
            {"method": "gpfq-soft", "threshold": "much"},
            "threshold must be a number not below 0, found 'much'",
        ),
        ({"layers": [9]}, "layers: there is no layer 9; there are dense_1, dense_2, dense_3"),
        ({"layers": ["conv2d_1"]}, "layers: there is no layer 'conv2d_1'"),
        ({"layers": []}, "layers: none given"),
        ({"layers": "dense_1"}, "layers must be a list of indices or names, found 'dense_1'"),
        ({"layers": 0}, "layers must be a list of indices or names, found 0"),
        ({"layers": [1.0]}, "layers are named by index or name, found 1.0"),
        ({"bits": {True: 4}}, "layers are named by index or name, found True"),
        ({"method": ["gpfq"]}, "method must be one of"),
        ({"method": "gptq", "damping": True}, "damping must be a number not below 0, found True"),
        ({"sweeps": True}, "sweeps must be a whole number not below 0, found True"),
        ({"method": "gptq", "damping": 0}, "dense_1: H = X̃ᵀX̃ with damping 0 is singular"),
        ({"seed": -1, "method": "spfq"}, "seed must be a whole number not below 0, found -1"),
        ({"memory": -1}, "memory must be a number of bytes not below 0, found -1"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ParameterError, match=message):
        quantize(mlp(), X[:5], **arguments)


def test_bad_settings_are_refused_before_any_work():
    with pytest.raises(
        ParameterError, match="unknown setting 'bit'; known: method, bits, alphabet_scalar"
    ):
        quantize_many(mlp(), X, [{"bits": 4}, {"bit": 4}])
    with pytest.raises(ParameterError, match="method must be one of"):
        quantize_many(mlp(), X, [{"bits": 4}, {"method": "magic"}])


def test_bad_weights():
    network = mlp()
    broken = network.layers[1].kernel.copy()
    broken[0, :2] = np.nan, np.inf
    with pytest.raises(ParameterError, match="dense_2: 2 values of its kernel are NaN or infinite"):
        quantize(network.replace({1: network.layers[1].replace(kernel=broken)}), X)
    few = np.zeros((10, 8), np.float32)
    few[0] = 1
    with pytest.raises(
        ParameterError,
        match=r"dense_2: no alphabet: the median \|W\| is zero in the layer; at least",
    ):
        quantize(network.replace({1: network.layers[1].replace(kernel=few)}), X, radius="median")


def test_layers_without_weights():
    network = cnn()
    with pytest.raises(
        UnsupportedLayerError,
        match=(
            r"batch_normalization_1 \(layer 1\) is not a Dense, Conv2D or DepthwiseConv2D layer,"
            r" and those alone are quantized: leave it out, and it stays as it is"
        ),
    ):
        quantize(network, inputs(network), layers=[0, 1])
    with pytest.raises(
        UnsupportedLayerError,
        match=(
            "no layer can be quantized: of global_average_pooling2d_1, batch_normalization_1, none"
            " is Dense"
        ),
    ):
        quantize(Network([GlobalAveragePooling2D(), batch_norm(3)], (4, 4, 3)), None)
