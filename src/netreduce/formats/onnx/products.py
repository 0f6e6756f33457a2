"""Matrix products."""

from dataclasses import replace

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.network.layers import Add

from .constants import Constant
from .elementwise import joined
from .graph import Graph, Node, Operator, Tensor, Value


def _gemm(graph: Graph, node: Node) -> Value:
    x, kernel, bias = (*node.inputs, None)[:3]
    if node.attributes.get("transA"):
        x = _transposed(graph, x)
    if node.attributes.get("transB"):
        kernel = _transposed(graph, kernel)
    out = _product(graph, x, kernel, node.attributes.get("alpha", 1.0))
    if bias is None:
        return out
    if isinstance(bias, Constant):
        return graph.shifted(out, bias.scaled(node.attributes.get("beta", 1.0)).array)
    if node.attributes.get("beta", 1.0) != 1:
        raise UnsupportedLayerError("beta must be 1 where an activation is added")
    return joined(graph, Add(), out, graph.made(bias))


def _matmul(graph: Graph, node: Node) -> Value:
    return _product(graph, node.inputs[0], node.inputs[1])


def _product(graph: Graph, x: Value | None, kernel: Value | None, factor: float = 1.0) -> Tensor:
    if isinstance(x, Constant) and not isinstance(kernel, Constant):
        out = _product(graph, _transposed(graph, kernel), _transposed(graph, x), factor)
        return replace(out, order=out.order.swapaxes(-1, -2)) if out.order.ndim > 1 else out
    if x is None or not isinstance(kernel, Constant):
        raise UnsupportedLayerError("the product of two activations is not supported")
    shape = kernel.array.shape
    if not shape or any(length != 1 for length in shape[:-2]):
        raise UnsupportedLayerError(f"expected a matrix, found an array of shape {shape}")
    matrix = kernel.reshaped(shape[-2:] if len(shape) > 1 else (*shape, 1)).scaled(factor)
    out = graph.dense(graph.made(x), matrix)
    return out if len(shape) > 1 else replace(out, order=out.order[..., 0])


def _transposed(graph: Graph, value: Value | None) -> Value:
    if isinstance(value, Constant):
        rank = value.array.ndim
        return value.transposed((*range(rank - 2), rank - 1, rank - 2) if rank > 1 else (0,) * rank)
    if value is None:
        raise ShapeError("an input is missing")
    x = graph.made(value)
    return replace(x, order=x.order.swapaxes(-1, -2)) if x.order.ndim > 1 else x


PRODUCTS: dict[str, Operator] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
}
