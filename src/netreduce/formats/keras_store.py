"""Where Keras files keep the weights of a layer: three layouts, one question."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.network import Network

from .hdf5 import ArrayReader
from .keras_config import keras_order
from .keras_layers import KerasLayer, WeightReader, keras_class


class WeightsByName:
    """The .h5 layout: a group per layer, with its datasets in weight_names in order."""

    def __init__(self, reader: ArrayReader, root: str):
        self.reader, self.root = reader, root

    def __call__(
        self, layer: KerasLayer, shapes: Mapping[str, tuple[int, ...]]
    ) -> list[np.ndarray]:
        return self.arrays(f"{self.root}/{layer.name}", layer, shapes)

    def arrays(self, group, layer, shapes):
        names = self.reader.names(group, "weight_names")
        _check_count(layer, shapes, names)
        return [
            self.reader.array(f"{group}/{name}", f"layer {layer.name!r}: {field}", shape)
            for name, (field, shape) in zip(names, shapes.items(), strict=True)
        ]


class WeightsInOrder(WeightsByName):
    """The .h5 layout read in the order of the file, for architectures that name their layers
    otherwise.
    """

    def __init__(self, reader: ArrayReader):
        super().__init__(reader, "")
        self.groups = [
            name for name in reader.names("", "layer_names") if reader.names(name, "weight_names")
        ]
        self._left = iter(self.groups)

    def __call__(self, layer, shapes):
        return self.arrays(next(self._left), layer, shapes)


class WeightsByClass:
    """The .keras layout: groups named after the classes, numbered in Keras' order of the layers."""

    def __init__(self, reader: ArrayReader, layers: Iterable[KerasLayer]):
        self.reader, self.groups = reader, groups_by_class(layers)

    def __call__(self, layer, shapes):
        group = self.groups[layer.name]
        variables = f"{group}/vars"
        _check_count(layer, shapes, self.reader.group(variables))
        return [
            self.reader.array(f"{variables}/{i}", f"layer {layer.name!r}: {field}", shape)
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
