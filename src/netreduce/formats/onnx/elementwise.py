"""Functions of single elements, and of several tensors element by element."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.rearranged import far, numbered
from netreduce.network.layers import (
    Activation,
    Add,
    Layer,
    Multiply,
    PReLU,
    Subtract,
    Weighted,
)

from .constants import Constant
from .graph import Curve, Graph, Node, Operator, Tensor, Value


def joined(graph: Graph, layer: Layer, *tensors: Tensor) -> Tensor:
    """Layers that join tensors of one shape value by value, or, Multiply, that repeats axes of
    length 1.
    """
    first = max(tensors, key=lambda x: (x.order.size, x.order.ndim))
    rank = first.order.ndim
    if not isinstance(layer, Multiply) and any(x.shape != first.shape for x in tensors):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise UnsupportedLayerError(f"inputs of different shapes are not supported, found {shapes}")
    if all(
        np.array_equal(x.order, first.order) and graph.shapes[x.layer] == graph.shapes[first.layer]
        for x in tensors
    ):
        return Tensor(graph.emit(layer, *(x.layer for x in tensors)), first.order)
    axes = graph.channels_last(first)
    sources = []
    for x in tensors:
        order = x.order.reshape((1,) * (rank - x.order.ndim) + x.shape)
        order = (order[0] if first.has_batch else order).transpose(axes)
        while isinstance(layer, Multiply) and order.ndim > 1 and order.shape[0] == 1:
            order = order[0]
        sources.append(graph.arranged(x.layer, order))
    out = graph.emit(layer, *sources)
    order = numbered(graph.shapes[out]).transpose(np.argsort(axes))
    return Tensor(out, order[None] if first.has_batch else order)


def _curve(
    function: Callable[..., np.ndarray], layers: Callable[[Graph, Node], Tensor]
) -> Operator:
    """A function of one activation and of numbers."""

    def curve(graph: Graph, node: Node) -> Value:
        values = [value for value in node.inputs if value is not None]
        roots, parts, nodes, reads = [], [], 1, 0
        for value in values:
            if isinstance(value, Constant):
                parts.append(_always(value.array))
            elif isinstance(value, Curve) and value.readers == 1:
                roots.append(value.root)
                parts.append(value.function)
                nodes, reads = nodes + value.nodes, reads + value.reads
            else:
                roots.append(graph.made(value))
                parts.append(_itself)
                reads += 1
        numbers = all(value.array.size == 1 for value in values if isinstance(value, Constant))
        alike = all(a.layer == b.layer and a.order is b.order for a, b in pairwise(roots))
        if not numbers or not alike or nodes > 16:
            return layers(graph, node)
        return Curve(
            roots[0],
            lambda x: function(node, *(part(x) for part in parts)),
            node.title,
            lambda: layers(graph, node),
            nodes,
            reads,
        )

    return curve


def _itself(x: np.ndarray) -> np.ndarray:
    return x


def _always(array: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    number = array.reshape(-1)[:1].astype(np.float64)
    return lambda x: number


def _sum(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    out = joined(graph, Add(), *tensors) if len(tensors) > 1 else tensors[0]
    for constant in constants:
        out = graph.shifted(out, constant)
    return out


def _difference(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants:
        return joined(graph, Subtract(), *tensors)
    if isinstance(node.inputs[1], Constant):
        return graph.shifted(tensors[0], -constants[0])
    return graph.shifted(graph.scaled(tensors[0], np.array(-1, np.float32)), constants[0])


def _times(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants:
        return joined(graph, Multiply(), *tensors)
    return graph.scaled(tensors[0], constants[0])


def _quotient(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants or not isinstance(node.inputs[1], Constant):
        raise UnsupportedLayerError("dividing by an activation is not supported")
    return graph.divided(tensors[0], constants[0])


def _kinds(graph: Graph, node: Node) -> tuple[list[np.ndarray], list[Tensor]]:
    values = [value for value in node.inputs if value is not None]
    constants = [value.array for value in values if isinstance(value, Constant)]
    tensors = [graph.made(value) for value in values if not isinstance(value, Constant)]
    rank = max((array.ndim for array in constants), default=0)
    if len(tensors) == 1 and rank > tensors[0].order.ndim:
        (x,) = tensors
        tensors = [replace(x, order=x.order.reshape((1,) * (rank - x.order.ndim) + x.shape))]
    return constants, tensors


def _scaler(graph: Graph, node: Node) -> Tensor:
    """scikit-learn's StandardScaler: (x − offset) · scale."""
    offset, scale = (np.array(node.attributes[name], np.float32) for name in ("offset", "scale"))
    return graph.scaled(graph.shifted(graph.made(node.first), -offset), scale)


