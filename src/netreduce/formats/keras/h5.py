"""Keras networks in one HDF5 file (.h5), as Keras 1 to 3 write and read them: the configuration as
JSON, weights by layer.

Weight files (`save_weights`, those of keras.applications) are read as well, given the architecture.
"""

import json
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.formats.guard import reading
from netreduce.network import Network
from netreduce.network.architectures import template

from .build import build_network
from .config import keras_order, origin, parse_json, parse_model
from .hdf5 import HDF5File, write_array
from .store import (
    WeightsByClass,
    WeightsByName,
    WeightsInOrder,
    fill,
    layers_in_keras_order,
    read_quantization,
    write_quantization,
)
from .write import config_of_network, needs_keras_3, written_layers

KERAS_VERSION, KERAS_3 = "2.15.0", "3.0.0"  # the form in which files are written
DATASETS = {"mean": "moving_mean", "variance": "moving_variance"}


def read_network(path: Path, architecture: Network | dict | str | Path | None = None) -> Network:
    """Read a Keras .h5 file; `architecture` is used for files of weights only."""
    with reading(path):
        file = HDF5File(path.read_bytes())
        config = file.attribute("", "model_config")
        if config is None:
            return _read_weights(file, architecture)
        written_by = origin(*(_about(file, key) for key in ("keras_version", "backend")))
        model = parse_model(parse_json(config, "model_config"), written_by)
        network = build_network(model, WeightsByName(file, "model_weights", model.layers))
        return read_quantization(file, network)


def write_network(network: Network, path: Path) -> None:
    """Write a Keras .h5 file, whole or not at all."""
    import h5py  # slow to import, and not what files are read with

    config, written = json.dumps(config_of_network(network)), written_layers(network)
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        weights = file.create_group("model_weights")
        for group in (file, weights):
            group.attrs["keras_version"] = KERAS_3 if needs_keras_3(network) else KERAS_VERSION
            group.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = config
        order = keras_order([layer.sources for layer in written])
        layers = [written[i] for i in order if written[i].arrays]
        weights.attrs["layer_names"] = np.array([layer.name.encode() for layer in layers], "S")
        for layer in layers:
            group = weights.create_group(layer.name)
            arrays = {
                f"{layer.name}/{DATASETS.get(field, field)}:0": array
                for field, array in layer.arrays.items()
            }
            group.attrs["weight_names"] = np.array([name.encode() for name in arrays], "S")
            for name, array in arrays.items():
                write_array(group, name, array, layer.few_values)
        write_quantization(file, network)


def _about(file: HDF5File, key: str) -> object:
    """What the file says about what wrote it: Keras 1 says it with the weights only."""
    found = file.attribute("", key)
    if found is None and file.has("model_weights"):
        found = file.attribute("model_weights", key)
    return found


def _read_weights(file: HDF5File, architecture: Network | dict | str | Path | None) -> Network:
    if architecture is None:
        raise ModelFileError(
            "the file holds weights but no model_config: an architecture must say what they are"
        )
    if isinstance(architecture, str | Path) and str(architecture).endswith(".json"):
        return _described(file, Path(architecture))
    network = template(str(architecture) if isinstance(architecture, Path) else architecture)
    if file.has("layers"):  # save_weights of Keras 3
        return fill(network, WeightsByClass(file, layers_in_keras_order(network), partial=True))
    if file.attribute("", "backend") == b"theano" and any(
        hasattr(layer, "dilation") for layer in network.layers
    ):
        raise ModelFileError(
            "the backend 'theano' turns kernels round and pads otherwise: give the model's"
            " configuration (model.json) as architecture"
        )
    weights = WeightsInOrder(file)
    expected = [
        name for name, layer in zip(network.names, network.layers, strict=True) if layer.arrays()
    ]
    if len(weights.groups) != len(expected):
        raise ModelFileError(
            f"found weights of {len(weights.groups)} layers"
            f" ({', '.join(name[:40] for name in weights.groups[:20])}), expected {len(expected)}"
        )
    return fill(network, weights)


def _described(file: HDF5File, path: Path) -> Network:
    """Weights of the model whose configuration `model.to_json()` wrote."""
    with reading(path):
        config = parse_json(path.read_bytes(), "the configuration")
        about = (
            stated if stated is not None else config.get(key)
            for key in ("keras_version", "backend")
            for stated in [file.attribute("", key)]
        )
        model = parse_model(config, origin(*about))
    if file.has("layers"):
        return build_network(model, WeightsByClass(file, model.keras_layers))
    root = "model_weights" if file.has("model_weights") else ""
    return build_network(model, WeightsByName(file, root, model.layers))
