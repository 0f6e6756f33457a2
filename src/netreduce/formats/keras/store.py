"""Where Keras keeps the weights of a layer: in files by name, in order or by class, or in the model
itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.formats.guard import check_finite
from netreduce.network import Network
from netreduce.network.layers import Quantization, Weighted

from .config import keras_order, layers_in_order
from .hdf5 import HDF5File, write_array
from .layers import KerasLayer, Shapes, WeightReader, weight_names
from .write import written_layers

if TYPE_CHECKING:
    import h5py

QUANTIZATION = "quantization"  # a group that Keras does not look at
# What datasets are called, by the fields they hold.
FIELDS = {
    "kernel": ("kernel", "W", "depthwise_kernel"),
    "depthwise_kernel": ("depthwise_kernel",),
    "pointwise_kernel": ("pointwise_kernel",),
    "bias": ("bias", "b"),
    "gamma": ("gamma",),
    "beta": ("beta",),
    "mean": ("moving_mean", "running_mean", "mean"),
    "variance": ("moving_variance", "running_std", "variance"),
    "alpha": ("alpha", "alphas"),
    "count": ("count",),
}
KNOWN = {name for names in FIELDS.values() for name in names}


class WeightsByName:
    """The .h5 layout: a group per layer, with its datasets in weight_names in order.

    A model inside the model has one group for all its layers: what is trained, then the rest.
    """

    def __init__(self, file: HDF5File, root: str, layers: Sequence[KerasLayer] = ()):
        self.file, self.root = file, root
        self._inside: dict[str, tuple[str, list[str]]] = {}
        for layer in layers:
            if layer.layers:
                trained, rest = _weights_inside(layer)
                expected = [*trained, *rest]
                names = file.names(f"{root}/{layer.name}", "weight_names")
                _check_count(layer, [f"{leaf}: {field}" for leaf, field in expected], names)
                for (leaf, _), name in zip(expected, names, strict=True):
                    self._inside.setdefault(leaf, (layer.name, []))[1].append(name)

    def __call__(self, layer: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
        group, names = self._inside.get(layer.name, (layer.name, None))
        return self.arrays(f"{self.root}/{group}", layer, shapes, names)

    def arrays(
        self, group: str, layer: KerasLayer, shapes: Shapes, names: list[str] | None = None
    ) -> list[np.ndarray]:
        names = self.file.names(group, "weight_names") if names is None else names
        _check_count(layer, list(shapes), names)
        found = []
        for name, (field, shape) in zip(names, shapes.items(), strict=True):
            called = re.sub(r"(:\d+)?$", "", name.rpartition("/")[2])
            if called in KNOWN and called not in FIELDS.get(field, (called,)):
                raise ModelFileError(
                    f"layer {layer.name!r}: found {called!r} where {field!r} is expected"
                )
            if shape is not None:
                what = f"layer {layer.name!r}: {field}"
                bfloat16 = layer.computes_in == "bfloat16"
                found.append(self.file.array(f"{group}/{name}", what, shape, bfloat16))
        return found


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

    def __call__(self, layer: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
        group = next(self._left)
        names = self.file.names(group, "weight_names")
        fields = _fields_there(layer, shapes, [_called(name) for name in names])
        return _completed(shapes, fields, self.arrays(group, layer, fields, names))


class WeightsByClass:
    """The .keras layout: groups named after the classes, numbered in Keras' order of the layers.

    With `partial`, a layer may have no bias, or a batch normalization no scale and no offset.
    """

    def __init__(self, file: HDF5File, layers: Sequence[KerasLayer], partial: bool = False):
        self.file, self.groups, self.partial = file, groups_by_class(layers), partial

    def __call__(self, layer: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
        variables = f"{self.groups[layer.name]}/vars"
        members = self.file.members(variables)
        fields = shapes
        if self.partial:
            fields = _fields_there(layer, shapes, [None] * len(members))
        _check_count(layer, list(fields), members)
        found = [
            self.file.array(f"{variables}/{i}", f"layer {layer.name!r}: {field}", shape)
            for i, (field, shape) in enumerate(fields.items())
            if shape is not None
        ]
        return _completed(shapes, fields, found) if self.partial else found


class WeightsOfModel:
    """The weights of a live Keras model."""

    def __init__(self, model: Any, layers: Sequence[KerasLayer]):
        self._layers: dict[str, Any] = {}
        self._find(model, layers, "")

    def __call__(self, layer: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
        arrays = [np.asarray(array) for array in self._layers[layer.name].get_weights()]
        _check_count(layer, list(shapes), [str(array.shape) for array in arrays])
        for array, (field, shape) in zip(arrays, shapes.items(), strict=True):
            if shape is not None and array.shape != shape:
                raise ModelFileError(
                    f"layer {layer.name!r}: {field}: found shape {array.shape}, expected {shape}"
                )
            check_finite(array.astype(np.float64), f"layer {layer.name!r}: {field}")
        return [
            array.astype(np.float64 if array.dtype == np.float64 else np.float32)
            for array, shape in zip(arrays, shapes.values(), strict=True)
            if shape is not None
        ]

    def _find(self, model: Any, layers: Sequence[KerasLayer], prefix: str) -> None:
        live = {layer.name: layer for layer in model.layers}
        for layer in layers:
            if layer.name.removeprefix(prefix) in live:  # operations on tensors are none
                self._layers[layer.name] = live[layer.name.removeprefix(prefix)]
                if layer.layers:
                    self._find(self._layers[layer.name], layer.layers, f"{layer.name}/")


def groups_by_class(layers: Sequence[KerasLayer], root: str = "layers") -> dict[str, str]:
    """Group of every layer by name: layers/dense, layers/dense_1, layers/conv2d, …"""
    counts: dict[str, int] = {}
    groups: dict[str, str] = {}
    for layer in layers:
        kind = layer.kind.rpartition(">")[2]
        snake = re.sub(
            r"([a-z])([A-Z])", r"\1_\2", re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", kind)
        ).lower()
        number = counts[snake] = counts.get(snake, -1) + 1
        groups[layer.name] = f"{root}/{snake}_{number}" if number else f"{root}/{snake}"
        if layer.layers:
            inside = f"{groups[layer.name]}/layers"
            groups |= groups_by_class(layers_in_order(layer.layers), inside)
    return groups


def layers_in_keras_order(network: Network) -> list[KerasLayer]:
    """Name and class of every layer that is written, as Keras lists them."""
    written = written_layers(network)
    return [
        KerasLayer(written[i].name, written[i].kind)
        for i in keras_order([layer.sources for layer in written])
    ]


def fill(template: Network, weights: WeightReader) -> Network:
    """The network with all its arrays read from a weight file; a bias, scale or offset that the
    file has not is zero, or one.
    """
    filled = {}
    for index in keras_order(template.sources or ()):
        layer = template.layers[index]
        shapes = {field: array.shape for field, array in layer.arrays().items()}
        if shapes:
            entry = KerasLayer(template.names[index], type(layer).__name__)
            filled[index] = layer.replace(**dict(zip(shapes, weights(entry, shapes), strict=True)))
    return template.replace(filled)


def _fields_there(
    layer: KerasLayer, shapes: Shapes, called: Sequence[str | None]
) -> dict[str, tuple[int, ...] | None]:
    """Those of the fields that a file has, which may lack a bias, a scale or an offset."""
    fields, missing = dict(shapes), len(shapes) - len(called)
    if missing <= 0:
        return fields
    optional = [field for field in ("bias", "gamma", "beta") if field in fields]
    if len(optional) > missing:
        optional = [f for f in optional if not set(FIELDS[f]) & set(called)]
        if len(optional) != missing:
            raise ModelFileError(
                f"layer {layer.name!r}: the file has {len(called)} of {', '.join(shapes)}, without"
                f" {' or without '.join(optional)}: it does not say which; give the model's"
                " configuration (model.json) as architecture"
            )
    if len(optional) == missing:
        for field in optional:
            del fields[field]
    return fields


def _completed(shapes: Shapes, fields: Shapes, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrays of all fields: zero, or one, where a file has none."""
    found = dict(zip(fields, arrays, strict=True))
    return [
        found[field]
        if field in found
        else np.full(shape or (), float(field == "gamma"), np.float32)
        for field, shape in shapes.items()
    ]


