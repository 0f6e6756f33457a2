"""Grids of activations, evaluation in integers, and files that run in integers."""

import numpy as np
import onnx
import onnxruntime
import pytest
from integer_networks import KINDS, SHAPE, conv, normal, on_grids, samples, up_to

import netreduce as nr
from netreduce import IntegerNetwork, Network, quantize_activations
from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
from netreduce.formats.onnx.writer import to_onnx
from netreduce.measures.packing import pack, unpack
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
    Multiply,
    Quantization,
)

onnxruntime.set_default_logger_severity(3)


def run(network, x, optimized=None):
    options = onnxruntime.SessionOptions()
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(
        to_onnx(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": x})[0]


@pytest.mark.parametrize(
    ("bits", "symmetric", "per_channel"), [(8, False, True), (8, True, False), (4, False, True)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_onnx_runtime(kind, bits, symmetric, per_channel):
    network = on_grids(KINDS[kind], bits, symmetric, per_channel=per_channel)
    x = samples(network)
    codes = IntegerNetwork(network).codes(x)
    index = max(i for i, layer in enumerate(network.layers) if isinstance(layer, ActivationGrid))
    grid = network.layers[index]
    found = grid.codes(run(up_to(network, index), x))
    assert len(np.unique(codes[index])) > 2**bits / 3
    apart = np.abs(found - codes[index])
    assert np.mean(apart == 0) >= 0.999
    assert apart.max() <= 1


@pytest.mark.parametrize("kind", ["add", "add relu"])
def test_codes_of_sums_are_those_of_onnx_runtime_every_one(kind):
    """On processors with fused multiply-add; a residual network makes much of a step."""
    network = on_grids(KINDS[kind])
    x = samples(network, 2000)
    (index,) = (i + 1 for i, layer in enumerate(network.layers) if isinstance(layer, Add))
    index += isinstance(network.layers[index], Activation)
    found = network.layers[index].codes(run(up_to(network, index), x))
    np.testing.assert_array_equal(found, IntegerNetwork(network).codes(x)[index])


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_onnx_runtime(kind):
    network = on_grids(KINDS[kind], weight_bits=4)
    x = samples(network)
    expected = IntegerNetwork(network).predict(x)
    difference = np.abs(run(network, x) - expected)
    assert np.mean(difference <= 1e-6 * np.abs(expected).max()) >= 0.99
    assert difference.max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED"])
@pytest.mark.parametrize("kind", KINDS)
def test_scores_at_every_level_of_optimization(kind, level):
    """Floats between the same codes: other orders of sums, and now and then a code."""
    network = on_grids(KINDS[kind])
    x = samples(network, 200)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    session = onnxruntime.InferenceSession(to_onnx(network).SerializeToString(), options)
    expected = IntegerNetwork(network).predict(x)
    difference = np.abs(session.run(None, {"input": x})[0] - expected)
    assert np.mean(difference <= 1e-5 * np.abs(expected).max()) >= 0.99
    assert difference.max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("weight_bits", [2, 4, 8])
@pytest.mark.parametrize(
    ("kind", "operators"),
    [
        ("dense relu", {"QuantizeLinear", "Flatten", "QGemm"}),
        ("flatten", {"QuantizeLinear", "QLinearConv", "Flatten", "QGemm"}),
        ("global average", {"QuantizeLinear", "QLinearConv", "Flatten", "QGemm"}),
    ],
)
def test_onnx_runtime_computes_in_integers(kind, operators, weight_bits, tmp_path):
    network = on_grids(KINDS[kind], weight_bits=weight_bits)
    run(network, samples(network, 2), tmp_path / "optimized.onnx")
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    assert {node.op_type for node in nodes} - {"Transpose", "Reshape"} <= operators


@pytest.mark.parametrize("kind", ["add relu", "concatenate"])
def test_tensors_with_several_readers_stay_integers(kind, tmp_path):
    network = on_grids(KINDS[kind])
    index = max(i for i, layer in enumerate(network.layers) if isinstance(layer, ActivationGrid))
    run(up_to(network, index), samples(network, 2), tmp_path / "optimized.onnx")
    operators = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert not operators & {"Conv", "Add", "Concat"}


def test_evaluation_in_integers_by_hand():
    """a = Σ (q − z) w + b with b rounded, and halves to even."""
    dense = Dense([[1.0], [-2.0]], [0.3], "relu", quantization=Quantization(1.0, 3))
    network = Network([ActivationGrid(0.5, -3, 3), dense, ActivationGrid(1.0, -4, 3)], (2,))
    integers = IntegerNetwork(network)
    assert integers.weights[1].bias.tolist() == [1]  # 0.3 / 0.5
    x = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [9.0, 0.0], [-9.0, 0.0], [0.0, 3.0]])
    codes = integers.codes(x)
    assert codes[0][:, 0].tolist() == [-3, -1, 1, 3, -4, -3]
    # sums 1, 3, 5, 7, 0, −11 of halves: 0.5 → 0, 1.5 → 2, 2.5 → 2, 3.5 → 4
    assert codes[2][:, 0].tolist() == [-4, -2, -2, 0, -4, -4]
    assert integers.predict(x)[:, 0].tolist() == [0, 2, 2, 4, 0, 0]
    assert integers.accumulators(x)["dense_1"].observed == 5  # −11 is one of them


def test_accumulators_in_the_worst_case():
    dense = Dense([[1.0], [-2.0]], [1.0], quantization=Quantization(1.0, 3))
    network = Network([ActivationGrid(1.0, 0, 3), dense], (2,))
    grid = np.array(np.meshgrid(*[np.arange(-4, 4)] * 2)).reshape(2, -1).T.astype(np.float32)
    found = IntegerNetwork(network).accumulators(grid)["dense_1"]
    # 3 + 8 + 1 = 12 at most, −4 − 6 at least
    assert (found.worst, found.observed) == (5, 5)
    wide = Network(
        [ActivationGrid(1.0, -128), Dense(np.ones((70_000, 1)), quantization=Quantization(1.0, 2))],
        (70_000,),
    )
    assert IntegerNetwork(wide).accumulators()["dense_1"].worst == 26  # 70,000 · 255 < 2^25


def test_sums_beyond_32_bits_are_refused():
    dense = Dense([[127.0], [126.0]], [2147480064.0], quantization=Quantization(1.0, 8))
    with pytest.raises(ParameterError, match="dense_1: its sums can take 33 bits"):
        IntegerNetwork(Network([ActivationGrid(1.0, -128), dense], (2,)))


@pytest.mark.parametrize("method", ["gpfq", "qronos"])
def test_weights_make_up_for_rounded_activations(method):
    """Samples of few directions: weights have freedom to compensate."""
    random = np.random.default_rng(0)
    x = (random.normal(size=(400, 8)) @ random.normal(size=(8, 40))).astype(np.float32)
    network = Network([Dense(normal(40, 30), activation="relu"), Dense(normal(30, 20))], (40,))
    rounded = quantize_activations(network, x, bits=4)
    options = {"method": method, "bits": 6, "radius": "max", "zero": True}
    aware = nr.quantize(rounded, x, **options)
    plain = nr.quantize(network, x, **options)
    unaware = rounded.replace({1: plain.layers[0], 3: plain.layers[1]})
    exact = network.predict(x)

    def error(reduced):
        return np.linalg.norm(reduced.predict(x) - exact)

    assert error(aware) < 0.95 * error(unaware)
    assert error(aware) < 0.95 * error(rounded)  # less than what rounding the activations cost


def test_the_target_is_the_network_without_grids():
    """One layer, quantized by GPFQ on rounded inputs: as GPFQ with X and X̃ says."""
    x = samples(Network([Dense(normal(12, 3))], (12,)), 60)
    network = Network([Dense(normal(12, 3))], (12,))
    rounded = quantize_activations(network, x, bits=3)
    (grid, dense) = nr.quantize(rounded, x, bits=3, radius="max", per_channel=False).layers
    X, Xq, scale = x.astype(float), grid(x).astype(float), float(dense.quantization.scale)
    for neuron in range(3):
        u = np.zeros(len(x))
        for t, w in enumerate(network.layers[0].kernel[:, neuron].astype(float)):
            target = Xq[:, t] @ (u + w * X[:, t]) / (Xq[:, t] @ Xq[:, t])
            code = 2 * np.clip(np.ceil((target / scale + 7) / 2 - 0.5), 0, 7) - 7
            assert code == dense.codes[t, neuron]
            u += w * X[:, t] - scale * code * Xq[:, t]


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_grids_do_not_depend_on_mini_batches(method, symmetric):
    network = KINDS["conv relu, padded, strided"]
    x = samples(network, 90)
    whole = quantize_activations(network, x, method=method, symmetric=symmetric)
    parts = quantize_activations(network, np.split(x, [7, 50]), method=method, symmetric=symmetric)
    for one, other in zip(whole.layers, parts.layers, strict=True):
        if isinstance(one, ActivationGrid):
            assert one.scale == pytest.approx(other.scale, rel=1e-6)
            assert one.zero_point == other.zero_point
            assert not symmetric or one.zero_point == 0


def test_ranges_of_grids():
    network = Network([Dense([[1.0]]), Dense([[1.0]])], (1,))
    x = np.append(np.linspace(-1, 3, 200_000), [-50.0, 100.0])[:, None].astype(np.float32)
    grids = {
        method: quantize_activations(network, x, 4, method).layers[0]
        for method in ("minmax", "percentile", "mse")
    }
    assert grids["minmax"].scale == pytest.approx(150 / 15)
    assert grids["minmax"].zero_point == -3
    assert grids["percentile"].scale == pytest.approx(4 / 15, rel=0.05)
    errors = {name: ((grid(x) - x) ** 2).mean() for name, grid in grids.items()}
    assert errors["mse"] < errors["minmax"] / 3
    symmetric = quantize_activations(network, x, 4, symmetric=True).layers[0]
    assert (symmetric.scale, symmetric.zero_point) == (pytest.approx(100 / 7), 0)


def test_where_grids_are():
    layers = [
        conv(4, 6),
        BatchNormalization(*(np.full(6, v, np.float32) for v in (1, 0, 0, 1))),
        Activation("relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(normal(36, 5), activation="tanh"),
        Dense(normal(5, 3)),
        Activation("softmax"),
    ]
    network = Network(layers, SHAPE)
    names = quantize_activations(network, samples(network, 20)).names
    assert [name.rsplit("_", 1)[0] for name in names] == [
        *("activation_grid", "conv2d", "activation", "activation_grid", "max_pooling2d", "flatten"),
        *("dense", "activation_grid", "activation", "activation_grid", "dense", "activation"),
    ]


@pytest.mark.parametrize("pool", [(2, 2), (3, 2)])
@pytest.mark.parametrize("bits", [4, 8])
def test_means_in_the_middle_of_two_codes_are_those_of_onnx_runtime(bits, pool):
    """Behind a saturated sigmoid the grids before and after the mean are the same: half of the
    means of two by two codes lie in the middle.
    """
    random = np.random.default_rng(0)
    network = Network(
        [
            Conv2D(random.normal(size=(3, 3, 4, 5)), activation="sigmoid", padding="same"),
            AveragePooling2D(pool),
            Flatten(),
            Dense(random.normal(size=(6 // pool[0] * (8 // pool[1]) * 5, 3))),
        ],
        (6, 8, 4),
    )
    x = (100 * random.normal(size=(64, 6, 8, 4))).astype(np.float32)
    rounded = quantize_activations(network, x, bits)
    both = nr.quantize(rounded, x, "msq", 8, radius="max", per_channel=True, zero=True)
    scores = both.predict(x)
    np.testing.assert_allclose(run(both, x), scores, atol=1e-4 * np.abs(scores).max())


def test_predict_is_in_integers_where_weights_and_activations_are():
    """With activations of 2 bits biases are coarse: the layers in floats would answer otherwise."""
    network = Network(
        [Dense(normal(12, 9), normal(9), activation="relu"), Dense(normal(9, 3))], (12,)
    )
    x = samples(network, 60)
    rounded = quantize_activations(network, x, bits=2)
    both = nr.quantize(rounded, x, "msq", 3, radius="max", zero=True)
    *_, in_floats = both.activations(x)
    assert np.abs(both.predict(x) - in_floats).max() > 0.05 * np.abs(in_floats).max()
    np.testing.assert_array_equal(both.predict(x), IntegerNetwork(both).predict(x))
    *_, in_floats = rounded.activations(x)
    np.testing.assert_array_equal(rounded.predict(x), in_floats)


def test_packing_and_cost_know_grids():
    network = on_grids(KINDS["add relu"])
    x = samples(network, 5)
    for coding in ("float", "dense", "sparse", "entropy"):
        again = unpack(pack(network, coding))
        np.testing.assert_array_equal(again.predict(x), network.predict(x))
        np.testing.assert_array_equal(
            IntegerNetwork(again).predict(x), IntegerNetwork(network).predict(x)
        )
    assert nr.cost(network).macs == nr.cost(KINDS["add relu"]).macs


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 7])
def test_packed_weights_are_the_same_integers(bits, zero):
    kernel = np.random.default_rng(2).normal(size=(40, 8))
    network = Network([Dense(kernel, activation="relu"), Dense(kernel[:8, :3])], (40,))
    x = samples(network)
    rounded = quantize_activations(network, x)
    network = nr.quantize(rounded, x, "msq", bits, radius="max", zero=zero, per_channel=True)
    expected = IntegerNetwork(network).predict(x)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        session = onnxruntime.InferenceSession(to_onnx(network).SerializeToString(), options)
        difference = np.abs(session.run(None, {"input": x})[0] - expected)
        assert np.mean(difference <= 1e-6 * np.abs(expected).max()) >= 0.99
        assert difference.max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize(("bits", "size"), [(8, 62_000), (4, 31_000), (2, 15_500), (1.58, 15_500)])
def test_files_are_as_small_as_their_weights(bits, size, tmp_path):
    network = Network([Dense(normal(300, 200), activation="relu"), Dense(normal(200, 10))], (300,))
    nr.export(on_grids(network, weight_bits=bits), tmp_path / "network.onnx")
    assert (tmp_path / "network.onnx").stat().st_size < size + 8_000


@pytest.mark.parametrize("weight_bits", [4, 8])
def test_a_channel_takes_a_bias_and_a_scale(weight_bits):
    """And nothing besides: scales of biases are products of others, names are short."""
    layers = [Conv2D(normal(1, 1, 128, 128), normal(128), "relu") for _ in range(3)]
    network = on_grids(Network([*layers, conv(128, 128)], (3, 3, 128)), weight_bits=weight_bits)
    weights, channels = 128 * (3 * 128 + 9 * 128), 4 * 128
    assert to_onnx(network).ByteSize() < weights * weight_bits / 8 + 8 * channels + 2800


GRID = ActivationGrid(0.1)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([GRID, Dense(normal(4, 2))], "dense_1: its weights are analog: quantize them"),
        (
            [GRID, Dense([[255.0, 2.0]] * 4, quantization=Quantization(1.0, 8))],
            "dense_1: its weights are codes of up to ±255.*zero=True, or to fewer bits",
        ),
        (
            [GRID, Dense(np.ones((4, 2)), quantization=Quantization(np.ones((4, 1)), 2))],
            "dense_1: its weights have a scale for every input",
        ),
        (
            [GRID, Dense(np.ones((4, 2)), [1e20, 0], quantization=Quantization(1.0, 2))],
            "dense_1: its bias is beyond 32 bits",
        ),
        (
            [Dense(np.ones((4, 2)), quantization=Quantization(1.0, 2))],
            "dense_1: what it reads is not on a grid",
        ),
        (
            [GRID, Dense(np.ones((4, 2)), None, "tanh", quantization=Quantization(1.0, 2)), GRID],
            "dense_1: its activation 'tanh' must be a layer of its own",
        ),
    ],
)
def test_what_has_no_integers_is_refused_by_name(layers, message):
    network = Network(layers, (4,))
    with pytest.raises(UnsupportedLayerError, match=message):
        IntegerNetwork(network)
    if isinstance(layers[0], ActivationGrid):
        with pytest.raises(UnsupportedLayerError, match=message):
            to_onnx(network)


def test_batch_normalization_is_for_images_and_vectors():
    network = Network([GRID, BatchNormalization(*np.ones((4, 4))), GRID], (3, 4))
    with pytest.raises(UnsupportedLayerError, match=r"batch_normalization_1: .* of shape \(3, 4\)"):
        IntegerNetwork(network)


def test_batch_normalization_that_stays_is_as_good_as_the_grids_around_it():
    norm = BatchNormalization([2.0, -0.5, 0.0], [0.1, -0.2, 0.3], [1.0, 2.0, 3.0], [4.0, 0.1, 1.0])
    network = Network([ActivationGrid(0.02), norm, ActivationGrid(0.03)], (5, 4, 3))
    x = np.random.default_rng(0).normal(size=(50, 5, 4, 3)).astype(np.float32)
    integers = IntegerNetwork(network)
    assert list(integers.accumulators()) == ["batch_normalization_1"]
    apart = np.abs(integers.predict(x) - network.predict(x)) / 0.03
    assert np.mean(apart < 0.01) > 0.99 and apart.max() < 1.01


def test_products_are_refused_by_name():
    network = Network([GRID, Multiply(), GRID], (4,), [(-1,), (0, 0), (1,)])
    with pytest.raises(UnsupportedLayerError, match="multiply_1: Multiply is not known"):
        IntegerNetwork(network)


@pytest.mark.parametrize("name", ["a.pth", "a.txt"])
def test_files_that_cannot_say_grids_refuse_them(name, tmp_path):
    network = Network([GRID, Dense(np.ones((4, 2)))], (4,))
    with pytest.raises(UnsupportedLayerError, match=r"grid.*export the network to .onnx"):
        nr.save(network, tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_no_bound_is_claimed_behind_grids():
    network = Network([GRID, Dense(np.ones((4, 2)))], (4,))
    with pytest.raises(
        UnsupportedLayerError, match=r"^activation_grid_1: .* rounded: lump first, .*s$"
    ):
        nr.lump(network)
    with pytest.raises(UnsupportedLayerError, match="activation_grid_1: no linear relaxation"):
        nr.certify(network, network)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"bits": 9}, ParameterError, "bits of activations must be a whole number from 2 to 8"),
        ({"bits": True}, ParameterError, "bits of activations"),
        ({"method": "max"}, ParameterError, "method must be one of minmax, percentile, mse"),
        ({"samples": None}, SampleError, "this method learns from samples"),
        ({"samples": np.zeros((0, 4))}, SampleError, "there are no samples"),
        ({"samples": np.zeros((3, 4))}, ParameterError, "the input is zero on all samples"),
        (
            {"samples": np.full((3, 4), -1.0)},
            ParameterError,
            "the output of dense_1 is zero on all samples",
        ),
        ({"samples": np.full((3, 4), 1e38)}, SampleError, "dense_1: its outputs overflow"),
    ],
)
def test_bad_arguments(arguments, error, message):
    ones = np.ones((4, 2), np.float32)
    layers = [Dense(ones, activation="relu"), Dense(ones[:2])]
    arguments = {"samples": np.ones((3, 4)), **arguments}
    with pytest.raises(error, match=message), np.errstate(over="ignore"):
        quantize_activations(Network(layers, (4,)), **arguments)


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("unit", [2.0**-140, 2.0**-1060, 2.0**129])
def test_ranges_that_float32_cannot_span(method, unit):
    network = Network([Dense(np.eye(3)), Dense(np.eye(3))], (3,))
    with pytest.raises(ParameterError, match=r"the input has a range of .*: a grid is of float32"):
        quantize_activations(network, unit * np.eye(3), method=method)


def test_activations_are_quantized_once():
    network = Network([GRID, Dense(np.ones((4, 2)))], (4,))
    with pytest.raises(ParameterError, match=r"activation_grid_1: .* lie on grids already"):
        quantize_activations(network, np.ones((3, 4)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scale": 0.0}, "scale of an ActivationGrid must be finite and positive"),
        ({"scale": np.nan}, "scale of an ActivationGrid"),
        ({"scale": 1.0, "bits": 9}, "bits of an ActivationGrid must be from 2 to 8"),
        ({"scale": 1.0, "bits": 3, "zero_point": 4}, "must be a whole number from -4 to 3"),
        ({"scale": 1.0, "zero_point": 0.5}, "zero_point of an ActivationGrid"),
    ],
)
def test_grids_out_of_range(arguments, message):
    with pytest.raises(ParameterError, match=message):
        ActivationGrid(**arguments)
