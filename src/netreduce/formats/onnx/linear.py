"""Linear models and scaling, as scikit-learn's exporter writes them (the domain ai.onnx.ml)."""

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.network.layers import Activation, Dense

from .constants import Constant
from .graph import Graph, Node, Operator, Tensor, Value

TRANSFORMS = {"NONE": None, "LOGISTIC": "sigmoid", "SOFTMAX": "softmax"}


def _regressor(graph: Graph, node: Node) -> Value:
    return _scores(graph, node, node.attributes.get("targets", 1))


def _classifier(graph: Graph, node: Node) -> list[Tensor | None]:
    """Scores, without the label that is the first output."""
    labels = node.attributes.get("classlabels_ints") or node.attributes.get("classlabels_strings")
    return [None, _scores(graph, node, len(labels or ()))]


def _scores(graph: Graph, node: Node, outputs: int) -> Tensor:
    x = graph.made(node.first)
    if x.order.ndim != 2:
        raise UnsupportedLayerError(f"expected samples of features, found shape {x.shape}")
    features, transform = x.shape[1], node.text("post_transform", "NONE")
    coefficients = np.array(node.attributes["coefficients"], np.float32)
    if transform not in TRANSFORMS or coefficients.size != outputs * features:
        raise UnsupportedLayerError(
            f"{coefficients.size} coefficients of {outputs} outputs and {features} features with"
            f" post_transform {transform} are not supported"
        )
    out = graph.dense(x, Constant(coefficients.reshape(outputs, features).T))
    intercepts = node.attributes.get("intercepts")
    if intercepts:
        out = graph.shifted(out, np.array(intercepts, np.float32))
    activation = TRANSFORMS[transform]
    if activation is None:
        return out
    if activation == "softmax":
        return graph.along(out, 1, Activation(activation))
    return graph.activation(out, Activation(activation))


def _scaler(graph: Graph, node: Node) -> Value:
    """(x − offset) · scale"""
    x = graph.made(node.first)
    offset, scale = (
        np.array(node.attributes.get(name, default), np.float32)
        for name, default in (("offset", [0.0]), ("scale", [1.0]))
    )
    return graph.scaled(graph.shifted(x, -offset), scale)


def _normalizer(graph: Graph, node: Node) -> Value:
    """Shares of a whole that is 1 already, as the exporter takes them of probabilities."""
    x = graph.made(node.first)
    layer = graph.own(x)
    if node.text("norm", "MAX") == "L1" and isinstance(layer, Dense):
        kernel, bias = layer.kernel, layer.bias
        two = kernel.shape[1] == 2 and not kernel.sum(axis=1).any() and bias.sum() == 0
        if layer.activation == "softmax" or (layer.activation == "sigmoid" and two):
            return x
    raise UnsupportedLayerError("it divides by the sum of its inputs, which is not supported")


LINEAR: dict[str, Operator] = {
    "ai.onnx.ml.LinearClassifier": _classifier,
    "ai.onnx.ml.LinearRegressor": _regressor,
    "ai.onnx.ml.Normalizer": _normalizer,
    "ai.onnx.ml.Scaler": _scaler,
}
