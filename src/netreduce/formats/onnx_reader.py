"""Networks in ONNX files (.onnx), read with the onnx package alone."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from netreduce.errors import ModelFileError, NetreduceError, ShapeError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.layers import Activation, Conv2D, Dense, Flatten, Layer

from .guard import reading
from .onnx_constants import Constant, Folding, initializers

LARGEST_TENSOR = 1 << 24  # elements of an activation, for one sample


def read_network(path: str | Path) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    path : path
        A file with one input and one output. The batch axis is free or 1; a file without one
        (ACAS Xu's) is a network of one sample.

    Returns
    -------
    Network
        It reads vectors and tables as the file does, without the batch axis.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or does not fit together.
    UnsupportedLayerError
        The file holds a node that a `Network` cannot express: names the node, its operator and what
        is supported.
    """
    path = Path(path)
    with reading(path):
        return _network(_model(path.read_bytes()), path.parent)


def _model(content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own
        raise ModelFileError(f"not an ONNX file ({error})") from None


def _network(model: onnx.ModelProto, folder: Path) -> Network:
    graph = _Graph(model, folder)
    for node in model.graph.node:
        graph.add(node)
    return graph.network()


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation of the file: the output of one layer of the network, rearranged.

    Attributes
    ----------
    layer : int
        Index of the layer, INPUT for the network's input.
    order : ndarray of int
        Shape as in the file, the batch axis being 1: for every element its place in the flattened
        output of the layer. Reshaping and transposing is done on these numbers.
    shared : bool
        Whether anything else reads the layer's output.
    """

    layer: int
    order: np.ndarray
    shared: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return self.order.shape


Value = Constant | Tensor


class _Graph:
    """The network as it grows, node by node, and the values that the file's names stand for."""

    def __init__(self, model: onnx.ModelProto, folder: Path):
        graph = model.graph
        self.opset = next(
            (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1
        )
        self.folding = Folding(self.opset)
        self.values: dict[str, Value] = dict(initializers(graph, folder))
        inputs = [entry for entry in graph.input if entry.name not in self.values]
        _one("input", inputs)
        self.output = _one("output", graph.output).name
        self.uses = Counter(name for node in graph.node for name in node.input)
        self.uses[self.output] += 1
        shape, self.free_batch = _input_shape(inputs[0])
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.shapes: dict[int, tuple[int, ...]] = {INPUT: shape[1:] if len(shape) > 1 else shape}
        order = np.arange(_size(shape), dtype=np.int32).reshape(shape)
        self.values[inputs[0].name] = Tensor(INPUT, order, self.uses[inputs[0].name] > 1)

    def network(self) -> Network:
        """The network, whose output is in the file's order."""
        output = self.values.get(self.output)
        if not isinstance(output, Tensor):
            raise UnsupportedLayerError(
                f"output {self.output!r} does not depend on the input: nothing to read"
            )
        order = output.order[0] if len(output.shape) > 1 and output.shape[0] == 1 else output.order
        last = self.arranged(output.layer, order)
        if last != len(self.layers) - 1 or not self.layers:
            last = self.emit(Activation("linear"), last)
        return Network(self.layers, self.shapes[INPUT], self.sources)

    def add(self, node: onnx.NodeProto) -> None:
        """Take in the next node."""
        inputs = [self.values.get(name) if name else None for name in node.input]
        for name, value in zip(node.input, inputs, strict=True):
            if name and value is None:
                raise ModelFileError(f"{_title(node)} reads {name!r}, which nothing writes")
        if not any(isinstance(value, Tensor) for value in inputs):
            if self.wanted(node):
                self.bind(node, self.folding.fold(node, inputs))
            return
        operator = OPERATORS.get(node.op_type)
        if operator is None or node.domain not in ("", "ai.onnx"):
            raise UnsupportedLayerError(
                f"{_title(node)} is not supported; known operators: {', '.join(sorted(OPERATORS))}"
            )
        try:
            attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            self.bind(node, [operator(self, inputs, attributes)])
        except UnsupportedLayerError as error:
            raise UnsupportedLayerError(f"{_title(node)}: {error}") from None
        except NetreduceError as error:
            raise ModelFileError(f"{_title(node)}: {error}") from None

    def wanted(self, node: onnx.NodeProto) -> bool:
        return any(self.uses[name] for name in node.output)

    def bind(self, node: onnx.NodeProto, values: Sequence[Value]) -> None:
        for name, value in zip(node.output, values, strict=False):
            if isinstance(value, Tensor) and self.uses[name] > 1:
                value = replace(value, shared=True)
            self.values[name] = value
        for name in node.output[len(values) :]:
            if name and self.uses[name]:
                raise UnsupportedLayerError(f"{_title(node)}: its output {name!r} is used")

    def emit(self, layer: Layer, *sources: int) -> int:
        """Add a layer and return its index."""
        shape = layer.output_shape(*(self.shapes[source] for source in sources))
        if _size(shape) > LARGEST_TENSOR:
            raise ShapeError(f"an output of shape {shape} is beyond {LARGEST_TENSOR} elements")
        self.layers.append(layer)
        self.sources.append(sources)
        self.shapes[len(self.layers) - 1] = shape
        return len(self.layers) - 1

    def arranged(self, layer: int, order: np.ndarray) -> int:
        """A layer whose output is, in row-major order and of that shape, those elements of the
        output of `layer`.
        """
        if not np.array_equal(order.ravel(), np.arange(order.size)):
            raise UnsupportedLayerError("its input is transposed, which is not supported")
        if self.shapes[layer] == order.shape:
            return layer
        if order.ndim == 1:
            return self.emit(Flatten(), layer)
        raise UnsupportedLayerError("its input is reshaped, which is not supported")

    def dense(self, x: Tensor, kernel: Constant, bias: np.ndarray | None = None) -> Tensor:
        """x @ kernel + bias along the last axis."""
        inputs, outputs = kernel.array.shape
        if not x.shape or x.shape[-1] != inputs:
            raise ShapeError(
                f"an input of shape {x.shape} does not fit a matrix of shape {kernel.array.shape}"
            )
        rows = x.order.size // inputs
        if rows == 1:
            array = np.empty_like(kernel.array)
            array[x.order.ravel()] = kernel.array
            source = x.layer
            if len(self.shapes[source]) != 1:
                source = self.emit(Flatten(), source)
            layer = self.emit(Dense(array, bias), source)
        else:
            source = self.arranged(x.layer, x.order.reshape(1, rows, inputs))
            layer = self.emit(Conv2D(kernel.array[None, None], bias), source)
        return Tensor(layer, _places((*x.shape[:-1], outputs)))

    def affine(self, x: Tensor, slope: np.ndarray, intercept: np.ndarray) -> Tensor:
        """slope · x + intercept, element by element."""
        intercept = self.per_output(x, intercept)
        layer = self.layers[x.layer] if x.layer != INPUT else None
        if (
            np.all(slope == 1)
            and not x.shared
            and isinstance(layer, Dense | Conv2D)
            and layer.activation == "linear"
            and intercept.ndim == 1
        ):
            self.layers[x.layer] = layer.replace(bias=layer.bias + intercept)
            return x
        raise UnsupportedLayerError("a constant is added where no layer has a bias")

    def per_output(self, x: Tensor, values: np.ndarray) -> np.ndarray:
        """Numbers for the elements of x as those of its layer's output: one for each of its last
        axis where these are all, or one for each element.
        """
        if np.broadcast_shapes(x.shape, values.shape) != x.shape:
            raise UnsupportedLayerError(
                f"a constant of shape {values.shape} widens an input of shape {x.shape}"
            )
        shape = self.shapes[x.layer]
        placed = np.empty(x.order.size, values.dtype)
        placed[x.order.ravel()] = np.broadcast_to(values, x.shape).ravel()
        placed = placed.reshape(-1, shape[-1])
        return placed[0] if (placed == placed[0]).all() else placed.reshape(shape)

    def activation(self, x: Tensor, activation: Activation) -> Tensor:
        """An activation function, as part of the layer before it where that is the same."""
        layer = self.layers[x.layer] if x.layer != INPUT else None
        if (
            not x.shared
            and isinstance(layer, Dense | Conv2D)
            and layer.activation == "linear"
            and activation.name != "leaky_relu"
        ):
            self.layers[x.layer] = layer.replace(activation=activation.name)
            return x
        return Tensor(self.emit(activation, x.layer), x.order)


Operator = Callable[[_Graph, list[Value | None], Mapping[str, Any]], Tensor]


def _gemm(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    x, kernel, bias = (*inputs, None)[:3]
    if attributes.get("transA"):
        x = _transposed(x)
    if attributes.get("transB"):
        kernel = _transposed(kernel)
    out = _product(graph, x, kernel, attributes.get("alpha", 1.0))
    if bias is None:
        return out
    beta = attributes.get("beta", 1.0)
    return _sum(graph, [out, bias if beta == 1 else bias.scaled(beta)], attributes)


def _matmul(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    return _product(graph, *inputs)


def _product(graph: _Graph, x: Value, kernel: Value, factor: float = 1.0) -> Tensor:
    if isinstance(x, Constant) and isinstance(kernel, Tensor):
        return _transposed(_product(graph, _transposed(kernel), _transposed(x), factor))
    if not isinstance(x, Tensor) or not isinstance(kernel, Constant):
        raise UnsupportedLayerError("products of two activations are not supported")
    shape = kernel.array.shape
    if not shape or any(length != 1 for length in shape[:-2]):
        raise UnsupportedLayerError(f"expected a matrix, found an array of shape {shape}")
    matrix = kernel.reshaped(shape[-2:] if len(shape) > 1 else (*shape, 1)).scaled(factor)
    out = graph.dense(x, matrix)
    return out if len(shape) > 1 else replace(out, order=out.order[..., 0])


def _transposed(value: Value) -> Value:
    if isinstance(value, Constant):
        return value.transposed((*range(value.array.ndim - 2), -1, -2)[: value.array.ndim])
    return replace(value, order=value.order.swapaxes(-1, -2)) if value.order.ndim > 1 else value


def _sum(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    x, constant = _tensor_first(inputs)
    return graph.affine(x, np.float32(1), constant.array)


def _difference(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    x, constant = _tensor_first(inputs)
    if x is not inputs[0]:
        return graph.affine(x, np.float32(-1), constant.array)
    return graph.affine(x, np.float32(1), -constant.array)


def _tensor_first(inputs: list[Value | None]) -> tuple[Tensor, Constant]:
    x, constant = inputs if isinstance(inputs[0], Tensor) else inputs[::-1]
    if isinstance(constant, Tensor):
        raise UnsupportedLayerError("both inputs are activations, which is not supported")
    return x, constant


def _flatten(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    (x,) = inputs
    rows = _size(x.shape[: attributes.get("axis", 1)])
    return replace(x, order=x.order.reshape(rows, -1))


def _reshape(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    x, shape = (inputs[0], inputs[1].array) if len(inputs) > 1 else (*inputs, attributes["shape"])
    shape = [int(length) for length in shape]
    if not attributes.get("allowzero"):
        shape = [x.shape[i] if length == 0 else length for i, length in enumerate(shape)]
    return replace(x, order=x.order.reshape(shape))


def _identity(graph: _Graph, inputs: list[Value | None], attributes: Mapping[str, Any]) -> Tensor:
    return inputs[0]


def _named(name: str) -> Operator:
    return lambda graph, inputs, attributes: graph.activation(inputs[0], Activation(name))


OPERATORS: dict[str, Operator] = {
    "Add": _sum,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Relu": _named("relu"),
    "Reshape": _reshape,
    "Sub": _difference,
}


def _one(kind: str, entries: Sequence[onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if len(entries) != 1:
        names = ", ".join(repr(entry.name) for entry in entries) or "none"
        raise UnsupportedLayerError(f"a network has one {kind}, found {len(entries)} ({names})")
    return entries[0]


def _input_shape(entry: onnx.ValueInfoProto) -> tuple[tuple[int, ...], bool]:
    """Shape of the input with a batch of one, and whether the batch is free."""
    kind = entry.type.tensor_type
    if kind.elem_type not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE):
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise UnsupportedLayerError(f"input {entry.name!r}: expected floats, found {name}")
    lengths = [length.dim_value for length in kind.shape.dim]
    free = len(lengths) > 1 and lengths[0] <= 0
    if free:
        lengths[0] = 1
    if not lengths or any(length < 1 for length in lengths):
        raise UnsupportedLayerError(
            f"input {entry.name!r}: only the batch axis may be free, found shape"
            f" {[length.dim_param or length.dim_value for length in kind.shape.dim]}"
        )
    if _size(lengths) > LARGEST_TENSOR:
        raise ShapeError(f"input {entry.name!r}: shape {lengths} is beyond {LARGEST_TENSOR}")
    return tuple(lengths), free


def _places(shape: Sequence[int]) -> np.ndarray:
    return np.arange(_size(shape), dtype=np.int32).reshape(shape)


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= int(length)
    return size


def _title(node: onnx.NodeProto) -> str:
    name = node.name or next(iter(node.output), "")
    return f"node {name!r} ({node.op_type})"
