"""Architectures by name or layer by layer: networks whose weights are still to be trained or read.

An architecture is a dict such as ``{"name": "mlp", "hidden": [500, 300]}``; a string is short for
``{"name": string}``. ``{"layers": [...]}`` describes a network layer by layer, in the words of
`netreduce.network.description`.

=============== ==================================== ===============================================
name            keys                                 network
=============== ==================================== ===============================================
mlp             hidden ([500, 300]),                 Dense layers; batch normalization, if any,
                activation ("relu"),                 before the activation
                batch_norm (false), epsilon
lenet5          activation ("relu")                  LeNet-5 with max pooling
vgg-small       epsilon                              32-32-64-64-128-128 3×3 convolutions, batch
                                                     normalization after each ReLU, Dense 128
resnet20,       epsilon, shortcut ("B"),             residual networks for 32×32 images (He et al.,
resnet32,       reduce, zeros                        2016, §4.2), see below
resnet44,
resnet56
vgg16, vgg19    –                                    as in keras.applications
=============== ==================================== ===============================================

All end in linear logits. An architecture may hold `input_shape` and `classes` where no dataset says
them, and `framework`, whose conventions hold where the architecture says nothing:

========================== ================== ==================
\\                          keras              torch
========================== ================== ==================
epsilon                    0.001              0.00001
slope of leaky_relu        0.2                0.01
3×3 convolutions with      padding (0, 1):    padding (1, 1)
strides 2 in a resnet      Keras' "same"
========================== ================== ==================

Networks trained by this project have the conventions of Keras in both frameworks. Whoever reads
weights that were trained in PyTorch says "torch".

The shortcuts of a resnet across a change of size are projections with option "B" (a 1×1 convolution
with strides 2 and batch normalization). Option "A" has no weights, and programs differ: `reduce`
says how the image gets smaller ("stride": every second pixel, "average": means of 2×2), `zeros`
where the channels of zeros are added ("both": half of them at each end, "end").
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from netreduce.errors import ParameterError, ShapeError

from .description import FRAMEWORKS, Builder, activation, first_units, positive, size, sizes
from .graph import INPUT, Network
from .layers import (
    Activation,
    Add,
    AveragePooling2D,
    Dropout,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    Reshape,
    Shape,
    ZeroPadding2D,
)

Description: TypeAlias = Mapping[str, Any] | str


def build(
    architecture: Description,
    input_shape: Sequence[int],
    classes: int | None,
    seed: int | None = None,
    framework: str = "keras",
) -> Network:
    """A network of that architecture.

    Parameters
    ----------
    architecture : mapping or str
        See the table above.
    input_shape : tuple of int
        Shape of one sample: (height, width, channels), or (inputs,) for an mlp.
    classes : int or None
        Number of outputs. A network described layer by layer has those it has: they are compared,
        unless this is None.
    seed : int, optional
        Draws the initial weights: uniform after He et al. (2015), after Glorot and Bengio (2010) in
        the last layer. Zeros without a seed.
    framework : {"keras", "torch"}
        Whose conventions hold where the architecture names none.

    Raises
    ------
    ParameterError
        Unknown architecture or key, or a value out of range: names it and what is allowed.

    Examples
    --------
    >>> layers = [{"conv": {"filters": 4, "kernel": 3, "padding": 1}}, "relu", "flatten",
    ...           {"dense": 10}]
    >>> build({"layers": layers}, (8, 8, 1), classes=10).shapes
    ((8, 8, 4), (8, 8, 4), (256,), (10,))
    """
    given, framework = _framework(architecture, framework)
    builder = Builder(sizes("input_shape", input_shape), seed, framework)
    if "layers" in given:
        _check_keys("an architecture with layers", given, ("layers",))
        builder.add_all(given["layers"])
        found = builder.shape()
        if classes is not None and found != (size("classes", classes),):
            raise ParameterError(
                f"layers: the last one gives outputs of shape {found}, expected ({classes},)"
            )
    else:
        name, parameters = _validated(given)
        try:
            _ARCHITECTURES[name].construct(builder, size("classes", classes), **parameters)
        except ShapeError as error:
            raise ParameterError(
                f"architecture {name!r} does not fit inputs of shape {tuple(input_shape)}: {error}"
            ) from None
    return Network(builder.layers, builder.shapes[INPUT], builder.sources)


def template(
    architecture: Network | Description,
    tensor_sizes: Sequence[int] | None = None,
    framework: str = "keras",
) -> Network:
    """A network to be filled with tensors read from a file.

    Parameters
    ----------
    architecture : Network, mapping or str
        A network is returned as it is; a mapping may hold `input_shape`, `classes` and `framework`.
    tensor_sizes : sequence of int, optional
        Number of values of every tensor, in order; says the classes and an mlp's number of inputs
        where the architecture does not.
    framework : {"keras", "torch"}
        Of the program that trained the weights.
    """
    if isinstance(architecture, Network):
        return architecture
    given, framework = _framework(architecture, framework)
    classes, input_shape = given.pop("classes", None), given.pop("input_shape", None)
    if input_shape is None:
        input_shape = _usual_input_shape(given, tensor_sizes)
    if classes is None and "name" in given:
        name, _ = _validated(given)
        classes = tensor_sizes[-1] if tensor_sizes else _ARCHITECTURES[name].classes
    return build(given, input_shape, classes, framework=framework)


def _usual_input_shape(given: Mapping[str, Any], tensor_sizes: Sequence[int] | None) -> Shape:
    """The input shape that an architecture has where none is given."""
    if "layers" in given:
        units, what = first_units(given["layers"]), "an architecture with layers"
    else:
        name, parameters = _validated(given)
        usual = _ARCHITECTURES[name].input_shape
        if usual is not None:
            return usual
        units, what = parameters["hidden"][0], f"architecture {name!r}"
    if units is None or not tensor_sizes:
        raise ParameterError(f"{what}: input_shape is needed")
    return (max(1, tensor_sizes[0] // units),)


def _framework(architecture: object, framework: str) -> tuple[dict[str, Any], str]:
    """The architecture as a dict without its framework, and the framework that holds."""
    given = {"name": architecture} if isinstance(architecture, str) else architecture
    if not isinstance(given, Mapping) or ("name" in given) == ("layers" in given):
        raise ParameterError(
            "an architecture is a name, a mapping with the key 'name', or one with the key"
            f" 'layers', found {architecture!r}"
        )
    given = dict(given)
    framework = given.pop("framework", framework)
    if framework not in FRAMEWORKS:
        raise ParameterError(
            f"framework must be one of {', '.join(FRAMEWORKS)}, found {framework!r}"
        )
    return given, framework


def _mlp(
    builder: Builder,
    classes: int,
    hidden: Shape,
    activation: str,
    batch_norm: bool,
    epsilon: float | None,
) -> None:
    builder.flatten()
    for units in hidden:
        if batch_norm:
            builder.dense(units)
            builder.norm(epsilon)
            builder.activate(activation)
        else:
            builder.dense(units, activation)
    builder.dense(classes)


def _lenet5(builder: Builder, classes: int, activation: str) -> None:
    builder.conv(6, 5, activation, padding="same")
    builder.add(MaxPooling2D((2, 2)))
    builder.conv(16, 5, activation)
    builder.add(MaxPooling2D((2, 2)))
    builder.flatten()
    builder.dense(120, activation)
    builder.dense(84, activation)
    builder.dense(classes)


def _vgg_small(builder: Builder, classes: int, epsilon: float | None) -> None:
    for filters, rate in ((32, 0.2), (64, 0.3), (128, 0.4)):
        for _ in range(2):
            builder.conv(filters, 3, "relu", padding="same")
            builder.norm(epsilon)
        builder.add(MaxPooling2D((2, 2)))
        builder.add(Dropout(rate))
    builder.flatten()
    builder.dense(128, "relu")
    builder.norm(epsilon)
    builder.add(Dropout(0.5))
    builder.dense(classes)


def _resnet(blocks: int) -> Callable[..., None]:
    """Three stages of so many blocks of two convolutions, with 16, 32 and 64 channels."""

    def construct(
        builder: Builder,
        classes: int,
        epsilon: float | None,
        shortcut: str,
        reduce: str | None,
        zeros: str | None,
    ) -> None:
        _check_shortcut(shortcut, reduce, zeros)
        smaller = "same" if builder.framework == "keras" else (1, 1, 1, 1)
        builder.conv(16, 3, padding="same")
        builder.norm(epsilon)
        block_input = builder.add(Activation("relu"))
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(blocks):
                strides = 2 if stage and not block else 1
                padding = "same" if strides == 1 else smaller
                builder.conv(filters, 3, strides=strides, padding=padding)
                builder.norm(epsilon)
                builder.add(Activation("relu"))
                builder.conv(filters, 3, padding="same")
                branch = builder.norm(epsilon)
                across = block_input
                if strides == 2 and shortcut == "B":
                    builder.conv(filters, 1, strides=2, padding="same", source=block_input)
                    across = builder.norm(epsilon)
                elif strides == 2:
                    across = _identity(builder, block_input, filters, reduce, zeros)
                builder.add(Add(), branch, across)
                block_input = builder.add(Activation("relu"))
        builder.add(GlobalAveragePooling2D())
        builder.dense(classes)

    return construct


def _identity(
    builder: Builder, source: int, filters: int, reduce: str | None, zeros: str | None
) -> int:
    """A shortcut without weights: a smaller image, and channels of zeros, which are columns of
    zeros beside the channels of every pixel.
    """
    pooling: Layer = (
        MaxPooling2D((1, 1), (2, 2)) if reduce == "stride" else AveragePooling2D((2, 2))
    )
    rows, columns, channels = builder.shapes[builder.add(pooling, source)]
    added = filters - channels
    before = added // 2 if zeros == "both" else 0
    builder.add(Reshape((rows * columns, channels, 1)))
    builder.add(ZeroPadding2D((0, 0, before, added - before)))
    return builder.add(Reshape((rows, columns, filters)))


def _check_shortcut(shortcut: str, reduce: str | None, zeros: str | None) -> None:
    if shortcut == "B" and (reduce, zeros) != (None, None):
        raise ParameterError("reduce and zeros are settings of shortcut A, found shortcut B")
    if shortcut == "A" and None in (reduce, zeros):
        raise ParameterError(
            "shortcut A needs reduce: stride (every second pixel) or average (means of 2×2), and"
            " zeros: both (half of the added channels at each end) or end; programs differ"
        )


def _vgg(depths: Shape) -> Callable[..., None]:
    def construct(builder: Builder, classes: int) -> None:
        for depth, filters in zip(depths, (64, 128, 256, 512, 512), strict=True):
            for _ in range(depth):
                builder.conv(filters, 3, "relu", padding="same")
            builder.add(MaxPooling2D((2, 2)))
        builder.flatten()
        builder.dense(4096, "relu")
        builder.dense(4096, "relu")
        builder.dense(classes)

    return construct


@dataclass(frozen=True)
class _Architecture:
    construct: Callable[..., None]
    parameters: Mapping[str, object]
    input_shape: Shape | None
    classes: int


_RESNET: dict[str, object] = {"epsilon": None, "shortcut": "B", "reduce": None, "zeros": None}
_ARCHITECTURES = {
    "mlp": _Architecture(
        _mlp,
        {"hidden": (500, 300), "activation": "relu", "batch_norm": False, "epsilon": None},
        None,
        10,
    ),
    "lenet5": _Architecture(_lenet5, {"activation": "relu"}, (28, 28, 1), 10),
    "vgg-small": _Architecture(_vgg_small, {"epsilon": None}, (32, 32, 3), 10),
    **{
        f"resnet{6 * blocks + 2}": _Architecture(_resnet(blocks), _RESNET, (32, 32, 3), 10)
        for blocks in (3, 5, 7, 9)
    },
    "vgg16": _Architecture(_vgg((2, 2, 3, 3, 3)), {}, (224, 224, 3), 1000),
    "vgg19": _Architecture(_vgg((2, 2, 4, 4, 4)), {}, (224, 224, 3), 1000),
}


def _validated(given: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Name and parameters of a named architecture, every parameter checked and none left out."""
    name = given["name"]
    if not isinstance(name, str) or name not in _ARCHITECTURES:
        raise ParameterError(
            f"unknown architecture {name!r}, expected one of {', '.join(_ARCHITECTURES)}, or a"
            " mapping with the key 'layers'"
        )
    parameters = dict(_ARCHITECTURES[name].parameters)
    _check_keys(f"architecture {name!r}", given, ("name", *parameters))
    for key, value in given.items():
        if key != "name":
            parameters[key] = _CHECKS[key](key, value)
    return name, parameters


def _check_keys(what: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise ParameterError(
                f"{what}: unknown key {key!r}, expected one of {', '.join((*known, 'framework'))}"
            )


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ParameterError(f"{key} must be true or false, found {value!r}")
    return value


def _one_of(*words: str) -> Callable[[str, object], object]:
    def check(key: str, value: object) -> object:
        if value not in words:
            raise ParameterError(f"{key} must be {' or '.join(words)}, found {value!r}")
        return value

    return check


_CHECKS: dict[str, Callable[[str, object], object]] = {
    "hidden": sizes,
    "activation": activation,
    "batch_norm": _flag,
    "epsilon": positive,
    "shortcut": _one_of("A", "B"),
    "reduce": _one_of("stride", "average"),
    "zeros": _one_of("both", "end"),
}
