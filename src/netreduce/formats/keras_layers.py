"""Layers as Keras describes them: class name and settings, in the words of Keras 1, 2 and 3.

What is written are the words of Keras 2, which Keras 3 reads as well.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from numbers import Integral, Real

import numpy as np

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.network.activations import ACTIVATIONS
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
    Layer,
    MaxPooling2D,
)

ALIASES = {"swish": "silu"}
LARGEST_SIZE = 2**31 - 1

# Gives the arrays of one layer, in order, for the shapes it must have.
WeightReader = Callable[["KerasLayer", Mapping[str, tuple[int, ...]]], list[np.ndarray]]


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a configuration: its name, class, settings, and the names of the layers it
    reads.
    """

    name: str
    kind: str
    settings: dict = field(default_factory=dict)
    sources: tuple[str, ...] = ()

    def get(self, *keys, default=None):
        """The setting under the first of the keys that is there; Keras 1 names follow Keras 2
        names.
        """
        return next(
            (self.settings[key] for key in keys if self.settings.get(key) is not None), default
        )

    def size(self, *keys) -> int:
        return self.positive(keys[0], self.get(*keys))

    def pair(self, *keys, default=None) -> tuple[int, int]:
        value = self.get(*keys, default=default)
        values = value if isinstance(value, list | tuple) else (value, value)
        if len(values) != 2:
            raise self.error(f"{keys[0]} must be one or two positive integers, found {value!r}")
        return tuple(self.positive(keys[0], v) for v in values)

    def number(self, *keys, default) -> float:
        value = self.get(*keys, default=default)
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
            raise self.error(f"{keys[0]} must be a finite number, found {value!r}")
        return float(value)

    def activation(self, default="linear") -> str:
        value = self.get("activation", default=default)
        if isinstance(value, dict):  # an activation given as a layer, or as a registered function
            value = (
                value.get("config")
                if value.get("class_name") == "function"
                else f"{value.get('class_name')} (not a function of Keras)"
            )
        name = ALIASES.get(value, value) if isinstance(value, str) else repr(value)
        if name not in ACTIVATIONS:
            raise self.unsupported(
                f"activation {name!r} is not supported; known: {', '.join(ACTIVATIONS)}"
            )
        return name

    def require(self, allowed, *keys, default=None):
        """Refuse a setting that changes what the layer computes."""
        value = self.get(*keys, default=default)
        if value not in allowed:
            raise self.unsupported(
                f"{keys[0]}={value!r} is not supported, expected {' or '.join(map(repr, allowed))}"
            )

    def error(self, text) -> ModelFileError:
        return ModelFileError(f"layer {self.name!r} ({self.kind}): {text}")

    def unsupported(self, text) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"layer {self.name!r} ({self.kind}): {text}")

    def positive(self, key, value):
        if (
            isinstance(value, bool)
            or not isinstance(value, Integral)
            or not 1 <= value <= LARGEST_SIZE
        ):
            raise self.error(f"{key} must be a positive integer, found {value!r}")
        return int(value)


def _weighted(entry, weights, kernel, outputs):
    entry.require(("channels_last", "tf"), "data_format", "dim_ordering", default="channels_last")
    shapes = {"kernel": kernel}
    if entry.get("use_bias", "bias", default=True):
        shapes["bias"] = (outputs,)
    return {
        **dict(zip(shapes, weights(entry, shapes), strict=True)),
        "activation": entry.activation(),
    }


def _dense(entry, shape, weights):
    if len(shape) != 1:
        raise entry.unsupported(
            f"inputs of shape {shape} are not supported, expected one axis (Flatten comes before)"
        )
    units = entry.size("units", "output_dim")
    return Dense(**_weighted(entry, weights, (shape[0], units), units))


def _padding(entry):
    entry.require(("valid", "same"), "padding", "border_mode", default="valid")
    return entry.get("padding", "border_mode", default="valid")


def _window(entry, shape):
    if len(shape) != 3:
        raise entry.error(f"expects inputs of shape (height, width, channels), found {shape}")
    settings = {
        "strides": entry.pair("strides", "subsample", default=1),
        "padding": _padding(entry),
        "dilation": entry.pair("dilation_rate", default=1),
    }
    return entry.pair("kernel_size", default=[entry.get("nb_row"), entry.get("nb_col")]), settings


def _conv2d(entry, shape, weights):
    entry.require((1,), "groups", default=1)
    size, settings = _window(entry, shape)
    filters = entry.size("filters", "nb_filter")
    return Conv2D(**_weighted(entry, weights, (*size, shape[2], filters), filters), **settings)


def _depthwise_conv2d(entry, shape, weights):
    size, settings = _window(entry, shape)
    multiplier = entry.pair("depth_multiplier", default=1)[0]
    return DepthwiseConv2D(
        **_weighted(entry, weights, (*size, shape[2], multiplier), shape[2] * multiplier),
        **settings,
    )


