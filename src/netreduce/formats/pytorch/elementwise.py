"""PyTorch's activations and arithmetic, as layers."""

import math
from collections.abc import Sequence

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.formats.rearranged import far
from netreduce.network.layers import Activation, Add, Dropout, Layer, Multiply, PReLU, Subtract

from .arguments import Arguments, Operator, axis_of
from .values import Builder, Value


def _activation(name: str, **options: object) -> Operator:
    """An activation by its name here; `options` are arguments that must have these values."""

    def operator(builder: Builder, arguments: Arguments) -> Value:
        for option, value in options.items():
            arguments.expect(option, value)
        return _elementwise(builder, arguments.x, Activation(name))

    return operator


def _elementwise(builder: Builder, x: Value, layer: Layer) -> Value:
    return Value(builder.emit(layer, x.layer), x.places)


def _leaky_relu(builder: Builder, arguments: Arguments) -> Value:
    slope = arguments.get("negative_slope", 0.01)
    return _elementwise(builder, arguments.x, Activation("leaky_relu", slope))


def _elu(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("scale", 1)
    arguments.expect("input_scale", 1)
    alpha = float(arguments.get("alpha", 1.0))
    return _elementwise(builder, arguments.x, Activation("elu", alpha=alpha))


def _gelu(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("approximate", "none", "tanh")
    name = "gelu_tanh" if arguments.get("approximate") == "tanh" else "gelu"
    return _elementwise(builder, arguments.x, Activation(name))


def _prelu(builder: Builder, arguments: Arguments) -> Value:
    x, weight = arguments.x, arguments.constant("weight")
    alpha = weight.reshape(-1, *(1,) * (x.places.ndim - 1))
    return _elementwise(builder, x, PReLU(builder.spread(x, alpha, 0)))


def _clamp(builder: Builder, arguments: Arguments) -> Value:
    return _clipped(builder, arguments.x, arguments.get("min"), arguments.get("max"))


def _hardtanh(builder: Builder, arguments: Arguments) -> Value:
    low, high = arguments.get("min_val", -1.0), arguments.get("max_val", 1.0)
    return _clipped(builder, arguments.x, low, high)


def _clipped(builder: Builder, x: Value, low: object, high: object) -> Value:
    """Between two numbers, of which one may be missing: a relu with a ceiling, shifted."""
    least, most = _limit(low, -math.inf), _limit(high, math.inf)
    if least is None and most is None:
        return x
    if least is None and far(-math.inf, most or 0.0):
        return _halves(builder, x, None, most)
    if least is None:  # −max(−x, −high)
        x = _clipped(builder, builder.scaled(x, -1), -(most or 0.0), None)
        return builder.scaled(x, -1)
    if least == 0:
        layer = Activation("relu6") if most == 6 else Activation("relu", max_value=most)
        return _elementwise(builder, x, layer)
    if far(least, math.inf if most is None else most):
        return _halves(builder, x, -least, most)
    x = builder.scaled(x, offset=-least)
    x = _clipped(builder, x, 0.0, None if most is None else most - least)
    return builder.scaled(x, offset=least)


def _halves(builder: Builder, x: Value, below: float | None, above: float | None) -> Value:
    """x, at most so far below and above 0, its positive and its negative part by themselves."""
    positive = _elementwise(builder, x, Activation("relu", max_value=above))
    negative = _elementwise(builder, builder.scaled(x, -1), Activation("relu", max_value=below))
    return _joined(builder, Subtract(), [positive, negative])


def _limit(value: object, none: float) -> float | None:
    if value is None or (isinstance(value, float) and value == none):
        return None
    if isinstance(value, int | float):
        return float(value)
    raise UnsupportedLayerError("its limits depend on the input, or differ between elements")


def _softmax(name: str) -> Operator:
    def operator(builder: Builder, arguments: Arguments) -> Value:
        x = arguments.x
        axis = axis_of(arguments.get("dim"), x)
        last = builder.arranged(x.layer, np.moveaxis(x.places, axis, -1))
        index = builder.emit(Activation(name), last)
        return Value(index, np.moveaxis(builder.whole(index), -1, axis))

    return operator


def _dropout(builder: Builder, arguments: Arguments) -> Value:
    x = _without_dropout(builder, arguments)
    rate = arguments.get("p", 0.5)
    return _elementwise(builder, x, Dropout(rate)) if 0 < rate < 1 else x


def _without_dropout(builder: Builder, arguments: Arguments) -> Value:
    """Dropout of whole channels, or of other kinds, which does nothing at inference."""
    if arguments.get("train", False):
        raise UnsupportedLayerError("dropout in training: export the module in evaluation mode")
    return arguments.x


def _sum(builder: Builder, arguments: Arguments) -> Value:
    return _combined(builder, arguments, Add(), 1)


def _difference(builder: Builder, arguments: Arguments) -> Value:
    return _combined(builder, arguments, Subtract(), -1)


def _reversed_difference(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("alpha", 1)
    return builder.scaled(arguments.x, -1, _number(arguments.get("other"), arguments.x))


def _combined(builder: Builder, arguments: Arguments, layer: Layer, sign: int) -> Value:
    """x + sign · alpha · other."""
    x, other = arguments.get("self"), arguments.get("other")
    alpha = arguments.get("alpha", 1)
    if isinstance(x, Value) and isinstance(other, Value):
        if alpha != 1:
            other = builder.scaled(other, alpha)
        if x.shape != other.shape:
            raise UnsupportedLayerError(
                f"shapes {x.shape} and {other.shape} differ: only equal ones can be added"
            )
        return _joined(builder, layer, [x, other])
    if isinstance(x, Value):
        return builder.scaled(x, 1, sign * alpha * _number(other, x))
    return builder.scaled(other, sign * alpha, _number(x, other))


def _multiplication(builder: Builder, arguments: Arguments) -> Value:
    x, other = arguments.get("self"), arguments.get("other")
    if isinstance(x, Value) and isinstance(other, Value):
        if x.places.ndim != other.places.ndim:
            raise UnsupportedLayerError(
                f"a product of shapes {x.shape} and {other.shape} is not supported"
            )
        return _joined(builder, Multiply(), [_once(x), _once(other)])
    value, constant = (x, other) if isinstance(x, Value) else (other, x)
    return builder.scaled(value, _number(constant, value))


def _gated(builder: Builder, arguments: Arguments) -> Value:
    x, axis = arguments.x, axis_of(arguments.get("dim", -1), arguments.x)
    kept, gate = (x.moved(half) for half in np.split(x.places, 2, axis))
    return _joined(builder, Multiply(), [kept, _elementwise(builder, gate, Activation("sigmoid"))])


def _once(value: Value) -> Value:
    """A value without the copies that it was expanded to: a product makes them itself."""
    copied = [stride == 0 for stride in value.places.strides]
    return value.moved(value.places[tuple(slice(1 if copy else None) for copy in copied)])


def _division(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("rounding_mode", None)
    x, other = arguments.x, arguments.get("other")
    if isinstance(other, Value):
        raise UnsupportedLayerError("a quotient of two values is not supported")
    return builder.scaled(x, 1 / _number(other, x))


def _negative(builder: Builder, arguments: Arguments) -> Value:
    return builder.scaled(arguments.x, -1)


def _joined(builder: Builder, layer: Layer, values: Sequence[Value]) -> Value:
    """A layer of several values, element by element."""
    first = values[0]
    shape = builder.shapes[first.layer]
    if all(
        builder.shapes[value.layer] == shape and np.array_equal(value.places, first.places)
        for value in values
    ):
        index = builder.emit(layer, *(value.layer for value in values))
        return Value(index, first.places)
    result = np.broadcast_shapes(*(value.shape for value in values))
    if first.places.ndim in (2, 3):
        return builder.like(builder.emit(layer, *map(builder.image, values)), result)
    sources = [builder.arranged(value.layer, value.places) for value in values]
    index = builder.emit(layer, *sources)
    return Value(index, builder.whole(index))


def _number(constant: np.ndarray | float, value: Value) -> np.ndarray:
    """A constant in float32 (float64 stays), without the axis of the batch."""
    array = np.asarray(constant)
    if isinstance(constant, int | float) or array.dtype != np.float64:
        array = array.astype(np.float32)
    if array.ndim == value.places.ndim + 1:
        if array.shape[0] != 1:
            raise UnsupportedLayerError("a constant differs between the samples of a batch")
        array = array[0]
    return array


ELEMENTWISE: dict[str, Operator] = {
    **{name: _activation(name) for name in ("relu", "relu6", "sigmoid", "tanh", "silu", "selu")},
    "mish": _activation("mish"),
    "exp": _activation("exponential"),
    "softplus": _activation("softplus", beta=1, threshold=20),
    "hardswish": _activation("hard_swish"),
    "hardsigmoid": _activation("hard_sigmoid"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    **dict.fromkeys(("prelu", "_prelu_kernel"), _prelu),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamp),
    "hardtanh": _hardtanh,
    **dict.fromkeys(("softmax", "_softmax"), _softmax("softmax")),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _softmax("log_softmax")),
    "dropout": _dropout,
    **dict.fromkeys(("feature_dropout", "alpha_dropout", "native_dropout"), _without_dropout),
    "add": _sum,
    "sub": _difference,
    "rsub": _reversed_difference,
    "mul": _multiplication,
    "div": _division,
    "neg": _negative,
    "glu": _gated,
}
