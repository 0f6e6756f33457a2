"""Networks described layer by layer, in the words of a configuration.

A description is a list; every entry is a word, or a word with its settings:

    [{conv: {filters: 16, kernel: 5, padding: 2}}, relu, {max_pool: 2}, flatten, {dense: 10}]

====================== ============================================================================
word                   settings (the one in brackets may stand alone); defaults
====================== ============================================================================
conv                   filters, kernel, strides 1, padding 0, dilation 1, groups 1, activation
depthwise_conv         [kernel], multiplier 1, strides 1, padding 0, dilation 1, activation
conv_transpose         filters, kernel, strides 1, padding 0, output_padding 0, activation
dense                  [units], activation
batch_norm             [epsilon]
max_pool               [size], strides (the size), padding 0
average_pool           [size], strides (the size), padding 0, count_padding
global_max_pool,       –
global_average_pool
flatten                –
dropout                [rate] 0.5
zero_padding, cropping [sides]: one number, or top, bottom, left, right
upsampling             [size], interpolation nearest (or bilinear)
reshape                [shape]: rows, columns, channels
prelu                  [alphas] channels (one for each channel) or 1
an activation's name   its parameters; leaky_relu [negative_slope], elu [alpha], relu [max_value]
====================== ============================================================================

`padding` is one number for all sides, two for rows and columns, four for top, bottom, left and
right, or "same".

What a description does not say is as in its framework:

=========================== ============ =======================================
\\                           torch        keras
=========================== ============ =======================================
epsilon of batch_norm       10⁻⁵         10⁻³
slope of leaky_relu         0.01         0.2 as an activation, as a layer 0.3: has
                                         to be said where it is an entry
count_padding               true         false
padding same with strides   refused      the odd pixel at the end
=========================== ============ =======================================
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from math import prod
from typing import Any

import numpy as np

from netreduce.errors import NetreduceError, ParameterError, ShapeError

from .activations import ACTIVATIONS, LEAKY_RELU_SLOPE, PARAMETERS
from .graph import INPUT
from .layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
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
    PReLU,
    Reshape,
    Shape,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)
from .layers.base import pair

FRAMEWORKS = ("keras", "torch")
EPSILON = {"keras": 1e-3, "torch": 1e-5}
SLOPE = {"keras": LEAKY_RELU_SLOPE, "torch": 0.01}
MAX_WEIGHTS = 1 << 28  # of one layer: 1 GiB


class Builder:
    """Collects layers; each reads the one before it unless told otherwise.

    Parameters
    ----------
    input_shape : tuple of int
    seed : int or None
        Draws the initial weights; zeros without a seed.
    framework : {"keras", "torch"}
        Whose conventions hold where nothing is said.

    Attributes
    ----------
    layers : list of Layer
    sources : list of tuple of int
    shapes : dict of int to tuple of int
        Output shapes, that of the input included.
    """

    def __init__(
        self, input_shape: Shape, seed: int | None = None, framework: str = "keras"
    ) -> None:
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.shapes: dict[int, Shape] = {INPUT: input_shape}
        self.framework = framework
        self._random = None if seed is None else np.random.default_rng(seed)

    def add_all(self, description: Sequence[object]) -> None:
        """Append the layers of a description.

        Raises
        ------
        ParameterError
            An entry that is not understood or does not fit: names it, what was found and what is
            allowed.
        """
        if isinstance(description, str) or not isinstance(description, Sequence) or not description:
            raise ParameterError(f"layers must be a list of layers, found {description!r}")
        for number, entry in enumerate(description, start=1):
            word, settings = _entry(number, entry)
            try:
                self._append(word, settings)
            except (NetreduceError, TypeError, ValueError, OverflowError) as error:
                raise ParameterError(f"layers: number {number} ({word}): {error}") from None

    def _append(self, word: str, settings: object) -> None:
        if word in ACTIVATIONS:
            self._activation(word, settings)
            return
        build, short = _WORDS[word]
        needed = _settings_of(build)
        chosen = _settings(settings, short, list(needed))
        missing = [name for name, must in needed.items() if must and name not in chosen]
        if missing:
            raise ParameterError(f"{', '.join(missing)} must be given")
        build(self, **chosen)

    def _activation(self, name: str, given: object) -> None:
        allowed = list(PARAMETERS.get(name, ()))
        settings = _settings(given, _SHORT_PARAMETERS.get(name), allowed)
        for key, value in settings.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ParameterError(f"{key} must be a number, found {value!r}")
        if name == "leaky_relu" and "negative_slope" not in settings:
            if self.framework == "keras":
                raise ParameterError(
                    "negative_slope must be given: Keras' activation has 0.2, its layer"
                    " LeakyReLU 0.3"
                )
            self.activate(name)
        else:
            self.add(Activation(name, **settings))

    def add(self, layer: Layer, *sources: int) -> int:
        """Append a layer; returns its index."""
        index = len(self.layers)
        sources = sources or (index - 1,)
        self.shapes[index] = layer.output_shape(*(self.shapes[source] for source in sources))
        self.layers.append(layer)
        self.sources.append(sources)
        return index

    def activate(self, name: str) -> int:
        """Append an activation as a layer."""
        slope = SLOPE[self.framework] if name == "leaky_relu" else LEAKY_RELU_SLOPE
        return self.add(Activation(name, slope))

    def activated(self, layer: Weighted, *sources: int) -> int:
        """Append a layer with weights, its activation behind it where that has other parameters
        than the activation of that name; returns the last index.
        """
        if layer.activation != "leaky_relu" or SLOPE[self.framework] == LEAKY_RELU_SLOPE:
            return self.add(layer, *sources)
        self.add(layer.replace(activation="linear"), *sources)
        return self.activate("leaky_relu")

    def dense(self, units: int, activation: str = "linear") -> int:
        (inputs,) = self.shape(1)
        return self.activated(
            Dense(self.kernel((inputs, units), activation), activation=activation)
        )

    def conv(
        self,
        filters: int,
        size: int | Sequence[int],
        activation: str = "linear",
        source: int | None = None,
        **settings: Any,
    ) -> int:
        source = len(self.layers) - 1 if source is None else source
        groups = settings.get("groups", 1)
        channels = self.shape(3, source)[2]
        if channels % groups:
            raise ShapeError(f"{channels} input channels cannot be cut into {groups} groups")
        kernel = self.kernel((*pair("kernel", size), channels // groups, filters), activation)
        return self.activated(Conv2D(kernel, activation=activation, **settings), source)

    def norm(self, epsilon: float | None = None) -> int:
        """Append batch normalization."""
        channels = self.channels()
        one, zero = np.ones(channels, np.float32), np.zeros(channels, np.float32)
        epsilon = EPSILON[self.framework] if epsilon is None else epsilon
        return self.add(BatchNormalization(one, zero, zero, one, epsilon))

    def channels(self) -> int:
        """Length of the last axis of the last layer's output."""
        channels = self.shape()[-1]
        if channels > MAX_WEIGHTS:
            raise ParameterError(f"{channels:,} channels are too many, allowed are {MAX_WEIGHTS:,}")
        return channels

    def flatten(self) -> None:
        """Append Flatten, unless the values are in one row already."""
        if len(self.shape()) > 1:
            self.add(Flatten())

    def shape(self, rank: int | None = None, source: int | None = None) -> Shape:
        """Output shape of a layer, by default the last one; ShapeError unless of that rank."""
        shape = self.shapes[len(self.layers) - 1 if source is None else source]
        if rank not in (None, len(shape)):
            raise ShapeError(f"expected {rank} axes, found {len(shape)}")
        return shape

    def kernel(self, shape: Shape, activation: str) -> np.ndarray:
        """Initial weights: uniform after He et al. (2015), after Glorot and Bengio (2010) in linear
        dense layers.
        """
        if prod(shape) > MAX_WEIGHTS:
            raise ParameterError(
                f"a layer with a kernel of shape {shape} is too large, allowed are {MAX_WEIGHTS:,}"
                " weights"
            )
        if self._random is None:
            return np.broadcast_to(np.float32(0), shape)  # takes no memory
        receptive = int(np.prod(shape[:-2]))
        inputs, outputs = receptive * shape[-2], receptive * shape[-1]
        limit = (
            np.sqrt(6 / (inputs + outputs))
            if activation == "linear" and len(shape) == 2
            else np.sqrt(6 / inputs)
        )
        return self._random.uniform(-limit, limit, shape).astype(np.float32)

    def padding(self, value: Any, strides: Any = 1) -> Any:
        """A padding as layers have it, of one as a description has it."""
        if value == "same" and self.framework == "torch" and np.max(strides) > 1:
            raise ParameterError(
                "PyTorch has no padding 'same' with strides: say how many rows and columns, or"
                " framework: keras"
            )
        if isinstance(value, str):
            return value
        if np.ndim(value) == 0:
            return (value,) * 4
        return tuple(np.repeat(value, 2)) if len(value) == 2 else tuple(value)


