"""Networks in integers as LiteRT files: the codes of `IntegerNetwork`."""

from itertools import product

import numpy as np
import pytest
from integer_networks import KINDS, SHAPE, conv, normal, on_grids, samples, up_to

import netreduce as nr
from netreduce import IntegerNetwork, Network
from netreduce.errors import ModelFileError, ParameterError, SampleError, UnsupportedLayerError
from netreduce.measures import latency
from netreduce.measures.deployment import predict_file
from netreduce.measures.latency import measure_files
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePooling2D,
    Reshape,
    UpSampling2D,
)

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
interpreters = pytest.importorskip("ai_edge_litert.interpreter", reason="LiteRT is not installed")

from netreduce.formats.litert import to_litert  # noqa: E402

REFUSED = {
    "average pooling, padded": "average_pooling2d_1: LiteRT has no average pooling in integers",
    "add three, relu": "add_1: LiteRT has no Add of 3 tensors in integers",
}


def interpreter(network, x):
    found = interpreters.Interpreter(model_content=to_litert(network), num_threads=1)
    index = found.get_input_details()[0]["index"]
    found.resize_tensor_input(index, x.shape)
    found.allocate_tensors()
    found.set_tensor(index, x)
    found.invoke()
    return found


def run(network, x):
    found = interpreter(network, x)
    return found.get_tensor(found.get_output_details()[0]["index"])


def codes_apart(network, x, runtime="onnxruntime"):
    """How many steps the codes of the last grid are from the reference's."""
    expected = IntegerNetwork(network, runtime).codes(x)
    index = max(i for i, layer in enumerate(network.layers) if isinstance(layer, ActivationGrid))
    found = network.layers[index].codes(run(up_to(network, index), x))
    assert len(np.unique(expected[index])) > 2 ** network.layers[index].bits / 3
    return np.abs(found - expected[index])


@pytest.mark.parametrize(
    ("bits", "symmetric", "per_channel"), [(8, False, True), (8, True, False), (4, False, True)]
)
@pytest.mark.parametrize("kind", sorted(KINDS.keys() - REFUSED))
def test_codes_are_those_of_litert(kind, bits, symmetric, per_channel):
    network = on_grids(KINDS[kind], bits, symmetric, per_channel=per_channel)
    apart = codes_apart(network, samples(network))
    assert np.mean(apart == 0) >= 0.999
    assert apart.max() <= 1


@pytest.mark.parametrize("kind", ["dense", "dense relu", "depthwise", "sigmoid"])
def test_codes_with_weights_of_4_bits(kind):
    network = on_grids(KINDS[kind], weight_bits=4)
    apart = codes_apart(network, samples(network))
    assert np.mean(apart == 0) >= 0.999
    assert apart.max() <= 1


@pytest.mark.parametrize(
    "kind", ["conv", "conv relu, padded, strided", "conv in groups", "conv dilated", "relu6"]
)
def test_convolutions_of_4_bits_round_twice(kind):
    """LiteRT's kernels round a sum times a number in [1/2, 1) first, then a power of two of it."""
    network = on_grids(KINDS[kind], weight_bits=4)
    x = samples(network, 1000)
    assert codes_apart(network, x).max() == 1
    apart = codes_apart(network, x, "litert")
    assert np.mean(apart == 0) >= 0.999
    assert apart.max() <= 1


@pytest.mark.parametrize(
    "layer",
    [
        Dense(normal(7, 4)),
        Dense(normal(8, 4)),
        conv(4, 4),
        Conv2D(normal(1, 1, 2, 4), groups=2),
        Conv2D(normal(3, 3, 1, 4), groups=4),
    ],
    ids=["odd", "even", "conv", "groups", "one channel a group"],
)
def test_codes_below_and_above_zero_with_weights_of_4_bits(layer):
    """Which kernel rounds depends on the layer; half of a step is frequent where a runtime rounds
    twice, and its sign tells the kernels of convolutions apart."""
    shape = layer.kernel.shape[:1] if isinstance(layer, Dense) else (4, 4, 4)
    network = Network([ActivationGrid(1.0, 3), layer, ActivationGrid(0.3, -5)], shape)
    network = nr.quantize(network, None, "msq", 4, radius="max", per_channel=True, zero=True)
    x = np.random.default_rng(0).integers(-9, 10, (200, *shape)).astype(np.float32)
    expected = IntegerNetwork(network, "litert").codes(x)[2]
    assert np.ptp(expected) > 40 and expected.min() < -5
    np.testing.assert_array_equal(network.layers[2].codes(run(network, x)), expected)


