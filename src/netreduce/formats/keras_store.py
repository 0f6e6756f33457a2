"""Where Keras files keep the weights of a layer: three layouts, one question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.network import Network
from netreduce.network.layers import Layer, Quantization

from .hdf5 import HDF5File, write_array
from .keras_config import keras_order
from .keras_layers import KerasLayer, WeightReader, keras_class

if TYPE_CHECKING:
    import h5py

QUANTIZATION = "quantization"  # a group that Keras does not look at


class WeightsByName:
    """The .h5 layout: a group per layer, with its datasets in weight_names in order."""

    def __init__(self, file: HDF5File, root: str):
        self.file, self.root = file, root

    def __call__(
        self, layer: KerasLayer, shapes: Mapping[str, tuple[int, ...]]
    ) -> list[np.ndarray]:
        return self.arrays(f"{self.root}/{layer.name}", layer, shapes)

    def arrays(self, group, layer, shapes):
        names = self.file.names(group, "weight_names")
        _check_count(layer, shapes, names)
        return [
            self.file.array(f"{group}/{name}", f"layer {layer.name!r}: {field}", shape)
            for name, (field, shape) in zip(names, shapes.items(), strict=True)
        ]


class WeightsInOrder(WeightsByName):
    """The .h5 layout read in the order of the file, for architectures that name their layers
    otherwise.
    """

    def __init__(self, file: HDF5File):
        super().__init__(file, "")
        self.groups = [
            name for name in file.names("", "layer_names") if file.names(name, "weight_names")
        ]
        self._left = iter(self.groups)

    def __call__(self, layer, shapes):
        return self.arrays(next(self._left), layer, shapes)


class WeightsByClass:
    """The .keras layout: groups named after the classes, numbered in Keras' order of the layers."""

    def __init__(self, file: HDF5File, layers: Iterable[KerasLayer]):
        self.file, self.groups = file, groups_by_class(layers)

    def __call__(self, layer, shapes):
        group = self.groups[layer.name]
        variables = f"{group}/vars"
        _check_count(layer, shapes, self.file.members(variables))
        return [
            self.file.array(f"{variables}/{i}", f"layer {layer.name!r}: {field}", shape)
            for i, (field, shape) in enumerate(shapes.items())
        ]


def groups_by_class(layers: Iterable[KerasLayer]) -> dict[str, str]:
    """Group of every layer by name: layers/dense, layers/dense_1, layers/conv2d, …"""
    counts, groups = {}, {}
    for layer in layers:
        snake = re.sub(
            r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", layer.kind)
        ).lower()
        number = counts[snake] = counts.get(snake, -1) + 1
        groups[layer.name] = f"layers/{snake}_{number}" if number else f"layers/{snake}"
    return groups


def layers_in_keras_order(network: Network) -> list[KerasLayer]:
    """Name and class of every layer, as Keras lists them."""
    return [
        KerasLayer(network.names[i], keras_class(network.layers[i]))
        for i in keras_order(network.sources)
    ]


def fill(template: Network, weights: WeightReader) -> Network:
    """The network with all its arrays read from a weight file."""
    filled = {}
    for index in keras_order(template.sources):
        layer = template.layers[index]
        shapes = {field: array.shape for field, array in layer.arrays().items()}
        if shapes:
            entry = KerasLayer(template.names[index], keras_class(layer))
            filled[index] = layer.replace(**dict(zip(shapes, weights(entry, shapes), strict=True)))
    return template.replace(filled)


def _check_count(layer, shapes, found):
    if len(found) != len(shapes):
        raise ModelFileError(
            f"layer {layer.name!r}: found {len(found)} arrays ({', '.join(found)}), expected"
            f" {len(shapes)} ({', '.join(shapes)})"
        )


def is_quantized(layer: Layer) -> bool:
    """Whether the weights of the layer lie on a known grid."""
    return getattr(layer, "quantization", None) is not None


def write_quantization(file: h5py.File, network: Network) -> None:
    """Write the grids on which the weights of quantized layers lie."""
    for name, layer in zip(network.names, network.layers, strict=True):
        if is_quantized(layer):
            group = file.require_group(QUANTIZATION).create_group(name)
            write_array(group, "scale", layer.quantization.scale)
            group.attrs["bits"] = float(layer.quantization.bits)
            group.attrs["quantized_bias"] = int(layer.quantization.quantized_bias)


def read_quantization(file: HDF5File, network: Network) -> Network:
    """The network with the grids of its quantized layers, where the file holds them."""
    if not file.has(QUANTIZATION):
        return network
    layers = dict(zip(network.names, network.layers, strict=True))
    found = {}
    for name in file.members(QUANTIZATION):
        if not hasattr(layers.get(name), "quantization"):
            raise ModelFileError(
                f"quantization of layer {name!r}, which does not exist or has no kernel"
            )
        found[network.names.index(name)] = _quantized(file, name, layers[name])
    return network.replace(found)


def _quantized(file: HDF5File, name: str, layer: Layer) -> Layer:
    path = f"{QUANTIZATION}/{name}"
    bits, quantized_bias = (_number(file, path, key) for key in ("bits", "quantized_bias"))
    scale = file.array(f"{path}/scale", f"layer {name!r}: quantization scale")
    fits = (
        scale.ndim <= layer.kernel.ndim
        and np.broadcast_shapes(scale.shape, layer.kernel.shape) == layer.kernel.shape
    )
    if not fits or not 1 <= bits <= 32:
        raise ModelFileError(
            f"layer {name!r}: quantization with {bits} bits and a scale of shape {scale.shape}"
            " does not fit its kernel"
        )
    quantized = layer.replace(quantization=Quantization(scale, bits, bool(quantized_bias)))
    on_grid = np.array_equal(layer.kernel, (scale * quantized.codes).astype(layer.kernel.dtype))
    if quantized_bias:
        on_grid &= np.array_equal(
            layer.bias, (scale.reshape(-1) * quantized.bias_codes).astype(layer.bias.dtype)
        )
    if not on_grid:
        raise ModelFileError(
            f"layer {name!r}: the weights do not lie on the grid of their quantization"
        )
    return quantized


def _number(file: HDF5File, path: str, key: str) -> float:
    value = file.attribute(path, key)
    if not isinstance(value, np.integer | np.floating):
        raise ModelFileError(f"attribute {key!r} of {path!r} must be a number, found {value!r}")
    return float(value)