def first_units(description: object) -> int | None:
    """The units of the dense layer at the start of a description; None where another layer is."""
    entries = description if isinstance(description, list | tuple) else ()
    first = next((entry for entry in entries if entry != "flatten"), None)
    found = first.get("dense") if isinstance(first, Mapping) else None
    found = found.get("units") if isinstance(found, Mapping) else found
    return None if found is None else size("units", found)


def size(key: str, value: object) -> int:
    """A positive whole number, checked."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ParameterError(f"{key} must be a positive integer, found {value!r}")
    return int(value)


def sizes(key: str, values: object) -> Shape:
    """A list of positive whole numbers, checked."""
    if isinstance(values, str) or not isinstance(values, Sequence) or not values:
        raise ParameterError(f"{key} must be a list of positive integers, found {values!r}")
    return tuple(size(key, value) for value in values)


def activation(key: str, value: object) -> str:
    """The name of an activation, checked."""
    if not isinstance(value, str) or value not in ACTIVATIONS:
        raise ParameterError(f"{key} must be one of {', '.join(ACTIVATIONS)}, found {value!r}")
    return value


def _entry(number: int, entry: object) -> tuple[str, object]:
    """The word of an entry, and its settings."""
    if isinstance(entry, Mapping) and len(entry) == 1:
        ((word, settings),) = entry.items()
    else:
        word, settings = entry, {}
    if not isinstance(word, str) or word not in (*_WORDS, *ACTIVATIONS):
        raise ParameterError(
            f"layers: number {number} is {entry!r}, expected one of {', '.join(_WORDS)}, or an"
            f" activation ({', '.join(ACTIVATIONS)}), alone or with settings"
        )
    return word, settings


@cache
def _settings_of(build: Callable[..., None]) -> dict[str, bool]:
    """Names of the settings of a word, and whether they must be given."""
    _, *parameters = inspect.signature(build).parameters.values()
    return {found.name: found.default is found.empty for found in parameters}


def _settings(settings: object, short: str | None, allowed: list[str]) -> dict[str, Any]:
    """Settings as a mapping, all of their names known."""
    if not isinstance(settings, Mapping):
        if short is None:
            raise ParameterError(f"settings must be a mapping, found {settings!r}")
        settings = {short: settings}
    for key in settings:
        if key not in allowed:
            expected = f"expected one of {', '.join(allowed)}" if allowed else "it has none"
            raise ParameterError(f"unknown setting {key!r}, {expected}")
    return dict(settings)


def _conv(
    builder: Builder,
    filters: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
    activation: Any = "linear",
) -> None:
    builder.conv(
        size("filters", filters),
        _kernel_size(kernel),
        _activation_name(activation),
        strides=strides,
        padding=builder.padding(padding, strides),
        dilation=dilation,
        groups=size("groups", groups),
    )


def _depthwise_conv(
    builder: Builder,
    kernel: Any,
    multiplier: Any = 1,
    strides: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    activation: Any = "linear",
) -> None:
    shape = (*_kernel_size(kernel), builder.shape(3)[2], size("multiplier", multiplier))
    activation = _activation_name(activation)
    builder.activated(
        DepthwiseConv2D(
            # a channel of the output reads one of the input
            builder.kernel((*shape[:2], 1, shape[2] * shape[3]), activation).reshape(shape),
            activation=activation,
            strides=strides,
            padding=builder.padding(padding, strides),
            dilation=dilation,
        )
    )


def _conv_transpose(
    builder: Builder,
    filters: Any,
    kernel: Any,
    strides: Any = 1,
    padding: Any = 0,
    output_padding: Any = None,
    activation: Any = "linear",
) -> None:
    activation = _activation_name(activation)
    shape = (*_kernel_size(kernel), builder.shape(3)[2], size("filters", filters))
    builder.activated(
        Conv2DTranspose(
            builder.kernel(shape, activation).swapaxes(2, 3),
            activation=activation,
            strides=strides,
            padding=builder.padding(padding, strides),
            output_padding=output_padding,
        )
    )


def _dense(builder: Builder, units: Any, activation: Any = "linear") -> None:
    builder.dense(size("units", units), _activation_name(activation))


def _batch_norm(builder: Builder, epsilon: Any = None) -> None:
    builder.norm(None if epsilon is None else positive("epsilon", epsilon))


def positive(key: str, value: object) -> float:
    """A positive number, checked."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < np.inf:
        raise ParameterError(f"{key} must be a positive number, found {value!r}")
    return float(value)


