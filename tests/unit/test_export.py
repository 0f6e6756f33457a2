"""Export to ONNX and LiteRT, run by their runtimes; and latency."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from every_layer import NETWORKS, samples

from netreduce.errors import ModelFileError, ParameterError, SampleError, UnsupportedLayerError
from netreduce.formats.export import export
from netreduce.formats.onnx.reader import read_network
from netreduce.formats.onnx.writer import to_onnx
from netreduce.measures import latency
from netreduce.network import Network
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
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    Quantization,
    Weighted,
    ZeroPadding2D,
)

ROOT = Path(__file__).parents[2]
LEVELS = [
    getattr(onnxruntime.GraphOptimizationLevel, f"ORT_{name}")
    for name in ("DISABLE_ALL", "ENABLE_BASIC", "ENABLE_EXTENDED", "ENABLE_LAYOUT", "ENABLE_ALL")
]
KINDS = {
    "dense": (Dense, (24, 0)),
    "convolution": (Conv2D, (3, 3, 4, 0)),
    "depthwise": (DepthwiseConv2D, (3, 3, 4, 0)),
    "transposed": (Conv2DTranspose, (2, 2, 0, 4)),
}
onnxruntime.set_default_logger_severity(3)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.5 * np.random.default_rng([seed, *shape]).normal(size=shape)).astype(np.float32)


def run_onnx(
    model: onnx.ModelProto,
    x: np.ndarray,
    level: onnxruntime.GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
) -> np.ndarray:
    """Outputs under ONNX Runtime's default options, but for the level of optimization."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": x})[0]