def _called(path: str) -> str:
    """The last word of a dataset's name: kernel of dense_1/kernel:0, b of dense_1_b."""
    name = re.sub(r"(:\d+)?$", "", path.rpartition("/")[2])
    return name if name in KNOWN else name.rpartition("_")[2]


def _weights_inside(model: KerasLayer) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Layer and field of what a model inside a model trains, and of the rest, as .h5 files have
    them.
    """
    trained: list[tuple[str, str]] = []
    rest: list[tuple[str, str]] = []
    for layer in layers_in_order(model.layers):
        if layer.layers:
            own, others = _weights_inside(layer)
        else:
            own, others = ([(layer.name, n) for n in names] for names in weight_names(layer))
        if layer.get("trainable", default=True) is False:
            own, others = [], _all_inside(layer)
        trained += own
        rest += others
    if model.get("trainable", default=True) is False:
        return [], _all_inside(model)
    return trained, rest


def _all_inside(layer: KerasLayer) -> list[tuple[str, str]]:
    """Layer and field of all weights, layer by layer."""
    if layer.layers:
        return [pair for part in layers_in_order(layer.layers) for pair in _all_inside(part)]
    return [(layer.name, name) for names in weight_names(layer) for name in names]


def _check_count(layer: KerasLayer, expected: Sequence[str], found: Sequence[str]) -> None:
    if len(found) != len(expected):
        shown = [name[:40] for name in found[:9]]
        raise ModelFileError(
            f"layer {layer.name!r}: found {len(found)} arrays ({', '.join(shown)}), expected"
            f" {len(expected)} ({', '.join(expected[:9])})"
        )


def write_quantization(file: h5py.File, network: Network) -> None:
    """Write the grids on which the weights of quantized layers lie."""
    for name, layer in zip(network.names, network.layers, strict=True):
        if isinstance(layer, Weighted) and layer.quantization is not None:
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
        layer = layers.get(name)
        if not isinstance(layer, Weighted):
            raise ModelFileError(
                f"quantization of layer {name!r}, which does not exist or has no kernel"
            )
        found[network.names.index(name)] = _quantized(file, name, layer)
    return network.replace(found)


def _quantized(file: HDF5File, name: str, layer: Weighted) -> Weighted:
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
    on_grid: list[tuple[Any, np.ndarray, Any]] = [(layer.kernel, scale, quantized.codes)]
    if quantized_bias:
        on_grid.append((layer.bias, scale.reshape(-1), quantized.bias_codes))
    if not all(
        np.array_equal(array, (grid * codes).astype(array.dtype)) for array, grid, codes in on_grid
    ):
        raise ModelFileError(
            f"layer {name!r}: the weights do not lie on the grid of their quantization"
        )
    return quantized


def _number(file: HDF5File, path: str, key: str) -> float:
    value = file.attribute(path, key)
    if not isinstance(value, np.integer | np.floating):
        raise ModelFileError(f"attribute {key!r} of {path!r} must be a number, found {value!r}")
    return float(value)