def _max_pool(builder: Builder, size: Any, strides: Any = None, padding: Any = 0) -> None:
    builder.add(MaxPooling2D(size, strides, builder.padding(padding, strides or size)))


def _average_pool(
    builder: Builder, size: Any, strides: Any = None, padding: Any = 0, count_padding: Any = None
) -> None:
    counted = builder.framework == "torch" if count_padding is None else count_padding
    padding = builder.padding(padding, strides or size)
    builder.add(AveragePooling2D(size, strides, padding, count_padding=bool(counted)))


def _prelu(builder: Builder, alphas: Any = "channels") -> None:
    if alphas not in ("channels", 1):
        raise ParameterError(f"alphas must be channels or 1, found {alphas!r}")
    # 0.25 before training, as in He et al. (2015)
    count = builder.channels() if alphas == "channels" else 1
    builder.add(PReLU(np.full(count, 0.25, np.float32)))


def _dropout(builder: Builder, rate: Any = 0.5) -> None:
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate < 1:
        raise ParameterError(f"rate must be in [0, 1), found {rate!r}")
    builder.add(Dropout(float(rate)))


def _kernel_size(value: Any) -> tuple[int, int]:
    values = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(values) != 2:
        raise ParameterError(f"kernel must be one or two positive integers, found {value!r}")
    return size("kernel", values[0]), size("kernel", values[1])


