"""Architectures by name: networks whose weights are still to be trained or read.

An architecture is a dict such as ``{"name": "mlp", "hidden": [500, 300]}``; a string is short for
``{"name": string}``.

========== ======================================= ===============================================
name       keys                                    network
========== ======================================= ===============================================
mlp        hidden ([500, 300]),                    Dense layers; batch normalization, if any,
           activation ("relu"),                    before the activation
           batch_norm (false), epsilon (0.001)
lenet5     activation ("relu")                     LeNet-5 with max pooling
vgg-small  epsilon (0.001)                         32-32-64-64-128-128 3×3 convolutions, batch
                                                   normalization after each ReLU, Dense 128
resnet20   epsilon (0.001)                         ResNet-20 for 32×32 images (He et al., 2016,
                                                   §4.2), with projection shortcuts
vgg16      –                                       as in keras.applications
vgg19      –                                       as in keras.applications
========== ======================================= ===============================================

All end in linear logits, and may hold `input_shape` and `classes` where no dataset says them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from netreduce.errors import ParameterError, ShapeError

from .activations import ACTIVATIONS
from .graph import INPUT, Network
from .layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
)

MAX_WEIGHTS = 1 << 28  # of one layer: 1 GiB


def build(
    architecture: dict | str, input_shape: Sequence[int], classes: int, seed: int | None = None
) -> Network:
    """A network of that architecture.

    Parameters
    ----------
    architecture : dict or str
        See the table above.
    input_shape : tuple of int
        Shape of one sample: (height, width, channels), or (inputs,) for an mlp.
    classes : int
        Number of outputs.
    seed : int, optional
        Draws the initial weights: uniform after He et al. (2015), after Glorot and Bengio (2010) in
        the last layer. Zeros without a seed.

    Raises
    ------
    ParameterError
        Unknown architecture or key, or a value out of range: names it and what is allowed.
    """
    name, parameters = _validated(architecture)
    builder = _Builder(_sizes("input_shape", input_shape), seed)
    try:
        _ARCHITECTURES[name].construct(builder, _size("classes", classes), **parameters)
    except ShapeError as error:
        raise ParameterError(
            f"architecture {name!r} does not fit inputs of shape {tuple(input_shape)}: {error}"
        ) from None
    return Network(builder.layers, builder.shapes[INPUT], builder.sources)


def template(architecture: Network | dict | str, sizes: Sequence[int] | None = None) -> Network:
    """A network to be filled with tensors read from a file.

    Parameters
    ----------
    architecture : Network, dict or str
        A network is returned as it is; a dict may hold `input_shape` and `classes`.
    sizes : sequence of int, optional
        Number of values of every tensor, in order; says the classes and an mlp's number of inputs
        where the architecture does not.
    """
    if isinstance(architecture, Network):
        return architecture
    description = {"name": architecture} if isinstance(architecture, str) else dict(architecture)
    classes, input_shape = description.pop("classes", None), description.pop("input_shape", None)
    name, parameters = _validated(description)
    usual = _ARCHITECTURES[name]
    if input_shape is None:
        input_shape = usual.input_shape
        if input_shape is None:
            if not sizes:
                raise ParameterError(f"architecture {name!r}: input_shape is needed")
            input_shape = (max(1, sizes[0] // parameters["hidden"][0]),)
    return build(description, input_shape, classes or (sizes[-1] if sizes else usual.classes))


class _Builder:
    """Collects layers; each reads the one before it unless told otherwise."""

    def __init__(self, input_shape, seed):
        self.layers, self.sources, self.shapes = [], [], {INPUT: input_shape}
        self._random = None if seed is None else np.random.default_rng(seed)

    def add(self, layer: Layer, *sources: int) -> int:
        """Append a layer; returns its index."""
        index = len(self.layers)
        sources = sources or (index - 1,)
        self.shapes[index] = layer.output_shape(*(self.shapes[source] for source in sources))
        self.layers.append(layer)
        self.sources.append(sources)
        return index

    def dense(self, units, activation="linear"):
        return self.add(
            Dense(self._kernel((*self._last_shape(1), units), activation), activation=activation)
        )

    def conv(self, filters, size, activation="linear", strides=1, padding="same", source=None):
        source = len(self.layers) - 1 if source is None else source
        kernel = self._kernel((size, size, self._last_shape(3, source)[2], filters), activation)
        return self.add(
            Conv2D(kernel, activation=activation, strides=strides, padding=padding), source
        )

    def norm(self, epsilon):
        channels = self._last_shape()[-1]
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        return self.add(BatchNormalization(one, zero, zero, one, epsilon))

    def flatten(self):
        """Flatten, unless the values are in one row already."""
        return self.add(Flatten()) if len(self._last_shape()) > 1 else None

    def _last_shape(self, rank=None, source=None):
        shape = self.shapes[len(self.layers) - 1 if source is None else source]
        if rank not in (None, len(shape)):
            raise ShapeError(f"expected {rank} axes, found {len(shape)}")
        return shape

    def _kernel(self, shape, activation):
        if prod(shape) > MAX_WEIGHTS:
            raise ParameterError(
                f"a layer with a kernel of shape {shape} is too large, allowed are {MAX_WEIGHTS:,}"
                " weights"
            )
        if self._random is None:
            return np.zeros(shape, np.float32)
        receptive = int(np.prod(shape[:-2]))
        inputs, outputs = receptive * shape[-2], receptive * shape[-1]
        limit = (
            np.sqrt(6 / (inputs + outputs))
            if activation == "linear" and len(shape) == 2
            else np.sqrt(6 / inputs)
        )
        return self._random.uniform(-limit, limit, shape).astype(np.float32)


def _mlp(builder, classes, hidden, activation, batch_norm, epsilon):
    builder.flatten()
    for units in hidden:
        if batch_norm:
            builder.dense(units)
            builder.norm(epsilon)
            builder.add(Activation(activation))
        else:
            builder.dense(units, activation)
    builder.dense(classes)


def _lenet5(builder, classes, activation):
    builder.conv(6, 5, activation)
    builder.add(MaxPooling2D(2))
    builder.conv(16, 5, activation, padding="valid")
    builder.add(MaxPooling2D(2))
    builder.flatten()
    builder.dense(120, activation)
    builder.dense(84, activation)
    builder.dense(classes)


def _vgg_small(builder, classes, epsilon):
    for filters, rate in ((32, 0.2), (64, 0.3), (128, 0.4)):
        for _ in range(2):
            builder.conv(filters, 3, "relu")
            builder.norm(epsilon)
        builder.add(MaxPooling2D(2))
        builder.add(Dropout(rate))
    builder.flatten()
    builder.dense(128, "relu")
    builder.norm(epsilon)
    builder.add(Dropout(0.5))
    builder.dense(classes)


def _resnet20(builder, classes, epsilon):
    builder.conv(16, 3)
    builder.norm(epsilon)
    block_input = builder.add(Activation("relu"))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            builder.conv(filters, 3, strides=strides)
            builder.norm(epsilon)
            builder.add(Activation("relu"))
            builder.conv(filters, 3)
            branch = builder.norm(epsilon)
            shortcut = block_input
            if strides == 2:
                builder.conv(filters, 1, strides=2, source=block_input)
                shortcut = builder.norm(epsilon)
            builder.add(Add(), branch, shortcut)
            block_input = builder.add(Activation("relu"))
    builder.add(GlobalAveragePooling2D())
    builder.dense(classes)


def _vgg(depths):
    def construct(builder, classes):
        for depth, filters in zip(depths, (64, 128, 256, 512, 512), strict=True):
            for _ in range(depth):
                builder.conv(filters, 3, "relu")
            builder.add(MaxPooling2D(2))
        builder.flatten()
        builder.dense(4096, "relu")
        builder.dense(4096, "relu")
        builder.dense(classes)

    return construct


@dataclass(frozen=True)
class _Architecture:
    construct: Callable[..., None]
    parameters: Mapping[str, object]
    input_shape: tuple[int, ...] | None
    classes: int


_ARCHITECTURES = {
    "mlp": _Architecture(
        _mlp,
        {"hidden": (500, 300), "activation": "relu", "batch_norm": False, "epsilon": 1e-3},
        None,
        10,
    ),
    "lenet5": _Architecture(_lenet5, {"activation": "relu"}, (28, 28, 1), 10),
    "vgg-small": _Architecture(_vgg_small, {"epsilon": 1e-3}, (32, 32, 3), 10),
    "resnet20": _Architecture(_resnet20, {"epsilon": 1e-3}, (32, 32, 3), 10),
    "vgg16": _Architecture(_vgg((2, 2, 3, 3, 3)), {}, (224, 224, 3), 1000),
    "vgg19": _Architecture(_vgg((2, 2, 4, 4, 4)), {}, (224, 224, 3), 1000),
}


def _validated(architecture):
    """Name and parameters of an architecture, every parameter checked and none left out."""
    given = {"name": architecture} if isinstance(architecture, str) else architecture
    if not isinstance(given, Mapping) or "name" not in given:
        raise ParameterError(
            f"an architecture is a name or a mapping with the key 'name', found {architecture!r}"
        )
    name = given["name"]
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise ParameterError(
            f"unknown architecture {name!r}, expected one of {', '.join(_ARCHITECTURES)}"
        )
    parameters = dict(_ARCHITECTURES[name].parameters)
    for key, value in given.items():
        if key == "name":
            continue
        if key not in parameters:
            raise ParameterError(
                f"architecture {name!r}: unknown key {key!r}, expected one of"
                f" {', '.join(('name', *parameters))}"
            )
        parameters[key] = _CHECKS[key](key, value)
    return name, parameters


def _size(key, value):
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ParameterError(f"{key} must be a positive integer, found {value!r}")
    return int(value)


def _sizes(key, values):
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ParameterError(f"{key} must be a list of positive integers, found {values!r}")
    return tuple(_size(key, value) for value in values)


def _flag(key, value):
    if not isinstance(value, bool):
        raise ParameterError(f"{key} must be true or false, found {value!r}")
    return value


def _positive(key, value):
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise ParameterError(f"{key} must be a positive number, found {value!r}")
    return float(value)


def _activation(key, value):
    if value not in ACTIVATIONS:
        raise ParameterError(f"{key} must be one of {', '.join(ACTIVATIONS)}, found {value!r}")
    return value


_CHECKS = {"hidden": _sizes, "activation": _activation, "batch_norm": _flag, "epsilon": _positive}