def _negative(graph: Graph, node: Node) -> Tensor:
    return graph.scaled(graph.made(node.first), np.array(-1, np.float32))


def _only_inside(graph: Graph, node: Node) -> Tensor:
    raise UnsupportedLayerError("supported only as a part of gelu, silu, softsign and their like")


def _clip(graph: Graph, node: Node) -> Tensor:
    low, high = _limits(node)
    return _between(graph, graph.made(node.first), low, high)


def _limits(node: Node) -> tuple[float, float]:
    bounds = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        array = node.constant(index)
        value = node.attributes.get(name, default) if array is None else array
        if np.size(value) != 1:
            raise UnsupportedLayerError(f"{name} must be one number")
        value = _decimal(float(np.reshape(value, ())))
        bounds.append(default if abs(value) >= np.finfo(np.float32).max else value)
    return bounds[0], bounds[1]


def _extreme(graph: Graph, node: Node) -> Tensor:
    """Min and Max with one number."""
    constants, tensors = _kinds(graph, node)
    if len(tensors) != 1 or len(constants) != 1 or constants[0].size != 1:
        raise UnsupportedLayerError("supported with one activation and one number only")
    number = float(constants[0].reshape(()))
    low, high = (number, np.inf) if node.operator == "Max" else (-np.inf, number)
    return _between(graph, tensors[0], low, high)


def _between(graph: Graph, x: Tensor, low: float, high: float) -> Tensor:
    """x, at least the first and at most the second number."""

    def number(value: float) -> np.ndarray:
        return np.array(value, np.float32)

    if low > high:
        raise UnsupportedLayerError(f"the lower limit {low} is above the upper one {high}")
    if low == 0:
        if high == 6:
            return graph.activation(x, Activation("relu6"))
        most = None if high == np.inf else high
        return graph.activation(x, Activation("relu", max_value=most))
    if low == -np.inf and high == np.inf:
        return x
    if far(low, high):
        return _halves(graph, x, low, high)
    if low == -np.inf:
        layer = graph.own(x)
        if isinstance(layer, Weighted) and layer.activation == "relu" and high == 6:
            graph.layers[x.layer] = layer.replace(activation="relu6")
            return x
        x = graph.shifted(graph.scaled(x, number(-1)), number(high))
        x = graph.activation(x, Activation("relu"))
        return graph.shifted(graph.scaled(x, number(-1)), number(high))
    most = None if high == np.inf else high - low
    x = graph.shifted(x, number(-low))
    return graph.shifted(graph.activation(x, Activation("relu", max_value=most)), number(low))


def _halves(graph: Graph, x: Tensor, low: float, high: float) -> Tensor:
    """x between two numbers around 0, its positive and its negative part by themselves."""

    def part(sign: int, limit: float) -> Tensor:
        source = x.layer if sign > 0 else graph.scaled(x, np.array(sign, np.float32)).layer
        most = None if limit == np.inf else limit
        return replace(x, layer=graph.emit(Activation("relu", max_value=most), source), readers=1)

    return joined(graph, Subtract(), part(1, high), part(-1, -low))


