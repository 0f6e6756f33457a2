"""Keras files of other people: loaded, they compute what Keras computes; or the reason is named."""

import inspect
import io
import json
import os
import zipfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from netreduce.formats import load

NETWORKS = Path(__file__).resolve().parents[3] / "shared" / "networks"
FILES = [
    "marabou_cnn_max_mnist2.h5",
    "mlperf_tiny_resnet8.h5",
    "mlperf_tiny_wake_word.h5",
    "nnet_keras1.h5",
    "nlf_classifier.keras",
    "tiny_xception_kdef.hdf5",
]


def in_keras(path):
    """The model in Keras 3; from Keras 1 and 2, layer by layer, in the words of Keras 3."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
            weights = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        arrays = [
            weights[f"layers/dense{number}/vars/{i}"][()]
            for number in ("", "_1", "_2")
            for i in (0, 1)
        ]
    else:
        with h5py.File(path) as file:
            config, weights = json.loads(file.attrs["model_config"]), file["model_weights"]
            arrays = [
                weights[layer][name][()]
                for layer in weights.attrs["layer_names"]
                for name in weights[layer].attrs["weight_names"]
            ]
    described = config["config"]
    entries = described if isinstance(described, list) else described["layers"]
    tensors, first = {}, entries[0]["config"]
    inputs = x = keras.Input(first["batch_input_shape"][1:])
    for entry in entries:
        if entry["class_name"] != "InputLayer":
            sources = [source[0] for node in entry.get("inbound_nodes", []) for source in node]
            read = [tensors[source] for source in sources] or [x]
            x = layer(entry)(read[0] if len(read) == 1 else read)
        tensors[entry.get("name", entry["config"]["name"])] = x
    model = keras.Model(inputs, x)
    names = [entry["config"]["name"] for entry in entries]
    order = sorted((one for one in model.layers if one.weights), key=lambda o: names.index(o.name))
    for one in order:
        one.set_weights([arrays.pop(0) for _ in one.weights])
    assert not arrays
    return model


def layer(entry):
    made = getattr(keras.layers, entry["class_name"])
    known = {
        *inspect.signature(made).parameters,
        *("name", "activation", "use_bias", "padding", "strides", "dilation_rate"),
    }
    settings = entry["config"]
    if "output_dim" in settings:  # Keras 1
        settings = {**settings, "units": settings["output_dim"], "use_bias": settings["bias"]}
    return made(
        **{
            key: value[0] if key == "axis" and isinstance(value, list) else value
            for key, value in settings.items()
            if key in known and not key.endswith(("regularizer", "initializer", "constraint"))
        }
    )


@pytest.mark.skipif(not NETWORKS.exists(), reason="needs the networks of the reference material")
@pytest.mark.parametrize("name", FILES)
def test_agrees_with_keras(name):
    network = load(NETWORKS / name)
    x = np.random.default_rng(0).uniform(-1, 1, (8, *network.input_shape)).astype("f4")
    expected = np.asarray(in_keras(NETWORKS / name)(x, training=False))
    assert np.abs(network.predict(x) - expected).max() <= 1e-5 * np.abs(expected).max()