def close(found: np.ndarray, expected: np.ndarray, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    scale = max(np.abs(expected).max(), 1e-3)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_goes_out_and_comes_in_again(name: str, tmp_path) -> None:
    network = NETWORKS[name]
    x = samples(network, 3)
    export(network, tmp_path / "net.onnx")
    expected = network.predict(x)
    close(run_onnx(onnx.load(tmp_path / "net.onnx"), x), expected)
    close(run_onnx(onnx.load(tmp_path / "net.onnx"), x[:1]), expected[:1])
    again = read_network(tmp_path / "net.onnx")
    assert again.input_shape == network.input_shape
    close(again.predict(x), expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    "layers",
    [
        [MaxPooling2D(3, 2)],
        [MaxPooling2D(2, 2, "same")],
        [Dropout(0.5), MaxPooling2D(3, 1)],
        [AveragePooling2D(3, 2, (1, 0, 0, 1))],
        [Conv2D(normal(3, 3, 4, 2))],
        [DepthwiseConv2D(normal(3, 3, 4, 1), padding="same")],
    ],
)
def test_zeros_around_an_image_are_not_lost(layers, level) -> None:
    """ONNX Runtime joins a Pad and what is behind it, even a MaxPool, which does not see zeros."""
    network = Network([ZeroPadding2D((1, 2, 1, 0)), *layers], (8, 7, 4))
    x = -1 - np.abs(normal(2, 8, 7, 4))
    close(run_onnx(to_onnx(network), x, level), network.predict(x))


@pytest.mark.parametrize("name", ["squeeze and excite", "transposed", "bilinear", "fused gelu"])
def test_layers_are_the_same_at_every_level_of_optimization(name: str) -> None:
    network = NETWORKS[name]
    x = samples(network, 3)
    for level in LEVELS:
        close(run_onnx(to_onnx(network), x, level), network.predict(x))


def quantized(kind: str, bits: float, outputs: int, scale: str, zeros: str = "") -> Weighted:
    """A layer on a grid with that many levels; zeros in whole inputs or anywhere."""
    layer, shape = KINDS[kind]
    shape = tuple(length or outputs for length in shape)
    random = np.random.default_rng(round(10 * bits))
    levels = round(2**bits)
    codes = 2 * random.integers(0, levels, shape) - (levels - 1)
    if zeros == "inputs":
        codes[1] = 0
    if zeros == "anywhere":
        codes[random.random(shape) < 0.2] = 0
    steps = np.array(0.013)
    if scale == "per output":
        axis = 2 if kind == "transposed" else 3
        steps = np.linspace(0.01, 0.05, outputs).reshape([-1, 1][: 4 - axis])
    return layer(
        (steps * codes).astype(np.float32),
        None if kind == "depthwise" else normal(outputs),
        quantization=Quantization(steps, bits),
    )


@pytest.mark.parametrize("bits", [np.log2(3), 2, 3, 4, 5, 7, 8])
@pytest.mark.parametrize("scale", ["one", "per output"])
@pytest.mark.parametrize("kind", KINDS)
def test_quantized_layers_are_exact_under_default_options(
    kind: str, scale: str, bits: float, tmp_path
) -> None:
    shape = (24,) if kind == "dense" else (5, 6, 4)
    x = 4 * normal(3, *shape)
    for outputs, zeros in ((1, ""), (1, "anywhere"), (3, "inputs"), (20, ""), (20, "anywhere")):
        layer = quantized(kind, bits, outputs, scale, zeros)
        for activation in ("linear", "relu"):
            network = Network([layer.replace(activation=activation)], shape)
            expected = network.predict(x)
            for level in LEVELS[::2]:
                close(run_onnx(to_onnx(network), x, level), expected, 1e-6)
    export(network, tmp_path / "net.onnx")
    again, grid = read_network(tmp_path / "net.onnx").layers[0], layer.quantization
    assert isinstance(again, Weighted)
    assert again.quantization is not None
    assert again.quantization.bits == bits
    steps = [np.broadcast_to(q.scale, layer.kernel.shape) for q in (again.quantization, grid)]
    np.testing.assert_allclose(*steps, rtol=1e-6)
    np.testing.assert_array_equal(again.codes, layer.codes)


def test_networks_of_quantized_layers_at_every_level_of_optimization() -> None:
    layers: list[Layer] = [
        quantized("convolution", 4, 4, "per output").replace(activation="relu", padding="same"),
        quantized("depthwise", 2, 1, "one"),
        quantized("transposed", 8, 3, "one", "inputs").replace(activation="silu"),
    ]
    network = Network(layers, (5, 6, 4))
    x = normal(2, 5, 6, 4)
    for level in LEVELS:
        close(run_onnx(to_onnx(network), x, level), network.predict(x), 1e-6)


def test_a_scale_for_every_input() -> None:
    steps = np.linspace(0.01, 0.05, 24)[:, None]
    codes = np.random.default_rng(0).integers(-7, 8, (24, 3))
    kernel = (steps * codes).astype(np.float32)
    network = Network([Dense(kernel, quantization=Quantization(steps, 4))], (24,))
    x = normal(5, 24)
    close(run_onnx(to_onnx(network), x), network.predict(x), 1e-6)


@pytest.mark.parametrize(("bits", "stored"), [(np.log2(3), 2), (2, 2), (3, 4), (4, 4), (8, 8)])
@pytest.mark.parametrize("zeros", ["", "inputs"])
def test_codes_are_packed_as_tightly_as_the_format_has_integers(
    bits: float, stored: int, zeros: str
) -> None:
    random, levels = np.random.default_rng(0), round(2**bits)
    codes = 2 * random.integers(0, levels, (300, 200)) - (levels - 1)
    if zeros:
        codes[::3] = 0  # inputs that are always 0, as at the border of images of digits
    layer = Dense((0.1 * codes).astype(np.float32), quantization=Quantization(0.1, bits))
    size = len(to_onnx(Network([layer], (300,))).SerializeToString())
    assert size < 300 * 200 * stored / 8 + 2500


def test_codes_beyond_16_bits_are_exported_as_numbers() -> None:
    codes = np.array([[0], [1], [1 << 17]])
    layer = Dense((0.5 * codes).astype(np.float32), quantization=Quantization(0.5, 17))
    network = Network([layer], (3,))
    expected = [[0], [0.5], [1 << 16]]
    np.testing.assert_array_equal(run_onnx(to_onnx(network), np.eye(3, dtype=np.float32)), expected)


def test_export_writes_the_same_file_again(tmp_path) -> None:
    for name in ("a.onnx", "b.onnx"):
        export(NETWORKS["squeeze and excite"], tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert session.get_inputs()[0].shape == ["batch", 7, 6, 2]


@pytest.mark.parametrize(
    ("name", "found"), [("net.pb", "'.pb'"), ("net", "'a file without suffix'")]
)
def test_export_to_another_format(tmp_path, name, found) -> None:
    with pytest.raises(ModelFileError, match=f"cannot export to {found}; known: .onnx, .tflite"):
        export(NETWORKS["squeeze and excite"], tmp_path / name)


def run_litert(content: bytes, x: np.ndarray) -> np.ndarray:
    interpreters = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="LiteRT is not installed"
    )
    interpreter = interpreters.Interpreter(model_content=content, num_threads=1)
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_litert_computes_the_same(tmp_path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    layers = [
        Conv2D(normal(3, 3, 3, 4), normal(4), padding="same"),
        Conv2D(normal(3, 3, 4, 4), normal(4), "relu", padding="same"),
        Add(),
        Concatenate(),
        GlobalAveragePooling2D(),
        Dense(normal(8, 3), normal(3)),
    ]
    network = Network(layers, (9, 8, 3), [(-1,), (0,), (0, 1), (2, 0), (3,), (4,)])
    export(network, tmp_path / "net.tflite")
    x = normal(1, *network.input_shape)
    close(run_litert((tmp_path / "net.tflite").read_bytes(), x), network.predict(x))


@pytest.mark.parametrize(
    ("bits", "scale", "zeros"),
    [
        (np.log2(3), "one", "anywhere"),
        (2, "per output", ""),
        (4, "one", "inputs"),
        (4, "per output", "inputs"),
        (8, "one", "anywhere"),
    ],
)
def test_litert_has_integers_for_the_weights_of_quantized_layers(
    bits: float, scale: str, zeros: str
) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from netreduce.formats.litert import to_litert

    random = np.random.default_rng(0)
    norm = BatchNormalization(
        np.float32([1, -2, 0.5, 1.5]), *random.random((3, 4)).astype(np.float32)
    )  # the converter multiplies it into the weights before it
    network = Network(
        [
            quantized("convolution", bits, 4, scale, zeros).replace(padding="same"),
            norm,
            Activation("relu"),
            quantized("depthwise", bits, 1, scale, zeros),
            Flatten(),
            Dense(normal(48, 24), activation="relu"),
            quantized("dense", bits, 20, scale, zeros).replace(activation="relu"),
            Dense(normal(20, 1)),
        ],
        (5, 6, 4),
    )
    x = normal(3, 5, 6, 4)
    content = to_litert(network)
    close(run_litert(content, x), network.predict(x), 3e-6)


def test_litert_files_are_as_small_as_their_codes() -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from netreduce.formats.litert import to_litert

    codes = 2 * np.random.default_rng(0).integers(0, 16, (300, 200)) - 15
    layer = Dense((0.1 * codes).astype(np.float32), quantization=Quantization(0.1, 4))
    assert len(to_litert(Network([layer], (300,)))) < 300 * 200 / 2 + 5000


def test_litert_files_of_layers_with_the_same_weights() -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from netreduce.formats.litert import to_litert

    codes = 2 * np.random.default_rng(0).integers(0, 4, (8, 8)) - 3
    layer = Dense((0.1 * codes).astype(np.float32), quantization=Quantization(0.1, 2))
    network = Network([layer, layer.replace(activation="relu"), layer.replace()], (8,))
    x = normal(3, 8)
    close(run_litert(to_litert(network), x), network.predict(x))


def test_litert_refuses_what_keras_does_not_have() -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    from netreduce.formats.litert import to_litert

    with pytest.raises(UnsupportedLayerError, match="converter to LiteRT refuses the network: "):
        to_litert(Network([Activation("leaky_relu", -0.5)], (4,)))


def test_latency_of_every_network_runtime_and_batch(monkeypatch) -> None:
    monkeypatch.setattr(latency, "find_spec", lambda name: None)  # LiteRT's converter takes seconds
    networks = {
        "wide": Network([Dense(normal(50, 40)), Dense(normal(40, 3))], (50,)),
        "narrow": Network([Dense(normal(50, 3))], (50,)),
    }
    rows = latency.measure_latency(networks, normal(8, 50), batch_sizes=(1, 8), rounds=3)
    expected = {
        (network, runtime, batch)
        for network in networks
        for runtime in ("numpy", "onnxruntime")
        for batch in (1, 8)
    }
    assert {(row.network, row.runtime, row.batch) for row in rows} == expected
    assert all(0 < row.fastest <= row.low <= row.seconds <= row.high for row in rows)


def test_of_the_chains_smaller_networks_and_the_sparsest_are_timed() -> None:
    spec = spec_from_file_location("latency_step", ROOT / "workflow/scripts/latency.py")
    assert spec is not None and spec.loader is not None
    step = module_from_spec(spec)
    spec.loader.exec_module(step)
    whole = Network([Dense(np.ones((4, 6)), activation="relu"), Dense(np.ones((6, 2)))], (4,))
    kernel = np.eye(4, 6)
    networks = {
        "analog": whole,
        "same": whole,
        "sparse": whole.replace({0: whole.layers[0].replace(kernel=kernel)}),
        "sparser": whole.replace({0: whole.layers[0].replace(kernel=kernel * [0, 1, 1, 1, 1, 1])}),
        "narrow": Network(
            [Dense(np.ones((4, 3)), activation="relu"), Dense(np.ones((3, 2)))], (4,)
        ),
    }
    assert list(step.smaller(networks)) == ["analog", "sparser", "narrow"]
    dense = {name: networks[name] for name in ("analog", "same", "narrow")}
    assert list(step.smaller(dense)) == ["analog", "narrow"]


def test_latency_with_too_few_samples_or_no_rounds() -> None:
    network = {"net": Network([Dense(normal(5, 3))], (5,))}
    with pytest.raises(
        SampleError, match="latency at batch size 256 needs as many samples, found 8"
    ):
        latency.measure_latency(network, normal(8, 5))
    with pytest.raises(ParameterError, match="rounds must be at least 1, found 0"):
        latency.measure_latency(network, normal(8, 5), (1,), rounds=0)
