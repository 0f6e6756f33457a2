"""What whole networks hide: slabs of neurons, ties, buffers, chunks, units, silent neurons."""

from importlib import import_module
from itertools import product

import numpy as np
import pytest
from quantization_definitions import each_neuron, levels
from quantization_definitions import gpfq as plain_gpfq

from netreduce.errors import SampleError
from netreduce.network import Network
from netreduce.network.layers import Add, Conv2D, Dense, DepthwiseConv2D, Flatten
from netreduce.quantization import METHODS, quantize, quantize_many
from netreduce.quantization import layer as quantize_layer
from netreduce.quantization import walk as walk_module
from netreduce.quantization.alphabet import Alphabet, make_alphabet
from netreduce.quantization.comq import output_error
from netreduce.quantization.gptq import cholesky_upper, damped
from netreduce.quantization.gram import PANEL, accumulate, to_groups
from netreduce.quantization.propagation import Propagation
from netreduce.quantization.samples import Budget, Chunks, Samples
from netreduce.quantization.walk import HARD, NEAREST, SLAB, STOCHASTIC, walk

GIVEN = [name for name, method in METHODS.items() if not method.scales]  # the alphabet
DATA_DRIVEN = [name for name, method in METHODS.items() if method.needs]


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def alphabet_of(scale, top):
    return Alphabet(np.asarray(float(scale)), top)


def problem(inputs=7, neurons=3 * SLAB + 5, groups=2):
    X, X_quantized = normal(groups, 40, inputs), normal(groups, 40, inputs, seed=1)
    X_quantized = X + 0.3 * X_quantized
    transposed = X_quantized.transpose(0, 2, 1)
    return normal(groups, inputs, neurons), transposed @ X, transposed @ X_quantized


# ---------------------------------------------------------------- units of inputs and weights


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [-60, -20, 20])
def test_the_unit_of_the_inputs_does_not_matter(method, power):
    network = Network([Dense(normal(12, 9), normal(9), "relu"), Dense(normal(9, 4))], (12,))
    x = np.maximum(normal(50, 12), 0)
    x[:, 3] = 0
    layers = quantize(network, x, method, 3).layers
    scaled = network.replace({0: network.layers[0].replace(bias=normal(9) * 2.0**power)})
    for layer, other in zip(
        layers, quantize(scaled, x * 2.0**power, method, 3).layers, strict=True
    ):
        np.testing.assert_array_equal(layer.codes, other.codes)


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_of_the_weights_does_not_matter(method):
    kernel, x = normal(12, 9), np.maximum(normal(50, 12), 0)
    for power in (-70, 70):
        codes, others = (
            quantize(Network([Dense(kernel * factor)], (12,)), x, method, 3).layers[0].codes
            for factor in (1.0, 2.0**power)
        )
        np.testing.assert_array_equal(codes, others)


def test_a_faint_input_is_not_dead_and_a_silent_one_is():
    kernel = np.array([[0.3], [0.4]])
    x = np.array([[1.0, 0.0], [0.0, 1e-17]])
    assert quantize(Network([Dense(kernel)], (2,)), x, bits=2).layers[0].codes.all()
    assert quantize(Network([Dense(kernel)], (2,)), x * [1, 0], bits=2).layers[0].codes[1] == 0


def test_spfq_keeps_the_mean_of_the_first_weight():
    """Where the analog inputs are not those of the quantized network, the shortcut of GPFQ rounds
    w itself: the mean would be 0.37 in place of 0.297."""
    weights, alphabet = np.array([[[0.37]]]), alphabet_of(0.5, 4)
    G, H = np.array([[[0.297 / 0.37]]]), np.ones((1, 1, 1))
    draws = [
        0.5 * METHODS["spfq"].function(weights, G, H, alphabet, np.random.default_rng(seed))[0, 0]
        for seed in range(4000)
    ]
    assert abs(np.mean(draws) - 0.297) < 0.03


