"""Layers as Keras describes them: class name and settings, in the words of Keras 1, 2 and 3; what
each of them computes, as layers of a Network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, prod
from numbers import Real
from typing import NamedTuple

import numpy as np

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Multiply,
    Normalization,
    Padding,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Shape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

LARGEST_SIZE = 2**31 - 1
LAST, FIRST, RAISED = "last", "first", "raised"
# Packages whose classes and functions are Keras' own.
KERAS = ("keras", "tf_keras", "tensorflow")
# Keras' activation functions by its names, which are ours but for these; hard_sigmoid depends on
# the version.
FUNCTIONS = {
    "swish": "silu",
    "hard_silu": "hard_swish",
    **{
        name: name
        for name in (
            *("linear", "relu", "leaky_relu", "relu6", "elu", "selu", "softplus", "softsign"),
            *("sigmoid", "tanh", "exponential", "silu", "gelu", "mish", "softmax", "log_softmax"),
            "hard_swish",
        )
    },
}
# Since when they are Keras': before, a function of that name was the user's.
SINCE = {
    "swish": (2, 3),
    "gelu": (2, 4),
    **dict.fromkeys(("leaky_relu", "mish", "relu6", "silu"), (2, 13)),
    **dict.fromkeys(("hard_silu", "hard_swish", "log_softmax"), (3, 0)),
}
ALONG_AN_AXIS = ("softmax", "log_softmax")
CORRELATING = ("tensorflow", "cntk", "jax", "torch", "mxnet", "openvino", "plaidml", "numpy")

# Gives the arrays of one layer, in order, for the shapes it must have; an array without a shape is
# there but not needed, and is left out.
Shapes = Mapping[str, Shape | None]
WeightReader = Callable[["KerasLayer", Shapes], list[np.ndarray]]


class Origin(NamedTuple):
    """What wrote a model, as far as it says so."""

    version: tuple[int, int] | None = None
    backend: str | None = None

    @property
    def is_keras_1(self) -> bool:
        return self.version is None or self.version[0] < 2


UNKNOWN = Origin()


@dataclass(frozen=True)
class KerasLayer:
    """One layer of a configuration.

    Attributes
    ----------
    name : str
        With the names of the models it lies in before it: outer/inner.
    kind : str
        The class.
    settings : dict
    sources : tuple of str
        Names of the layers it reads.
    layers : tuple of KerasLayer
        Of a model inside the model.
    origin : Origin
    is_operation : bool
        An operation on tensors, not a layer.
    form : str
        How the tensors it reads lie here: "last", as there; "first", channels last instead of
        first; "raised", with an axis of length 1 before all others.
    """

    name: str
    kind: str
    settings: dict = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    layers: tuple[KerasLayer, ...] = ()
    origin: Origin = UNKNOWN
    is_operation: bool = False
    form: str = LAST

    def get(self, *keys: str, default: object = None) -> object:
        """The setting under the first of the keys that is there; Keras 1 names follow Keras 2
        names.
        """
        return next(
            (self.settings[key] for key in keys if self.settings.get(key) is not None), default
        )

    @property
    def computes_in(self) -> str:
        """The type of numbers in which Keras computes, as float16 of "mixed_float16";
        int8_from_float32 and the like where Keras has quantized the layer.
        """
        policy = self.get("dtype", default="float32")
        if isinstance(policy, dict):
            settings = policy.get("config")
            settings = settings if isinstance(settings, dict) else {}
            quantized = f"{settings.get('mode')}_from_{settings.get('source_name')}"
            policy = settings.get("name") or quantized
        return str(policy).removeprefix("mixed_")

    def size(self, *keys: str, default: int | None = None) -> int:
        return self.positive(keys[0], self.get(*keys, default=default))

    def pair(self, *keys: str, default: object = None) -> tuple[int, int]:
        """Two sizes; the first is 1 in layers with one axis of places."""
        value = self.get(*keys, default=default)
        values = list(value) if isinstance(value, list | tuple) else [value]
        if self.form == RAISED:
            if len(values) != 1:
                raise self.error(f"{keys[0]} must be a positive integer, found {value!r}")
            return 1, self.positive(keys[0], values[0])
        if len(values) == 1 and not isinstance(value, list | tuple):
            values *= 2
        if len(values) != 2:
            raise self.error(f"{keys[0]} must be one or two positive integers, found {value!r}")
        return self.positive(keys[0], values[0]), self.positive(keys[0], values[1])

    def sides(self, *keys: str, default: object) -> tuple[int, int, int, int]:
        """Rows or columns at the top, bottom, left and right: one number for all, two for both
        axes, or two pairs.
        """
        value = self.get(*keys, default=default)
        axes = list(value) if isinstance(value, list | tuple) else [value, value]
        if self.form == RAISED:
            axes = [0, axes]
        sides = [side for axis in axes for side in (axis if isinstance(axis, list) else [axis] * 2)]
        whole = [n for n in sides if isinstance(n, int) and 0 <= n <= LARGEST_SIZE]
        if len(axes) != 2 or len(sides) != 4 or len(whole) != 4:
            raise self.error(f"{keys[0]} must be one, two or two pairs of sizes, found {value!r}")
        top, bottom, left, right = whole
        return top, bottom, left, right

    def number(self, *keys: str, default: float | None) -> float:
        value = self.get(*keys, default=default)
        if isinstance(value, bool) or not isinstance(value, Real) or not isfinite(value):
            raise self.error(f"{keys[0]} must be a finite number, found {value!r}")
        return float(value)

    def numbers(self, key: str) -> np.ndarray:
        """A number or an array of numbers."""
        value = self.get(key)
        try:
            array = np.asarray(value, np.float64)
        except (ValueError, TypeError, OverflowError):
            array = np.array(np.nan)
        if not np.isfinite(array).all() or not np.isfinite(array.astype(np.float32)).all():
            raise self.error(f"{key} must be finite numbers, found {str(value)[:100]}")
        return array.astype(np.float32)

    def activation(self) -> Activation:
        """The activation function: a name, a function of Keras, or a layer that has one."""
        value = self.get("activation", default="linear")
        if isinstance(value, dict) and value.get("class_name") in ACTIVATION_LAYERS:
            settings = value.get("config")
            self.check_own(value)
            if not isinstance(settings, dict):
                raise self.error(f"activation without settings, found {str(value)[:100]}")
            layer = KerasLayer(self.name, str(value["class_name"]), settings, origin=self.origin)
            (function,) = KINDS[layer.kind].read(layer, (), _no_weights)
            assert isinstance(function, Activation)
            return function
        name = self._function_name(value)
        since = SINCE.get(name)
        if since and self.origin.version and self.origin.version < since:
            raise self.unsupported(
                f"activation {name!r} is a function of the user's own: Keras has one of that name"
                f" since version {since[0]}.{since[1]}, the file is from version"
                f" {self.origin.version[0]}.{self.origin.version[1]}"
            )
        if name == "hard_sigmoid":
            if self.origin.version is None:
                raise self.unsupported(
                    "activation 'hard_sigmoid' is 0.2 x + 0.5 in Keras 1 and 2, and x / 6 + 0.5 in"
                    " Keras 3; the file does not say which (keras_version is missing)"
                )
            return Activation(
                "hard_sigmoid" if self.origin.version[0] >= 3 else "hard_sigmoid_keras2"
            )
        if name not in FUNCTIONS:
            raise self.unsupported(
                f"activation {name!r} is not supported; known: {', '.join(FUNCTIONS)}"
            )
        return Activation(FUNCTIONS[name])

    def _function_name(self, value: object) -> str:
        if isinstance(value, str):
            return value
        if not isinstance(value, dict):
            return repr(value)[:100]
        if value.get("class_name") != "function":
            return f"{value.get('class_name')} (not a function of Keras)"
        module = value.get("module")
        if is_own_module(module) and "activations" in str(module):
            return str(value.get("config"))
        raise self.unsupported(
            f"activation {value.get('config')!r} is a function of the user's own (module"
            f" {module!r}), whose code is not in the file"
        )

    def check_own(self, raw: dict) -> None:
        """Refuse a class of the user's own, which may have the name of one of Keras'."""
        module, registered, kind = raw.get("module"), raw.get("registered_name"), raw["class_name"]
        if (module is not None and not is_own_module(module)) or registered not in (None, kind):
            raise self.unsupported(
                f"a class of the user's own (module {module!r}, registered as {registered!r}),"
                " whose code is not in the file: layers of this class are not supported"
            )

    def require(self, allowed: Sequence[object], *keys: str, default: object = None) -> None:
        """Refuse a setting that changes what the layer computes."""
        value = self.get(*keys, default=default)
        if value not in allowed:
            raise self.unsupported(
                f"{keys[0]}={value!r} is not supported, expected {' or '.join(map(repr, allowed))}"
            )

    def require_last_axis(self, shape: Shape, default: object = -1) -> None:
        """Refuse an axis that is not the last one here."""
        axis = self.get("axis", default=default)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in last_axes(self.form, len(shape)) or isinstance(axis, bool):
            raise self.unsupported(
                f"axis={axis!r} is not supported, expected the last axis ({len(shape)})"
            )

    @property
    def channels_first(self) -> bool:
        """Whether the layer says that its channels come first."""
        allowed = ("channels_last", "channels_first", "tf", "th")
        self.require(allowed, "data_format", "dim_ordering", default="channels_last")
        return self.get("data_format", "dim_ordering") in ("channels_first", "th")

    def error(self, text: object) -> ModelFileError:
        return ModelFileError(f"layer {self.name!r} ({self.kind}): {text}")

    def unsupported(self, text: object) -> UnsupportedLayerError:
        return UnsupportedLayerError(f"layer {self.name!r} ({self.kind}): {text}")

    def positive(self, key: str, value: object) -> int:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | np.integer)
            or not 1 <= value <= LARGEST_SIZE
        ):
            raise self.error(f"{key} must be a positive integer, found {value!r}")
        return int(value)


def is_own_module(module: object) -> bool:
    """Whether that module is Keras' own."""
    return isinstance(module, str) and module.split(".")[0] in KERAS


