"""Preprocessing and metadata inside exported files."""

import numpy as np
import onnxruntime
import pytest
from integer_networks import KINDS, on_grids, samples

import netreduce as nr
from netreduce import Dense, Network
from netreduce.data.preprocessing import Preprocessing
from netreduce.errors import ParameterError
from netreduce.measures.deployment import predict_file

pytest.importorskip("tensorflow", reason="TensorFlow is not installed")

CHANNELS = np.array([0.4, 0.5, 0.6, 0.7])
PREPROCESSING = Preprocessing(255.0, CHANNELS, CHANNELS / 2, 0, 255)
WORDS = {"description": "A network – with ümlauts", "chain": "gpfq-bits=4/activations-bits=8"}
PIXELS = np.random.default_rng(0).integers(0, 256, (300, 8, 7, 4)).astype(np.uint8)
KIND = "conv relu, padded, strided"


def networks():
    plain = KINDS[KIND]
    x = PREPROCESSING(PIXELS[:50])
    return {
        "float": plain,
        "quantized": nr.quantize(plain, x, bits=4, zero=True),
        "integers": on_grids(plain),
    }


@pytest.mark.parametrize("suffix", [".onnx", ".tflite"])
@pytest.mark.parametrize("what", ["float", "quantized", "integers"])
def test_files_with_preprocessing_read_what_the_dataset_has(what, suffix, tmp_path):
    network, path = networks()[what], tmp_path / f"network{suffix}"
    nr.export(network, path, PREPROCESSING, WORDS)
    found = predict_file(path, PIXELS)
    expected = network.predict(PREPROCESSING(PIXELS))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    first = path.read_bytes()
    nr.export(network, path, PREPROCESSING, WORDS)
    assert path.read_bytes() == first


def test_onnx_runtime_tells_the_metadata(tmp_path):
    nr.export(networks()["quantized"], tmp_path / "a.onnx", metadata=WORDS)
    told = onnxruntime.InferenceSession(tmp_path / "a.onnx").get_modelmeta()
    assert told.description == WORDS["description"]
    assert told.custom_metadata_map["chain"] == WORDS["chain"]
    network = nr.load(tmp_path / "a.onnx")  # that it is quantized stands there as before
    assert [getattr(layer, "quantization", None) is not None for layer in network.layers].count(
        True
    ) == 2


@pytest.mark.parametrize("what", ["float", "integers"])
def test_litert_files_hold_the_metadata(what, tmp_path):
    from tensorflow.lite.tools import flatbuffer_utils

    network = networks()[what]
    nr.export(network, tmp_path / "a.tflite", metadata=WORDS)
    model = flatbuffer_utils.read_model(str(tmp_path / "a.tflite"))
    assert model.description.decode() == WORDS["description"]
    told = {
        entry.name.decode(): bytes(model.buffers[entry.buffer].data) for entry in model.metadata
    }
    assert {key: told[key].decode() for key in WORDS} == WORDS
    x = samples(network, 20)
    np.testing.assert_allclose(
        predict_file(tmp_path / "a.tflite", x), network.predict(x), atol=1e-5
    )


def test_preprocessing_that_does_nothing_adds_nothing(tmp_path):
    network = Network([Dense([[1.0], [2.0]])], (2,))
    for name, preprocessing in (("a", None), ("b", Preprocessing())):
        nr.export(network, tmp_path / f"{name}.onnx", preprocessing)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metadata": {"version": 3}}, "metadata must be texts by name, found 'version': 3"),
        ({"metadata": {"": "a"}}, "metadata must be texts by name, found ''"),
        ({"preprocessing": PREPROCESSING}, r"4 channels, and the network reads .* shape \(2,\)"),
    ],
)
def test_bad_input_leaves_no_file(arguments, message, tmp_path):
    with pytest.raises(ParameterError, match=message):
        nr.export(Network([Dense([[1.0], [2.0]])], (2,)), tmp_path / "a.onnx", **arguments)
    assert not list(tmp_path.iterdir())