# ---------------------------------------------------------------- the walk


def test_neurons_do_not_depend_on_who_walks_beside_them():
    weights, G, H = problem()
    pruned = np.random.default_rng(0).random(weights.shape) < 0.4
    uniform = np.random.default_rng(1).random(weights.shape)
    alphabet = alphabet_of(0.3, 7)
    for mode in (NEAREST, STOCHASTIC):
        codes = walk(weights, G, H, alphabet, mode=mode, uniform=uniform, pruned=pruned)
        for n in range(weights.shape[2]):
            one = slice(n, n + 1)
            alone = walk(
                weights[:, :, one],
                G,
                H,
                alphabet,
                mode=mode,
                uniform=uniform[:, :, one],
                pruned=pruned[:, :, one],
            )
            np.testing.assert_array_equal(codes[:, :, one], alone)


def test_ties_go_to_the_lower_level_and_a_weight_at_the_threshold_to_zero():
    H = np.ones((1, 1, 1))
    halfway = np.array([[[-2.0, 0.0, 2.0]]])
    np.testing.assert_array_equal(walk(halfway, H, H, alphabet_of(1, 3))[0, 0], [-3, -1, 1])
    np.testing.assert_array_equal(alphabet_of(1, 3).nearest(halfway)[0, 0], [-3, -1, 1])
    at = np.array([[[1.5, -1.5, 1.6]]])
    codes = walk(at, H, H, alphabet_of(1, 3), mode=HARD, threshold=0.5)
    np.testing.assert_array_equal(codes[0, 0], [0, 0, 1])


def test_inputs_of_equal_norm_are_walked_in_their_own_order():
    x = np.vstack([np.eye(40), normal(20, 1) * np.ones((20, 40))])
    network = Network([Dense(normal(40, 5))], (40,))
    np.testing.assert_array_equal(
        *(quantize(network, x, bits=2, activation_order=a).layers[0].codes for a in (True, False))
    )


def test_activation_order_reads_all_of_G():
    inputs = PANEL + 30
    kernel, x = normal(inputs, 3), normal(300, inputs) * np.linspace(1, 2, inputs)
    network = Network([Dense(kernel), Dense(normal(3, 3))], (inputs,))
    first = Dense(normal(inputs, inputs) / 20 + np.eye(inputs))
    network = Network([first, Dense(kernel)], (inputs,))
    quantized = quantize(network, x, bits=3, alphabet_scalar=2, activation_order=True)
    analog, seen = first(x), quantized.layers[0](x)
    order = np.argsort(-np.linalg.norm(seen, axis=0), kind="stable")
    radius = 2 * np.median(np.abs(kernel))
    plain = each_neuron(
        plain_gpfq, kernel[order], analog[:, order], seen[:, order], levels(radius, 8)
    )
    np.testing.assert_allclose(quantized.layers[1].kernel[order], plain, atol=1e-9)


# ---------------------------------------------------------------- Gram matrices


@pytest.mark.parametrize("dilation", [(2, 1), (1, 2), (2, 3)])
@pytest.mark.parametrize("kind", [Conv2D, DepthwiseConv2D])
def test_gram_matrices_of_dilated_windows_in_double_precision(dilation, kind):
    layer = kind(normal(3, 2, 2, 3), dilation=dilation, padding="same", strides=1)
    x, analog = normal(5, 9, 8, 2), normal(5, 9, 8, 2, seed=1)
    G, H = accumulate(layer, "channel", [(x, analog)])
    for channel in range(2):
        windows, others = (
            np.concatenate(
                [
                    layer.padded(a)[:, i : i + 2 * dilation[0] + 1 : dilation[0]][
                        :, :, j : j + dilation[1] + 1 : dilation[1], channel
                    ].reshape(len(a), 6)
                    for i in range(9)
                    for j in range(8)
                ]
            )
            for a in (x, analog)
        )
        np.testing.assert_allclose(H[channel], windows.T @ windows, rtol=1e-12)
        np.testing.assert_allclose(np.tril(G[channel]), np.tril(windows.T @ others), rtol=1e-10)