def last_axes(form: str, rank: int) -> tuple[int, int]:
    """What Keras calls the axis that is the last of `rank` here, without that of the batch."""
    return {LAST: (-1, rank), RAISED: (-1, rank - 1), FIRST: (1, -3)}[form]


def _no_weights(entry: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
    raise entry.unsupported("an activation with weights inside a layer is not supported")


def weight_names(entry: KerasLayer) -> tuple[list[str], list[str]]:
    """Names of the arrays of a layer that are trained, and of those that are not, as far as Keras'
    own settings say.
    """
    kinds = KINDS.get(entry.kind)
    if kinds is None:
        return [], []
    if entry.kind == "BatchNormalization":
        affine = (("gamma", "scale"), ("beta", "center"))
        return [name for name, flag in affine if entry.get(flag, default=True)], [
            "mean",
            "variance",
        ]
    if entry.kind == "Normalization":
        return [], [] if entry.get("mean") is not None else ["mean", "variance", "count"]
    names = list(kinds.arrays)
    if names and entry.kind != "PReLU" and entry.get("use_bias", "bias", default=True):
        names.append("bias")
    return names, []


def _weighted(
    entry: KerasLayer, weights: WeightReader, outputs: int, **kernels: Shape
) -> tuple[list[np.ndarray], np.ndarray]:
    """The kernels and the bias, zero where there is none."""
    shapes: dict[str, Shape | None] = dict(kernels)
    if entry.get("use_bias", "bias", default=True):
        shapes["bias"] = (outputs,)
    found = weights(entry, shapes)
    if "bias" not in shapes:
        found.append(np.zeros(outputs, found[0].dtype))
    return found[: len(kernels)], found[-1]


def _activated(entry: KerasLayer, layer: Layer) -> list[Layer]:
    """A layer and its activation, inside it where it has one word."""
    activation = entry.activation()
    if activation.name in ALONG_AN_AXIS and entry.form == FIRST:
        raise entry.unsupported(f"{activation.name} along the rows of channels-first images")
    if vars(activation) == vars(Activation(activation.name)):
        return [layer.replace(activation=activation.name)]
    return [layer, activation]


def _dense(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    units = entry.size("units", "output_dim")
    (kernel,), bias = _weighted(entry, weights, units, kernel=(shape[-1], units))
    if len(shape) == 1:
        return _activated(entry, Dense(kernel, bias))
    return _activated(entry, Conv2D(kernel[None, None], bias))  # at every place by itself


class _Window(NamedTuple):
    """Where the kernel of a convolution goes."""

    size: tuple[int, int]
    strides: tuple[int, int]
    padding: Padding
    dilation: tuple[int, int]


def _window(entry: KerasLayer, shape: Shape) -> _Window:
    if len(shape) != 3:
        raise entry.error(f"expects inputs of shape (height, width, channels), found {shape}")
    if "nb_row" in entry.settings:
        size = entry.size("nb_row"), entry.size("nb_col")
    else:
        size = entry.pair("kernel_size", "filter_length")
    strides = entry.pair("strides", "subsample", "subsample_length", default=1)
    dilation = entry.pair("dilation_rate", default=1)
    padding: Padding = _padding(entry, *(("causal",) if entry.form == RAISED else ()))
    if padding == "causal":
        padding = (0, 0, (size[1] - 1) * dilation[1], 0)
    return _Window(size, strides, padding, dilation)


def _padding(entry: KerasLayer, *more: str) -> str:
    entry.require(("valid", "same", *more), "padding", "border_mode", default="valid")
    return str(entry.get("padding", "border_mode", default="valid"))


def _conv(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    window = _window(entry, shape)
    filters, groups = entry.size("filters", "nb_filter"), entry.size("groups", default=1)
    if shape[2] % groups:
        raise entry.error(f"{shape[2]} channels cannot be cut into {groups} groups")
    rows, columns = window.size
    inputs = shape[2] // groups
    stored: Shape = (rows, columns, inputs, filters)
    if entry.form == RAISED:
        stored = stored[1:]
    old = entry.kind.startswith("Convolution")
    if old and entry.form == FIRST:
        stored = (filters, inputs, rows, columns)
    if old and entry.form == RAISED:
        stored = (columns, 1, inputs, filters)
    (kernel,), bias = _weighted(entry, weights, filters, kernel=stored)
    if old and entry.form == FIRST:
        kernel = kernel.transpose(2, 3, 1, 0)
    kernel = kernel.reshape(rows, columns, inputs, filters)
    padding = window.padding
    if _is_flipped(entry):
        kernel = kernel[::-1, ::-1]
        if padding == "same":
            padding = _same_of_theano(shape, window)
    layer = Conv2D(
        np.ascontiguousarray(kernel),
        bias,
        strides=window.strides,
        padding=padding,
        dilation=window.dilation,
        groups=groups,
    )
    return _activated(entry, layer)


def _is_flipped(entry: KerasLayer) -> bool:
    """Theano convolves, with kernels turned round; all other backends correlate."""
    backend = entry.origin.backend
    if backend is None and entry.kind.startswith("Convolution") and entry.origin.is_keras_1:
        raise entry.unsupported(
            "the file does not say whether its kernels are turned round (those of the backend"
            " 'theano') or not ('tensorflow'): set the attribute 'backend' of the file to say so"
        )
    if backend not in (None, "theano", *CORRELATING):
        raise entry.unsupported(f"the backend {backend!r} is not known")
    return backend == "theano"


def _same_of_theano(shape: Shape, window: _Window) -> tuple[int, int, int, int]:
    """Theano puts half a kernel before the image; Keras cuts off what is more than strides."""
    sides: list[int] = []
    for n, k, s, d in zip(shape[:2], *window[:2], window.dilation, strict=False):
        span = (k - 1) * d + 1
        before = span // 2
        sides += [before, max((-(-n // s) - 1) * s + span - n - before, 0)]
    return sides[0], sides[1], sides[2], sides[3]


def _refuse_theano(entry: KerasLayer) -> None:
    if entry.origin.backend == "theano":
        raise entry.unsupported(
            "how the backend 'theano' computes layers of this class is not known here"
        )


def _depthwise(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    _refuse_theano(entry)
    window, multiplier = _window(entry, shape), entry.size("depth_multiplier", default=1)
    stored: Shape = (*window.size, shape[2], multiplier)
    (kernel,), bias = _weighted(
        entry,
        weights,
        shape[2] * multiplier,
        kernel=stored[1:] if entry.form == RAISED else stored,
    )
    layer = DepthwiseConv2D(
        kernel.reshape(stored),
        bias,
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
    )
    return _activated(entry, layer)


def _separable(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    _refuse_theano(entry)
    window, multiplier = _window(entry, shape), entry.size("depth_multiplier", default=1)
    filters, between = entry.size("filters"), shape[2] * multiplier
    start = 1 if entry.form == RAISED else 0
    depthwise, pointwise = (*window.size, shape[2], multiplier), (1, 1, between, filters)
    kernels, bias = _weighted(
        entry,
        weights,
        filters,
        depthwise_kernel=depthwise[start:],
        pointwise_kernel=pointwise[start:],
    )
    first = DepthwiseConv2D(
        kernels[0].reshape(depthwise),
        strides=window.strides,
        padding=window.padding,
        dilation=window.dilation,
    )
    return [first, *_activated(entry, Conv2D(kernels[1].reshape(pointwise), bias))]


def _transposed(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    _refuse_theano(entry)
    window = _window(entry, shape)
    if window.dilation != (1, 1) or not isinstance(window.padding, str):
        raise entry.unsupported(f"dilation_rate={window.dilation} is not supported, expected 1")
    entry.require((1,), "groups", default=1)
    filters = entry.size("filters")
    stored: Shape = (*window.size, filters, shape[2])
    (kernel,), bias = _weighted(
        entry, weights, filters, kernel=stored[1:] if entry.form == RAISED else stored
    )
    more = entry.get("output_padding")
    if more is not None:
        values = more if isinstance(more, list) else [more] * (1 if entry.form == RAISED else 2)
        more = (0, *values) if entry.form == RAISED else tuple(values)
    layer = Conv2DTranspose(
        kernel.reshape(stored),
        bias,
        strides=window.strides,
        padding=window.padding,
        output_padding=more,
    )
    return _activated(entry, layer)


def _batch_normalization(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    entry.require_last_axis(shape)
    entry.require((False,), "renorm", default=False)
    entry.require((0,), "mode", default=0)
    shapes = dict.fromkeys((name for names in weight_names(entry) for name in names), (shape[-1],))
    arrays = dict(zip(shapes, weights(entry, shapes), strict=True))
    arrays.setdefault("gamma", np.ones_like(arrays["mean"]))
    arrays.setdefault("beta", np.zeros_like(arrays["mean"]))
    return [BatchNormalization(**arrays, epsilon=entry.number("epsilon", default=1e-3))]


def _pooling(layer: type[MaxPooling2D] | type[AveragePooling2D]) -> Reader:
    def read(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
        size, padding = entry.pair("pool_size", "pool_length", default=2), _padding(entry)
        given = entry.get("strides", "stride") is not None
        if padding == "same":
            _refuse_theano(entry)
        return [layer(size, entry.pair("strides", "stride") if given else size, padding)]

    return read


def _global_pooling(layer: type[GlobalAveragePooling2D] | type[GlobalMaxPooling2D]) -> Reader:
    def read(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
        entry.require((False, True), "keepdims", default=False)
        kept = [Reshape((1, 1, shape[-1]))] if entry.get("keepdims") else []
        return [layer(), *kept]

    return read


def _flatten(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Flatten()]


def _reshape(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    target = entry.get("target_shape", "dims")
    if not isinstance(target, list) or not target or target.count(-1) > 1:
        raise entry.error(f"target_shape must be positive integers, found {target!r}")
    known = prod(entry.positive("target_shape", n) for n in target if n != -1)
    return [Reshape(tuple(prod(shape) // known if n == -1 else n for n in target))]


def _permute(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    dims = entry.get("dims")
    if not isinstance(dims, list):
        raise entry.error(f"dims must be a list of axes, found {dims!r}")
    return [Permute(tuple(entry.positive("dims", n) for n in dims))]


def _up_sampling(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    size = entry.pair("size", "length", default=2)
    interpolation = entry.get("interpolation", default="nearest")
    if interpolation not in ("nearest", "bilinear"):
        raise entry.unsupported(f"interpolation={interpolation!r} is not supported")
    if interpolation == "bilinear" and entry.origin.version and entry.origin.version < (2, 3):
        raise entry.unsupported(
            "interpolation='bilinear' before Keras 2.3 depends on the version of TensorFlow, which"
            " the file does not state: between the corners of pixels, or between their centres"
        )
    return [UpSampling2D(size, interpolation)]


def _ceiling(entry: KerasLayer) -> float | None:
    return None if entry.get("max_value") is None else entry.number("max_value", default=None)


def _relu(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    slope, threshold = (entry.number(key, default=0) for key in ("negative_slope", "threshold"))
    ceiling = _ceiling(entry)
    if slope:
        return [Activation("leaky_relu", slope, max_value=ceiling, threshold=threshold)]
    if ceiling == 6 and threshold == 0:
        return [Activation("relu6")]
    return [Activation("relu", max_value=ceiling, threshold=threshold)]


def _leaky_relu(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Activation("leaky_relu", entry.number("negative_slope", "alpha", default=0.3))]


def _elu(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Activation("elu", alpha=entry.number("alpha", default=1.0))]


def _thresholded_relu(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Activation("relu", threshold=entry.number("theta", default=1.0))]


def _softmax(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    if shape:
        entry.require_last_axis(shape)
    else:
        entry.require((-1,), "axis", default=-1)
    return [Activation("softmax")]


def _prelu(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    there = {LAST: shape, FIRST: (*shape[2:], *shape[:2]), RAISED: shape[1:]}[entry.form]
    shared = entry.get("shared_axes", default=[])
    shared = shared if isinstance(shared, list) else [shared]
    stored = tuple(1 if axis in shared else n for axis, n in enumerate(there, start=1))
    (alpha,) = weights(entry, {"alpha": stored})
    return [PReLU(alpha.transpose(1, 2, 0) if entry.form == FIRST else alpha)]


def _rescaling(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    scale = entry.numbers("scale")
    offset = (
        entry.numbers("offset") if entry.get("offset") is not None else np.zeros((), np.float32)
    )
    return [Rescaling(scale, offset)]


def _normalization(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    axis = entry.settings.get("axis", -1)
    axes = axis if isinstance(axis, list) else [] if axis is None else [axis]
    if not all(isinstance(a, int) and not isinstance(a, bool) for a in axes):
        raise entry.error(f"axis must be one or more axes, found {axis!r}")
    kept = sorted(a - 1 if a > 0 else len(shape) + a for a in axes)
    if any(not 0 <= a < len(shape) for a in kept):
        raise entry.error(f"axis={axis!r} is not an axis of inputs of shape {shape}")
    if entry.get("mean") is not None:
        mean, variance = entry.numbers("mean"), entry.numbers("variance")
    else:
        stored = tuple(shape[a] for a in kept)
        mean, variance = weights(entry, {"mean": stored, "variance": stored, "count": None})
    mean, variance = (_along(array, kept, len(shape)) for array in (mean, variance))
    layer = Normalization(mean, variance)
    if not entry.get("invert", default=False):
        return [layer]
    return [Rescaling(np.maximum(np.sqrt(variance), np.float32(1e-7)), mean)]


def _along(array: np.ndarray, axes: Sequence[int], rank: int) -> np.ndarray:
    """An array with its axes, the last one first, at those of an input."""
    if array.ndim > len(axes):
        return array
    spread = [1] * rank
    for place in range(1, array.ndim + 1):
        spread[axes[-place]] = array.shape[-place]
    return array.reshape(spread)


def _average(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Add(), Rescaling(np.array(1 / len(entry.sources), np.float32))]


def _concatenate(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    entry.require_last_axis(shape)
    return [Concatenate()]


def _plain(make: Callable[[], Layer]) -> Reader:
    return lambda entry, shape, weights: [make()]


def _activation_grid(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    zero_point = entry.get("zero_point")
    if not isinstance(zero_point, int) or isinstance(zero_point, bool):
        raise entry.error(f"zero_point must be a whole number, found {zero_point!r}")
    scale = entry.number("scale", default=None)
    return [ActivationGrid(scale, zero_point, entry.size("bits"))]


def _dropout(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return [Dropout(entry.number("rate", "p", default=0.5))]


def _nothing(entry: KerasLayer, shape: Shape, weights: WeightReader) -> list[Layer]:
    return []


Reader = Callable[[KerasLayer, Shape, WeightReader], list[Layer]]


class Kind(NamedTuple):
    """How layers of a class are read.

    Attributes
    ----------
    read : callable
        Gives the layers that compute what it computes, for an input shape.
    tensors : str
        What it reads: "images" (by its data_format), "lines" (one axis of places), "any" tensors,
        value by value, any as long as its axis is the last "axis" here, or all tensors as they lie
        in Keras ("last").
    arrays : tuple of str
        Names of its arrays besides the bias.
    """

    read: Reader
    tensors: str
    arrays: tuple[str, ...] = ()


KERNEL, KERNELS = ("kernel",), ("depthwise_kernel", "pointwise_kernel")
MERGING = ("Add", "Subtract", "Multiply", "Average", "Concatenate")
GRID = "netreduce>ActivationGrid"  # as Keras names classes that are not its own
ACTIVATION_LAYERS = ("ReLU", "LeakyReLU", "ELU", "Softmax", "ThresholdedReLU")

KINDS: dict[str, Kind] = {
    "Dense": Kind(_dense, "dense", KERNEL),
    "Conv2D": Kind(_conv, "images", KERNEL),
    "Convolution2D": Kind(_conv, "images", KERNEL),
    "DepthwiseConv2D": Kind(_depthwise, "images", KERNEL),
    "SeparableConv2D": Kind(_separable, "images", KERNELS),
    "Conv2DTranspose": Kind(_transposed, "images", KERNEL),
    "Conv1D": Kind(_conv, "lines", KERNEL),
    "Convolution1D": Kind(_conv, "lines", KERNEL),
    "DepthwiseConv1D": Kind(_depthwise, "lines", KERNEL),
    "SeparableConv1D": Kind(_separable, "lines", KERNELS),
    "Conv1DTranspose": Kind(_transposed, "lines", KERNEL),
    "BatchNormalization": Kind(_batch_normalization, "axis"),
    "Normalization": Kind(_normalization, "last"),
    "Rescaling": Kind(_rescaling, "last"),
    "MaxPooling2D": Kind(_pooling(MaxPooling2D), "images"),
    "AveragePooling2D": Kind(_pooling(AveragePooling2D), "images"),
    "GlobalAveragePooling2D": Kind(_global_pooling(GlobalAveragePooling2D), "images"),
    "GlobalMaxPooling2D": Kind(_global_pooling(GlobalMaxPooling2D), "images"),
    "MaxPooling1D": Kind(_pooling(MaxPooling2D), "lines"),
    "AveragePooling1D": Kind(_pooling(AveragePooling2D), "lines"),
    "GlobalAveragePooling1D": Kind(_global_pooling(GlobalAveragePooling2D), "lines"),
    "GlobalMaxPooling1D": Kind(_global_pooling(GlobalMaxPooling2D), "lines"),
    "ZeroPadding2D": Kind(
        lambda entry, shape, weights: [ZeroPadding2D(entry.sides("padding", default=1))], "images"
    ),
    "ZeroPadding1D": Kind(
        lambda entry, shape, weights: [ZeroPadding2D(entry.sides("padding", default=1))], "lines"
    ),
    "Cropping2D": Kind(
        lambda entry, shape, weights: [Cropping2D(entry.sides("cropping", default=0))], "images"
    ),
    "Cropping1D": Kind(
        lambda entry, shape, weights: [Cropping2D(entry.sides("cropping", default=1))], "lines"
    ),
    "UpSampling2D": Kind(_up_sampling, "images"),
    "UpSampling1D": Kind(_up_sampling, "lines"),
    "Flatten": Kind(_flatten, "flatten"),
    "Reshape": Kind(_reshape, "last"),
    "Permute": Kind(_permute, "last"),
    "Activation": Kind(lambda entry, shape, weights: [entry.activation()], "any"),
    "ReLU": Kind(_relu, "any"),
    "LeakyReLU": Kind(_leaky_relu, "any"),
    "ELU": Kind(_elu, "any"),
    "ThresholdedReLU": Kind(_thresholded_relu, "any"),
    "PReLU": Kind(_prelu, "any", ("alpha",)),
    "Softmax": Kind(_softmax, "axis"),
    "Add": Kind(_plain(Add), "any"),
    "Subtract": Kind(_plain(Subtract), "any"),
    "Multiply": Kind(_plain(Multiply), "any"),
    "Average": Kind(_average, "any"),
    "Concatenate": Kind(_concatenate, "axis"),
    GRID: Kind(_activation_grid, "any"),
    "Dropout": Kind(_dropout, "any"),
    "SpatialDropout1D": Kind(_dropout, "any"),
    "SpatialDropout2D": Kind(_dropout, "any"),
    "GaussianDropout": Kind(_dropout, "any"),
    "AlphaDropout": Kind(_dropout, "any"),
    **dict.fromkeys(
        (
            *("InputLayer", "Identity", "GaussianNoise", "ActivityRegularization", "RandomFlip"),
            *("RandomRotation", "RandomZoom", "RandomTranslation", "RandomContrast"),
            *("RandomBrightness", "RandomHeight", "RandomWidth"),
        ),
        Kind(_nothing, "any"),
    ),
}
