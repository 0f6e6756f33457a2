"""Export to ONNX and LiteRT, run by their runtimes; and latency."""

import numpy as np
import onnxruntime
import pytest

from netreduce.errors import ModelFileError, ParameterError, SampleError
from netreduce.formats.export import export, to_onnx
from netreduce.measures import latency
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
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Quantization,
)


def normal(*shape, seed=0):
    return (0.5 * np.random.default_rng([seed, *shape]).normal(size=shape)).astype(np.float32)


def norm(channels):
    return BatchNormalization(
        *np.random.default_rng(0).random((4, channels)).astype(np.float32), epsilon=1e-3
    )


def convolutional():
    layers = [
        Conv2D(normal(3, 3, 3, 8), normal(8), "relu", (2, 1), "same"),
        norm(8),
        MaxPooling2D((3, 3), (2, 2), "same"),
        DepthwiseConv2D(
            normal(3, 3, 8, 2), normal(16), "leaky_relu", padding="same", dilation=(1, 2)
        ),
        AveragePooling2D((2, 2), padding="same"),
        Conv2D(normal(2, 3, 16, 6), normal(6), "elu"),
        Dropout(),
        Activation("leaky_relu", 0.1),
        Flatten(),
        Dense(normal(12, 5), normal(5), "tanh"),
        norm(5),
        Dense(normal(5, 4), normal(4), "softmax"),
    ]
    return Network(layers, (13, 15, 3))


def residual():
    layers = [
        Conv2D(normal(3, 3, 3, 4), normal(4), padding="same"),
        Conv2D(normal(3, 3, 4, 4), normal(4), "relu", padding="same"),
        Add(),
        Concatenate(),
        GlobalAveragePooling2D(),
        Dense(normal(8, 3), normal(3)),
    ]
    return Network(layers, (9, 8, 3), [(-1,), (0,), (0, 1), (2, 0), (3,), (4,)])


def quantized(scale):
    codes = 2 * np.random.default_rng(0).integers(0, 16, (3, 3, 4, 4)) - 15
    conv = Conv2D(
        (scale * codes).astype(np.float32), normal(4), "relu", quantization=Quantization(scale, 4)
    )
    codes = codes.reshape(9, 16)[:, :4]
    depthwise = DepthwiseConv2D(0.1 * codes.reshape(3, 3, 4, 1), quantization=Quantization(0.1, 4))
    dense = Dense(
        (0.05 * codes[:4, :3]).astype(np.float32), normal(3), quantization=Quantization(0.05, 4)
    )
    return Network([conv, depthwise, Flatten(), dense], (5, 5, 4))


def run_onnx(model, x):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"input": x})[0]


NETWORKS = {
    "convolutional": convolutional(),
    "residual": residual(),
    "one scale": quantized(0.02),
    "a scale for every output": quantized(np.arange(1, 5) / 50),
    "a scale for every input": quantized(np.arange(1, 5)[:, None] / 50),
    "images out": Network([Conv2D(normal(3, 3, 3, 4), normal(4), "sigmoid")], (6, 5, 3)),
    **{
        f"{name} of vectors": Network([Dense(normal(4, 3)), Activation(name)], (4,))
        for name in ("relu6", "silu", "gelu", "softplus", "softmax")
    },
    **{
        f"{name} of images": Network([Activation(name)], (3, 3, 2))
        for name in ("relu", "gelu", "softmax")
    },
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("batch", [1, 3])
def test_onnx_runtime_computes_the_same(network, batch):
    x = 4 * normal(batch, *network.input_shape)
    np.testing.assert_allclose(
        run_onnx(to_onnx(network), x), network.predict(x), rtol=1e-4, atol=1e-5
    )


def test_quantized_kernels_are_exported_as_codes_of_one_byte():
    codes = np.random.default_rng(0).integers(-7, 8, (100, 100))
    analog = Dense((0.1 * codes).astype(np.float32))
    sizes = [
        len(to_onnx(Network([layer], (100,))).SerializeToString())
        for layer in (analog, analog.replace(quantization=Quantization(0.1, 4)))
    ]
    assert sizes[0] > 40_000 > 12_000 > sizes[1]


def test_codes_of_more_than_a_byte_are_exported_as_numbers():
    layer = Dense(
        (0.5 * np.array([[200], [-255]])).astype(np.float32), quantization=Quantization(0.5, 8)
    )
    network = Network([layer], (2,))
    np.testing.assert_array_equal(
        run_onnx(to_onnx(network), np.eye(2, dtype=np.float32)), [[100], [-127.5]]
    )


def test_export_writes_the_same_file_again(tmp_path):
    for name in ("a.onnx", "b.onnx"):
        export(residual(), tmp_path / name)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    session = onnxruntime.InferenceSession(tmp_path / "a.onnx")
    assert session.get_inputs()[0].shape == ["batch", 9, 8, 3]


@pytest.mark.parametrize(
    ("name", "found"), [("net.pb", "'.pb'"), ("net", "'a file without suffix'")]
)
def test_export_to_another_format(tmp_path, name, found):
    with pytest.raises(ModelFileError, match=f"cannot export to {found}; known: .onnx, .tflite"):
        export(residual(), tmp_path / name)


def test_litert_computes_the_same(tmp_path):
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed")
    interpreters = pytest.importorskip(
        "ai_edge_litert.interpreter", reason="LiteRT is not installed"
    )
    network = residual()
    export(network, tmp_path / "net.tflite")
    interpreter = interpreters.Interpreter(str(tmp_path / "net.tflite"))
    interpreter.allocate_tensors()
    x = normal(1, *network.input_shape)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    outputs = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(outputs, network.predict(x), rtol=1e-4, atol=1e-5)


def test_latency_of_every_network_runtime_and_batch(monkeypatch):
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


def test_latency_with_too_few_samples_or_no_rounds():
    network = {"net": Network([Dense(normal(5, 3))], (5,))}
    with pytest.raises(
        SampleError, match="latency at batch size 256 needs as many samples, found 8"
    ):
        latency.measure_latency(network, normal(8, 5))
    with pytest.raises(ParameterError, match="rounds must be at least 1, found 0"):
        latency.measure_latency(network, normal(8, 5), (1,), rounds=0)