@pytest.mark.parametrize(
    "groups, conv", [(1, "joint"), (2, "joint"), (1, "channel"), (2, "channel")]
)
def test_targets_in_place_of_G(groups, conv):
    layer = Conv2D(normal(3, 2, 4 // groups, 6), padding="same", groups=groups)
    x, analog = normal(5, 9, 8, 4), normal(5, 9, 8, 4, seed=1)
    weights = to_groups(layer.kernel.astype(np.float64), layer, conv)
    G, H = accumulate(layer, conv, [(x, analog)])
    target, same = accumulate(layer, conv, [(x, analog)], weights=weights)
    np.testing.assert_array_equal(same, H)
    np.testing.assert_allclose(target, G @ weights, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_with_corrected_biases_the_codes_are_those_of_centred_inputs(method):
    kernel, bias, x = normal(12, 9), normal(9), np.maximum(normal(200, 12) + 1, 0)
    x[:, 3], x[:, 5] = 0, 0.7  # a dead input, and one that never varies
    words = {"bits": 2, "radius": "mse", "per_channel": True}
    centred = x - x.mean(axis=0)
    centred[:, 5] = 0
    (layer,) = quantize(
        Network([Dense(kernel, bias)], (12,)), x, method, correct_bias=True, **words
    ).layers
    (other,) = quantize(Network([Dense(kernel, bias)], (12,)), centred, method, **words).layers
    if method == "msq":  # which sees no samples
        np.testing.assert_array_equal(layer.codes, other.codes)
    else:
        np.testing.assert_array_equal(layer.codes[3], 0)
        np.testing.assert_array_equal(layer.codes[5], 0)
        np.testing.assert_array_equal(layer.codes, other.codes)
    wanted = x @ kernel + bias
    np.testing.assert_allclose(layer.linear(x).mean(axis=0), wanted.mean(axis=0), atol=1e-5)


@pytest.mark.parametrize("radius", ["median", "output"])
@pytest.mark.parametrize("method", ["gpfq", "gptaq", "qronos", "msq"])
def test_corrected_biases_keep_the_means_of_every_layer(method, radius):
    network = Network(
        [
            Conv2D(normal(3, 3, 2, 4), normal(4), "relu"),
            DepthwiseConv2D(normal(2, 2, 4, 1), normal(4), activation="relu"),
            Flatten(),
            Dense(normal(100, 6), normal(6), "relu"),
            Dense(normal(6, 3), normal(3)),
        ],
        (8, 8, 2),
    )
    x = normal(300, 8, 8, 2)
    words = {"bits": 1.58, "conv": "joint", "radius": radius, "correct_bias": True}
    quantized = quantize(network, x, method, **words)
    analog, seen = x, x
    for index, (layer, other) in enumerate(zip(network.layers, quantized.layers, strict=True)):
        if index in (0, 3, 4):
            means = [
                one.linear(values).mean(axis=tuple(range(values.ndim - 1)))
                for one, values in ((layer, analog), (other, seen))
            ]
            np.testing.assert_allclose(*means, atol=1e-4)
        elif index == 1:  # quantized in several groups
            np.testing.assert_array_equal(layer.bias, other.bias)
        analog, seen = layer(analog), other(seen)


@pytest.mark.parametrize("method", ["gptq", "gptaq", "qronos"])
@pytest.mark.parametrize("activation_order", [False, True])
def test_radii_share_the_factorization_of_their_layer(method, activation_order, monkeypatch):
    rng = np.random.default_rng(0)
    network = Network([Dense(rng.normal(size=size)) for size in ((8, 6), (6, 4))], (8,))
    samples = rng.normal(size=(50, 8))
    options = {"bits": 2, "radius": "output", "activation_order": activation_order}
    whole = quantize(network, samples, method, **options)
    made = []

    def counted(*arguments):
        made.append(cholesky_upper(*arguments))
        return made[-1]

    monkeypatch.setattr(
        import_module(f"netreduce.quantization.{method}"), "cholesky_upper", counted
    )
    monkeypatch.setattr(quantize_layer, "COPIES", 3 * 8 * 6)
    parts = quantize(network, samples, method, **options)
    assert len(made) == 2
    for one, other in zip(whole.layers, parts.layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)


@pytest.mark.parametrize("words", [{}, {"power_of_two": True}, {"per_channel": True}])
@pytest.mark.parametrize("method", GIVEN)
def test_radii_that_are_not_tried_would_not_be_taken(monkeypatch, method, words):
    network = Network(
        [Conv2D(normal(3, 3, 2, 5)), Flatten(), Dense(normal(80, 30) ** 3)], (6, 6, 2)
    )
    monkeypatch.setattr(quantize_layer, "COPIES", 1)  # a radius at a time
    tried, found = [], []
    for enough in (quantize_layer.ENOUGH, 0):
        monkeypatch.setattr(quantize_layer, "ENOUGH", enough)
        errors = []

        def counted(*arguments, errors=errors):
            errors.append(output_error(*arguments))
            return errors[-1]

        monkeypatch.setattr(quantize_layer, "output_error", counted)
        options = {"bits": 4, "radius": "output", "conv": "joint", **words}
        found.append(quantize(network, normal(100, 6, 6, 2), method, **options))
        tried.append(len(errors))
    assert tried[0] < tried[1] == 2 * (6 if "power_of_two" in words else 32)
    for one, other in zip(found[0].layers, found[1].layers, strict=True):
        for name, array in one.arrays().items():
            np.testing.assert_array_equal(array, other.arrays()[name])


def test_the_walk_is_compiled_once_for_all_methods():
    network = Network([Conv2D(normal(3, 3, 2, 5)), Flatten(), Dense(normal(80, 30))], (6, 6, 2))
    x = normal(50, 6, 6, 2).astype(np.float32)
    for method, conv in product(DATA_DRIVEN, ("channel", "joint")):
        if not METHODS[method].scales:
            quantize(network, x, method, 3, conv=conv)
            quantize(network, x, method, 3, conv=conv, radius="output", per_channel=True)
    assert len(walk_module._walk.signatures) == 1


def test_one_sample_has_no_variance():
    network = Network([Dense(np.ones((3, 2), np.float32))], (3,))
    with pytest.raises(SampleError, match="correct_bias needs more than one sample"):
        quantize(network, np.ones((1, 3)), correct_bias=True)


def test_damping_is_a_fraction_of_the_live_inputs():
    H = np.diag([4.0, 0.0, 2.0])
    np.testing.assert_array_equal(np.diagonal(damped(H, 0.1)), [4.3, 1.0, 2.3])


def test_a_pivot_of_rounding_errors_is_singular():
    from netreduce.errors import ParameterError

    with pytest.raises(ParameterError, match="singular"):
        cholesky_upper(np.array([[1.0, 1.0], [1.0, 1.0 + 4e-16]]), 0)


# ---------------------------------------------------------------- samples and outputs on their way


def test_mini_batches_become_chunks_of_one_size_and_the_networks_type(monkeypatch):
    monkeypatch.setattr("netreduce.quantization.samples.CHUNK_BYTES", 4 * 3 * 4)
    network = Network([Dense(np.ones((3, 3), np.float32))], (3,))
    batches = [np.full((size, 3), size, np.uint8) for size in (3, 6, 1, 7)]
    for samples in (batches, np.concatenate(batches)):
        chunks = list(Samples(network, samples))
        assert [len(chunk) for chunk in chunks] == [4, 4, 4, 4, 1]
        assert all(chunk.dtype == np.float32 for chunk in chunks)
        np.testing.assert_array_equal(np.concatenate(chunks), np.concatenate(batches))


def test_chunks_on_disk_come_back_in_any_order_and_memory_is_given_back():
    budget = Budget(100)
    chunks = Chunks(budget)
    arrays = [normal(6, 5), normal(7, 3).T, np.float32(normal(2, 2, 2)), normal(1)]
    for number in (0, 1):
        chunks[number] = arrays[number]
    np.testing.assert_array_equal(chunks[0], arrays[0])
    for number in (2, 3):
        chunks[number] = arrays[number]
    for number in (3, 1, 0, 2):
        np.testing.assert_array_equal(chunks[number], arrays[number])
    assert budget.left == 100 - 32 - 8
    del chunks[2]
    assert budget.left == 100 - 8
    chunks.close()
    assert budget.left == 100


def skipping():
    """Layer 0 is read by layer 1 and, at the end, by the addition."""
    layers = [Dense(normal(6, 6, seed=i)) for i in range(3)]
    return Network([*layers, Add()], (6,), sources=[(-1,), (0,), (1,), (0, 2)])


def test_settings_do_not_see_each_others_outputs():
    settings = [{"bits": 2}, {"bits": 5}, {"bits": 2, "method": "gptq"}]
    x = normal(40, 6)
    for setting, network, _ in quantize_many(skipping(), x, settings):
        alone_network = quantize(skipping(), x, **setting)
        for layer, alone in zip(network.layers, alone_network.layers, strict=True):
            if isinstance(layer, Dense):
                np.testing.assert_array_equal(layer.codes, alone.codes)


def test_only_what_lies_behind_a_quantized_layer_is_computed_twice():
    network = skipping()
    propagation = Propagation(network, normal(10, 6), 1 << 20, keep=False)
    propagation.start([0, 1, 2], True, False)
    propagation.exchange(1, network.layers[1])
    assert propagation.touched == {1, 2, 3}
    branches = Network(
        [Dense(normal(6, 6)), Dense(normal(6, 6)), Add()], (6,), [(-1,), (-1,), (0, 1)]
    )
    propagation = Propagation(branches, normal(10, 6), 1 << 20, keep=False)
    propagation.start([0, 1], True, False)
    propagation.exchange(0, branches.layers[0])
    assert propagation.touched == {0, 2}


# ---------------------------------------------------------------- alphabets


def test_the_least_squares_radius_reaches_the_largest_weight_and_ignores_pruned_ones():
    assert make_alphabet(np.array([1.0, -1.0]), 2, radius="mse").scale * 3 == 1.0
    kernel = np.where(np.arange(200) % 2, normal(200), 0)
    np.testing.assert_array_equal(
        make_alphabet(kernel, 3, radius="mse", keep_zeros=True).scale,
        make_alphabet(kernel[kernel != 0], 3, radius="mse").scale,
    )


def test_each_group_has_its_own_alphabet():
    kernel = (normal(3, 3, 4, 2) * [[1], [3], [10], [30]]).astype(np.float32)
    x = normal(30, 6, 6, 4).astype(np.float32)
    layer = DepthwiseConv2D(kernel)
    for method in METHODS:
        options = {"method": method, "bits": 3, "per_channel": True}
        if method == "spfq":
            continue  # draws for all groups at once
        together = quantize(Network([layer], (6, 6, 4)), x, **options).layers[0]
        for channel in range(4):
            one = slice(channel, channel + 1)
            alone = Network([layer.replace(kernel=kernel[:, :, one], bias=np.zeros(2))], (6, 6, 1))
            alone = quantize(alone, x[..., one], **options).layers[0]
            np.testing.assert_array_equal(together.codes[:, :, one], alone.codes)


@pytest.mark.parametrize(
    ("method", "radius"),
    [*product(METHODS, ["median", "max", "mse"]), *product(GIVEN, ["output"])],
)
@pytest.mark.parametrize("zero", [False, True])
def test_a_neuron_of_zeros_stays_one(method, radius, zero):
    kernel = normal(8, 5)
    kernel[:, 2] = 0
    bias = normal(5)
    options = {"per_channel": True, "radius": radius, "zero": zero, "quantize_bias": True}
    layer = quantize(Network([Dense(kernel, bias)], (8,)), normal(40, 8), method, 3, **options)
    layer = layer.layers[0]
    assert not layer.codes[:, 2].any()
    np.testing.assert_allclose(layer.bias[2], bias[2], rtol=1e-12)
    others = np.delete(layer.codes, 2, axis=1)
    assert others.any(axis=0).all()
    filters = normal(3, 3, 2, 2)
    filters[:, :, 1, 0] = 0
    network = Network([DepthwiseConv2D(filters)], (5, 5, 2))
    del options["quantize_bias"]
    found = quantize(network, normal(20, 5, 5, 2), method, 3, **options).layers[0]
    assert not found.codes[:, :, 1, 0].any()
    assert found.codes.any(axis=(0, 1)).sum() == 3


def test_a_layer_of_zeros_stays_one():
    network = Network([Dense(np.zeros((3, 3)), normal(3)), Dense(normal(3, 2))], (3,))
    for method in METHODS:
        quantized = quantize(network, normal(20, 3), method, 4)
        assert not quantized.layers[0].kernel.any()
        assert quantized.layers[0].quantization is not None
        np.testing.assert_array_equal(quantized.layers[0].bias, network.layers[0].bias)


def test_zero_biases_of_a_pruned_convolution_stay_zero():
    bias = np.array([0.0, 0.7, 0.0])
    network = Network([Conv2D(normal(3, 3, 2, 3), bias), Flatten()], (4, 4, 2))
    options = {"conv": "channel", "quantize_bias": True, "keep_zeros": True}
    layer = quantize(network, normal(20, 4, 4, 2), bits=2, **options).layers[0]
    assert (layer.bias != 0).tolist() == [False, True, False]


def test_integers_around_zero_and_powers_of_two():
    network, x = Network([Dense(normal(40, 6))], (40,)), normal(100, 40)
    for method in GIVEN:
        layer = quantize(network, x, method, 3, radius="max", zero=True, power_of_two=True)
        layer = layer.layers[0]
        assert set(np.unique(layer.codes)) <= set(range(-6, 7, 2))
        exponents = np.log2(layer.quantization.scale)
        np.testing.assert_array_equal(exponents, np.rint(exponents))
        assert layer.quantization.bits == np.log2(7)


@pytest.mark.parametrize("radius", ["max", "mse", "output"])
def test_the_alphabet_of_a_bias_alone_is_a_power_of_two_too(radius):
    network = Network([Dense(normal(40, 6) * [1, 1, 0, 1, 1, 1], np.full(6, 0.3))], (40,))
    words = {"radius": radius, "quantize_bias": True, "power_of_two": True}
    exponents = np.log2(quantize(network, normal(100, 40), **words).layers[0].quantization.scale)
    np.testing.assert_array_equal(exponents, np.rint(exponents))


@pytest.mark.parametrize("method", GIVEN)
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_radius_of_least_output_error(method, per_channel):
    """Not worse on the samples than any fixed radius of those it tries, neuron by neuron where each
    has its own."""
    x = np.maximum(normal(200, 30) @ normal(30, 30, seed=1), 0)
    kernel = normal(30, 8)
    kernel[4, 2] = 60.0
    network = Network([Dense(kernel)], (30,))

    def errors(**options):
        layer = quantize(network, x, method, 2, per_channel=per_channel, **options).layers[0]
        return ((x @ layer.kernel - x @ kernel) ** 2).sum(axis=0)

    best, widest, rounded = (errors(radius=radius) for radius in ("output", "max", "mse"))
    assert best.sum() <= widest.sum() * (1 + 1e-9)
    assert best.sum() <= rounded.sum() * 1.01
    if per_channel:
        assert (best <= widest * (1 + 1e-9)).all()
