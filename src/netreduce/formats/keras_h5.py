"""Keras networks in one HDF5 file (.h5), as Keras 1 to 3 write and read them: the configuration as
JSON, weights by layer.

Weight files (`save_weights`, those of keras.applications) are read as well, given the architecture.
"""

import json
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.network import Network
from netreduce.network.architectures import template

from .guard import reading
from .hdf5 import HDF5File, write_array
from .keras_config import build_network, config_of_network, keras_order, parse_json, parse_model
from .keras_store import (
    WeightsByClass,
    WeightsByName,
    WeightsInOrder,
    fill,
    is_quantized,
    layers_in_keras_order,
    read_quantization,
    write_quantization,
)

KERAS_VERSION = "2.15.0"  # the form in which files are written
DATASETS = {"mean": "moving_mean", "variance": "moving_variance"}


def read_network(path: Path, architecture=None) -> Network:
    """Read a Keras .h5 file; `architecture` is used for files of weights only."""
    with reading(path):
        file = HDF5File(path.read_bytes())
        config = file.attribute("", "model_config")
        if config is None:
            return _read_weights(file, architecture)
        model = parse_model(parse_json(config, "model_config"))
        network = build_network(model, WeightsByName(file, "model_weights"))
        return read_quantization(file, network)


def write_network(network: Network, path: Path) -> None:
    """Write a Keras .h5 file, whole or not at all."""
    import h5py  # slow to import, and not what files are read with

    config = json.dumps(config_of_network(network))
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        weights = file.create_group("model_weights")
        for group in (file, weights):
            group.attrs["keras_version"] = KERAS_VERSION
            group.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = config
        layers = {
            network.names[i]: network.layers[i]
            for i in keras_order(network.sources)
            if network.layers[i].arrays()
        }
        weights.attrs["layer_names"] = np.array([name.encode() for name in layers], dtype="S")
        for name, layer in layers.items():
            group = weights.create_group(name)
            arrays = {
                f"{name}/{DATASETS.get(field, field)}:0": array
                for field, array in layer.arrays().items()
            }
            group.attrs["weight_names"] = np.array(
                [array_path.encode() for array_path in arrays], dtype="S"
            )
            for array_path, array in arrays.items():
                write_array(group, array_path, array, is_quantized(layer))
        write_quantization(file, network)


def _read_weights(file, architecture):
    if architecture is None:
        raise ModelFileError(
            "the file holds weights but no model_config: an architecture must say what they are"
        )
    network = template(architecture)
    if file.has("layers"):  # save_weights of Keras 3
        return fill(network, WeightsByClass(file, layers_in_keras_order(network)))
    weights = WeightsInOrder(file)
    expected = [
        name for name, layer in zip(network.names, network.layers, strict=True) if layer.arrays()
    ]
    if len(weights.groups) != len(expected):
        raise ModelFileError(
            f"found weights of {len(weights.groups)} layers ({', '.join(weights.groups)}), expected"
            f" {len(expected)}"
        )
    return fill(network, weights)