def _activation_name(value: object) -> str:
    return activation("activation", value)


# Word → what it appends, and the setting that may stand alone.
_WORDS: dict[str, tuple[Callable[..., object], str | None]] = {
    "conv": (_conv, None),
    "depthwise_conv": (_depthwise_conv, "kernel"),
    "conv_transpose": (_conv_transpose, None),
    "dense": (_dense, "units"),
    "batch_norm": (_batch_norm, "epsilon"),
    "max_pool": (_max_pool, "size"),
    "average_pool": (_average_pool, "size"),
    "global_max_pool": (lambda builder: builder.add(GlobalMaxPooling2D()), None),
    "global_average_pool": (lambda builder: builder.add(GlobalAveragePooling2D()), None),
    "flatten": (lambda builder: builder.add(Flatten()), None),
    "dropout": (_dropout, "rate"),
    "zero_padding": (lambda builder, sides: builder.add(ZeroPadding2D(sides)), "sides"),
    "cropping": (lambda builder, sides: builder.add(Cropping2D(sides)), "sides"),
    "upsampling": (
        lambda builder, size, interpolation="nearest": builder.add(
            UpSampling2D(size, interpolation)
        ),
        "size",
    ),
    "reshape": (lambda builder, shape: builder.add(Reshape(shape)), "shape"),
    "prelu": (_prelu, "alphas"),
}
_SHORT_PARAMETERS = {"leaky_relu": "negative_slope", "elu": "alpha", "relu": "max_value"}