@pytest.mark.parametrize(
    ("layers", "sources", "message"),
    [
        ([Dense(np.eye(2))], None, "dense_1: LiteRT multiplies sums by less than 256 to bring"),
        (
            [Flatten(), Reshape((1, 1, 2)), GlobalAveragePooling2D()],
            None,
            "global_average_pooling2d_1: LiteRT multiplies sums by less than 256",
        ),
        ([Add()], [(-1,), (0, 0), (1,)], "add_1: LiteRT adds up to at most 32767 steps"),
    ],
)
def test_grids_that_are_too_fine_for_what_they_read(layers, sources, message):
    """The runtime would not start, or sums wrap around."""
    network = Network([ActivationGrid(1.0), *layers, ActivationGrid(0.001)], (2,), sources)
    if isinstance(layers[0], Dense):
        network = nr.quantize(network, None, "msq", 8, radius="max", zero=True, layers=["dense_1"])
        network = network.replace({2: ActivationGrid(1e-6)})
    with pytest.raises(UnsupportedLayerError, match=message):
        to_litert(network)


def test_sums_of_almost_16_bits():
    network = Network(
        [ActivationGrid(1.0), Add(), ActivationGrid(0.0157)], (2,), [(-1,), (0, 0), (1,)]
    )
    x = np.arange(-128, 128, dtype=np.float32).reshape(-1, 2)
    found = network.layers[2].codes(run(network, x))
    np.testing.assert_array_equal(found, IntegerNetwork(network).codes(x)[2])


def test_a_network_of_4_bits_answers_as_litert():
    """Step by step as there: one code apart would be another score."""
    layers = [conv(4, 8, "relu"), conv(8, 8, "relu"), GlobalAveragePooling2D(), Dense(normal(8, 5))]
    network = on_grids(Network(layers, SHAPE), weight_bits=4)
    x = samples(network, 1000)
    outputs = run(network, x)
    apart, twice = (
        np.abs(outputs - IntegerNetwork(network, runtime).predict(x))
        for runtime in ("onnxruntime", "litert")
    )
    assert np.mean(twice < 1e-5) >= 0.999 > np.mean(apart < 1e-5)
    assert IntegerNetwork(network, "litert").rounding_twice == {1, 3}
    assert not IntegerNetwork(on_grids(Network(layers, SHAPE)), "litert").rounding_twice
    with pytest.raises(ParameterError, match="runtime must be one of onnxruntime, litert"):
        IntegerNetwork(network, "tflite")


def test_means_of_whole_images_take_a_byte_for_each_pixel():
    network = Network([conv(4, 64, padding="same"), GlobalAveragePooling2D()], SHAPE)
    network = on_grids(Network([*network.layers, Dense(normal(64, 5))], SHAPE))
    assert len(to_litert(network)) < 9 * 4 * 64 + 64 * 5 + 64 * (4 + 4 + 4 + 8) + 3000


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - REFUSED))
def test_scores_are_those_of_litert(kind):
    network = on_grids(KINDS[kind])
    x = samples(network)
    expected = IntegerNetwork(network).predict(x)
    difference = np.abs(run(network, x) - expected)
    assert np.mean(difference <= 1e-6 * np.abs(expected).max()) >= 0.99
    assert difference.max() <= 0.02 * np.abs(expected).max()


@pytest.mark.parametrize("kind", ["global average", "add", "concatenate", "tanh"])
def test_values_between_layers_are_integers(kind):
    network = on_grids(KINDS[kind])
    details = interpreter(network, samples(network, 2)).get_tensor_details()
    floats = [d for d in details if d["dtype"] == np.float32 and len(d["shape"]) > 1]
    scores = {"input", "output", "weights", network.names[-1], network.names[-2]}
    # the runtime's own copies of the last layer's weights have no names
    assert {d["name"] for d in floats if d["name"]} <= scores


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "tanh", "relu", "log_softmax"])
def test_activations_behind_the_last_grid(activation):
    layers = [Dense(normal(6, 8), activation="relu"), Dense(normal(8, 3), normal(3), activation)]
    network = on_grids(Network(layers, (6,)))
    x = samples(network)
    np.testing.assert_allclose(
        run(network, x), IntegerNetwork(network).predict(x), rtol=0, atol=1e-6
    )