def _where(node: Node, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(condition, x, y)


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


def _hard_sigmoid(node: Node, x: np.ndarray) -> np.ndarray:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return np.clip(alpha * x + beta, 0, 1)


def _hard_sigmoid_layers(graph: Graph, node: Node) -> Tensor:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    for name, slope in (("hard_sigmoid", 1 / 6), ("hard_sigmoid_keras2", 0.2)):
        if abs(alpha - slope) < 1e-6 and beta == 0.5:
            return graph.activation(graph.made(node.first), Activation(name))
    raise UnsupportedLayerError(f"alpha {alpha} with beta {beta} is not supported")


def _named(name: str) -> Callable[[Graph, Node], Tensor]:
    return lambda graph, node: graph.activation(graph.made(node.first), Activation(name))


def _parametric(graph: Graph, node: Node) -> Value:
    """Activations with numbers as attributes."""
    x, attributes = graph.made(node.first), node.attributes
    match node.operator:
        case "LeakyRelu":
            slope = _decimal(attributes.get("alpha", 0.01))
            return graph.activation(x, Activation("leaky_relu", negative_slope=slope))
        case "Elu":
            alpha = _decimal(attributes.get("alpha", 1.0))
            return graph.activation(x, Activation("elu", alpha=alpha))
        case "ThresholdedRelu":
            threshold = _decimal(attributes.get("alpha", 1.0))
            return graph.activation(x, Activation("relu", threshold=threshold))
        case "Gelu":
            tanh = node.text("approximate", "none") == "tanh"
            return graph.activation(x, Activation("gelu_tanh" if tanh else "gelu"))
        case "Swish" if attributes.get("alpha", 1.0) == 1:
            return graph.activation(x, Activation("silu"))
        case "Celu" if attributes.get("alpha", 1.0) == 1:
            return graph.activation(x, Activation("elu"))
        case "Selu":
            alpha, gamma = attributes.get("alpha", 1.67326319), attributes.get("gamma", 1.05070098)
            if abs(alpha - 1.67326324) < 1e-5 and abs(gamma - 1.05070099) < 1e-5:
                return graph.activation(x, Activation("selu"))
    raise UnsupportedLayerError(f"not supported with {attributes}")


def _decimal(value: float) -> float:
    """A number as it was before it was rounded to float32: 0.2, not 0.20000000298."""
    return float(str(np.float32(value)))


def _prelu(graph: Graph, node: Node) -> Value:
    x, slope = graph.made(node.first), node.constant(1)
    if slope is None:
        raise ShapeError("its slope is missing")
    placed = graph.placed(x, slope)
    if placed.ndim == 0:
        return graph.activation(x, Activation("leaky_relu", negative_slope=float(placed)))
    return replace(x, layer=graph.emit(PReLU(placed), x.layer), readers=1)


def _softmax(name: str) -> Operator:
    def softmax(graph: Graph, node: Node) -> Value:
        x = graph.made(node.first)
        axis = node.attributes.get("axis", -1 if graph.opset >= 13 else 1)
        if graph.opset < 13:  # all axes from this one on together
            axis %= max(x.order.ndim, 1)
            if x.shape[axis + 1 :].count(1) == len(x.shape[axis + 1 :]):
                return graph.along(x, axis, Activation(name))
            if axis != 1 or not x.has_batch:
                raise UnsupportedLayerError(f"axis {axis} of shape {x.shape} is not supported")
            flat = replace(x, order=x.order.reshape(1, -1))
            out = graph.along(flat, 1, Activation(name))
            return replace(out, order=out.order.reshape(x.shape))
        return graph.along(x, axis, Activation(name))

    return softmax


ELEMENTWISE: dict[str, Operator] = {
    "Abs": _curve(lambda node, x: np.abs(x), _only_inside),
    "Add": _curve(lambda node, x, y: x + y, _sum),
    "Celu": _parametric,
    "Clip": _curve(lambda node, x, *limits: np.clip(x, *_limits(node)), _clip),
    "Div": _curve(lambda node, x, y: x / y, _quotient),
    "Elu": _parametric,
    "Erf": _curve(lambda node, x: _erf(x), _only_inside),
    "Exp": _curve(lambda node, x: np.exp(x), _named("exponential")),
    "Gelu": _parametric,
    "Greater": _curve(lambda node, x, y: x > y, _only_inside),
    "HardSigmoid": _curve(_hard_sigmoid, _hard_sigmoid_layers),
    "HardSwish": _named("hard_swish"),
    "LeakyRelu": _parametric,
    "Less": _curve(lambda node, x, y: x < y, _only_inside),
    "Log": _curve(lambda node, x: np.log(x), _only_inside),
    "LogSoftmax": _softmax("log_softmax"),
    "Max": _curve(lambda node, x, y: np.maximum(x, y), _extreme),
    "Min": _curve(lambda node, x, y: np.minimum(x, y), _extreme),
    "Mish": _named("mish"),
    "Mul": _curve(lambda node, x, y: x * y, _times),
    "Neg": _curve(lambda node, x: -x, _negative),
    "PRelu": _prelu,
    "Pow": _curve(lambda node, x, y: x**y, _only_inside),
    "Relu": _named("relu"),
    "Selu": _parametric,
    "Sigmoid": _curve(lambda node, x: 1 / (1 + np.exp(-x)), _named("sigmoid")),
    "Softmax": _softmax("softmax"),
    "Softplus": _curve(lambda node, x: np.logaddexp(x, 0), _named("softplus")),
    "Softsign": _curve(lambda node, x: x / (1 + np.abs(x)), _named("softsign")),
    "Sub": _curve(lambda node, x, y: x - y, _difference),
    "Sum": _sum,
    "Swish": _parametric,
    "Tanh": _curve(lambda node, x: np.tanh(x), _named("tanh")),
    "ThresholdedRelu": _parametric,
    "ai.onnx.ml.Scaler": _scaler,
    "Where": _curve(_where, _only_inside),
}