def _batch_normalization(entry, shape, weights):
    axis = entry.get("axis", default=-1)
    axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
    if axis not in (-1, len(shape)):
        raise entry.unsupported(
            f"axis={axis!r} is not supported, expected the last axis ({len(shape)})"
        )
    entry.require((False,), "renorm", default=False)
    entry.require((0,), "mode", default=0)
    channels = (shape[-1],)
    names = [
        name
        for name, flag in (("gamma", "scale"), ("beta", "center"))
        if entry.get(flag, default=True)
    ]
    shapes = dict.fromkeys([*names, "mean", "variance"], channels)
    arrays = dict(zip(shapes, weights(entry, shapes), strict=True))
    arrays.setdefault("gamma", np.ones_like(arrays["mean"]))
    arrays.setdefault("beta", np.zeros_like(arrays["mean"]))
    return BatchNormalization(**arrays, epsilon=entry.number("epsilon", default=1e-3))


def _pooling(layer):
    def read(entry, shape, weights):
        entry.require(
            ("channels_last", "tf"), "data_format", "dim_ordering", default="channels_last"
        )
        size = entry.pair("pool_size", default=2)
        return layer(size, entry.pair("strides", default=size), _padding(entry))

    return read


def _global_average_pooling(entry, shape, weights):
    entry.require(("channels_last", "tf"), "data_format", "dim_ordering", default="channels_last")
    entry.require((False,), "keepdims", default=False)
    return GlobalAveragePooling2D()


def _flatten(entry, shape, weights):
    entry.require(("channels_last",), "data_format", default="channels_last")
    return Flatten()


def _relu(entry, shape, weights):
    entry.require((0,), "threshold", default=0)
    slope, ceiling = entry.number("negative_slope", default=0), entry.get("max_value")
    if slope == 0 and ceiling in (None, 6):
        return Activation("relu" if ceiling is None else "relu6")
    if ceiling is None:
        return Activation("leaky_relu", slope)
    raise entry.unsupported(f"max_value={ceiling!r} with negative_slope={slope} is not supported")


def _leaky_relu(entry, shape, weights):
    return Activation("leaky_relu", entry.number("negative_slope", "alpha", default=0.3))


def _softmax(entry, shape, weights):
    entry.require((-1, len(shape)), "axis", default=-1)
    return Activation("softmax")


def _concatenate(entry, shape, weights):
    entry.require((-1, len(shape)), "axis", default=-1)
    return Concatenate()


READERS: dict[str, Callable[[KerasLayer, tuple[int, ...], WeightReader], Layer]] = {
    "Dense": _dense,
    "Conv2D": _conv2d,
    "Convolution2D": _conv2d,
    "DepthwiseConv2D": _depthwise_conv2d,
    "BatchNormalization": _batch_normalization,
    "MaxPooling2D": _pooling(MaxPooling2D),
    "AveragePooling2D": _pooling(AveragePooling2D),
    "GlobalAveragePooling2D": _global_average_pooling,
    "Flatten": _flatten,
    "Dropout": lambda entry, shape, weights: Dropout(entry.number("rate", "p", default=0.5)),
    "Activation": lambda entry, shape, weights: Activation(entry.activation()),
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Softmax": _softmax,
    "Add": lambda entry, shape, weights: Add(),
    "Concatenate": _concatenate,
}


def keras_class(layer: Layer) -> str:
    """Name of the Keras class that computes what the layer computes."""
    return (
        "LeakyReLU"
        if isinstance(layer, Activation) and layer.name == "leaky_relu"
        else type(layer).__name__
    )


def keras_settings(layer: Layer) -> dict:
    """The settings of that class, but for name and type."""
    match layer:
        case Dense():
            return {"units": layer.outputs, "activation": layer.activation, "use_bias": True}
        case Conv2D():
            return {"filters": layer.outputs, **_window_settings(layer)}
        case DepthwiseConv2D():
            return {"depth_multiplier": layer.kernel.shape[3], **_window_settings(layer)}
        case BatchNormalization():
            return {"axis": -1, "epsilon": layer.epsilon, "center": True, "scale": True}
        case MaxPooling2D() | AveragePooling2D():
            return {
                "pool_size": layer.pool_size,
                "padding": layer.padding,
                "strides": layer.strides,
                "data_format": "channels_last",
            }
        case Dropout():
            return {"rate": layer.rate}
        case Activation(name="leaky_relu"):
            return {"alpha": layer.negative_slope}
        case Activation():
            return {"activation": layer.name}
        case Concatenate():
            return {"axis": -1}
        case Flatten() | GlobalAveragePooling2D():
            return {"data_format": "channels_last"}
        case Add():
            return {}
    raise UnsupportedLayerError(
        f"layers of type {type(layer).__name__} cannot be written as Keras layers"
    )


def _window_settings(layer):
    return {
        "kernel_size": layer.kernel.shape[:2],
        "strides": layer.strides,
        "padding": layer.padding,
        "data_format": "channels_last",
        "dilation_rate": layer.dilation,
        "activation": layer.activation,
        "use_bias": True,
    }