def test_a_network_of_one_layer():
    network = on_grids(Network([Flatten(), Dense(normal(12, 3), normal(3))], (2, 2, 3)))
    x = samples(network)
    np.testing.assert_allclose(
        run(network, x), IntegerNetwork(network).predict(x), rtol=1e-6, atol=1e-6
    )


def test_the_last_layer_may_be_pooling_or_a_grid():
    convolution = Conv2D(normal(3, 3, 2, 4), normal(4), "relu")
    pooled = Network([convolution, GlobalAveragePooling2D()], (5, 5, 2))
    network = on_grids(pooled)
    layers = [*network.layers, ActivationGrid(0.01, -128)]
    network = Network(layers, network.input_shape)
    x = samples(network)
    np.testing.assert_allclose(run(network, x), IntegerNetwork(network).predict(x), atol=0.0101)


@pytest.mark.parametrize(("bits", "size"), [(8, 62_000), (4, 31_000)])
def test_files_are_as_small_as_their_weights(bits, size, tmp_path):
    network = Network([Dense(normal(300, 200), activation="relu"), Dense(normal(200, 10))], (300,))
    nr.export(on_grids(network, weight_bits=bits), tmp_path / "network.tflite")
    first = (tmp_path / "network.tflite").read_bytes()
    assert len(first) < size + 8_000
    nr.export(on_grids(network, weight_bits=bits), tmp_path / "network.tflite")
    assert (tmp_path / "network.tflite").read_bytes() == first


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
def test_files_answer_in_their_runtimes(suffix, tmp_path):
    network = on_grids(KINDS["dense relu"])
    x = samples(network, 300)
    nr.export(network, tmp_path / f"network{suffix}")
    outputs = predict_file(tmp_path / f"network{suffix}", x)
    np.testing.assert_allclose(outputs, IntegerNetwork(network).predict(x), rtol=0, atol=1e-5)


def test_latency_of_files_in_their_runtimes(tmp_path):
    network = on_grids(KINDS["dense relu"])
    files = {f"net{suffix}": tmp_path / f"network{suffix}" for suffix in (".onnx", ".tflite")}
    for path in files.values():
        nr.export(network, path)
    x = samples(network, 8)
    rows = measure_files(files, x, batch_sizes=(1, 8), threads=(1, 2), rounds=9, limit=0)
    expected = set(product(files, (1, 2), (1, 8)))
    assert {(row.file, row.threads, row.batch) for row in rows} == expected
    assert all(0 < row.fastest <= row.low <= row.seconds <= row.high for row in rows)
    with pytest.raises(SampleError, match="latency at batch size 256 needs as many samples"):
        measure_files(files, x)
    with pytest.raises(ModelFileError, match=r"no runtime for '.h5'"):
        measure_files({"a": tmp_path / "a.h5"}, x, (1,))


def test_no_round_begins_behind_the_limit_but_for_the_first_five(monkeypatch):
    monkeypatch.setattr(latency, "perf_counter", iter(range(1000)).__next__)
    monkeypatch.setattr(latency, "sleep", lambda seconds: None)
    calls = []
    latency._in_turns({"a": lambda: calls.append(1)}, rounds=50, limit=13)
    # each of the readings of the clock takes a second: two around every call, one for every round
    assert len(calls) == 2 + 6


def test_files_without_a_runtime(tmp_path):
    with pytest.raises(ModelFileError, match=r"a.h5: no runtime for '.h5'; known: .onnx, .tflite"):
        predict_file(tmp_path / "a.h5", np.zeros((1, 2)))


@pytest.mark.parametrize("kind", REFUSED)
def test_layers_without_integers_are_refused(kind):
    with pytest.raises(UnsupportedLayerError, match=REFUSED[kind]):
        to_litert(on_grids(KINDS[kind]))


def test_activations_behind_the_last_grid_that_are_refused():
    layers = [Dense(normal(6, 8), activation="relu"), Dense(normal(8, 3)), Activation("softplus")]
    with pytest.raises(UnsupportedLayerError, match="activation_1: activation 'softplus' behind"):
        to_litert(on_grids(Network(layers, (6,))))


def test_last_layers_that_are_refused():
    layers = [ActivationGrid(0.1), UpSampling2D(2, "bilinear")]
    with pytest.raises(UnsupportedLayerError, match="up_sampling2d_1"):
        to_litert(Network(layers, (2, 2, 1)))
