"""Networks in ONNX files (.onnx), read with the onnx package alone."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from netreduce.errors import ModelFileError, NetreduceError, ShapeError, UnsupportedLayerError
from netreduce.formats.guard import MALFORMED, check_finite, reading
from netreduce.formats.rearranged import LARGEST_TENSOR, numbered, size_of
from netreduce.network import INPUT, Network

from .constants import Constant, Folding, initializers
from .graph import Curve, Graph, Node, Tensor, Value, named
from .operators import OPERATORS

MOST_NODES = 100_000
OLDEST_OPSET = 7
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
# Nodes that say nothing about where the channels of an image are.
ELEMENTWISE = {
    *("Add", "Cast", "Clip", "Div", "Dropout", "Identity", "LeakyRelu", "Mul", "Neg", "Relu"),
    *("Sigmoid", "Sub", "Tanh"),
}


def read_network(path: str | Path) -> Network:
    """Read a network from an ONNX file.

    Parameters
    ----------
    path : path
        A file with one input and one output of floats (class labels beside the scores, as
        scikit-learn's have them, are left out). The batch axis is free or 1; a file without one,
        as those of ACAS Xu, holds a network of one sample. Weights outside the file must lie in
        its folder.

    Returns
    -------
    Network
        Images, which the file has as (channels, rows, columns), come in and go out as (rows,
        columns, channels); so do signals of one axis, (channels, length). An image stays as the
        file has it where the file says that its channels come last (it transposes the input
        before the first convolution), or where it never uses it as an image and does not come
        from PyTorch, whose images have their channels first. Vectors and tables stay as they
        are. Weights that the file stores as integers keep their grid.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or does not fit together.
    UnsupportedLayerError
        The file holds something that a `Network` cannot express: names the node, its operator and
        what is supported.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import netreduce as nr
    >>> path = mkdtemp() + "/network.onnx"
    >>> nr.export(nr.Network([nr.Dense([[1.0], [2.0]], activation="relu")], (2,)), path)
    >>> read_network(path).names
    ('dense_1',)
    """
    path = Path(path)
    with reading(path):
        model = _inlined(_parsed(path.read_bytes()))
        return _Reader(model, path.parent).network()


def _parsed(content: bytes) -> onnx.ModelProto:
    try:
        return onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own
        raise ModelFileError(f"not an ONNX file ({error})") from None


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model without functions of its own."""
    if not model.graph.node:
        raise ModelFileError("not an ONNX file, or one without nodes")
    sizes: dict[tuple[str, str, str], int] = {}
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}

    def size(nodes: Iterable[onnx.NodeProto], inside: tuple[tuple[str, str, str], ...]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            if key in inside or len(inside) > 50:
                raise ModelFileError(f"function {node.op_type!r} calls itself")
            if key in functions and key not in sizes:
                sizes[key] = size(functions[key].node, (*inside, key))
            total += sizes.get(key, 1)
            if total > MOST_NODES:
                raise UnsupportedLayerError(f"more than {MOST_NODES} nodes are not supported")
        return total

    size(model.graph.node, ())
    if not functions:
        return model
    from onnx.inliner import inline_local_functions

    return inline_local_functions(model)


class _Reader:
    """The nodes of a file, read one by one."""

    def __init__(self, model: onnx.ModelProto, folder: Path):
        graph = model.graph
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
        if opset < OLDEST_OPSET:
            raise UnsupportedLayerError(
                f"operator set {opset} is older than {OLDEST_OPSET}, whose rules for shapes hold:"
                " convert the file with onnx.version_converter"
            )
        self.folding = Folding(opset)
        self.values: dict[str, Value] = dict(initializers(model, folder))
        inputs = [entry for entry in graph.input if entry.name not in self.values]
        self.output = _output(graph)
        self.nodes = _needed(graph.node, self.output)
        self.uses = Counter(name for node in self.nodes for name in node.input)
        self.uses[self.output] += 1
        name, shape = _input(inputs)
        first = len(shape) > 2 and _channels_first(model, self.nodes, name, shape)
        axes = (*range(2, len(shape)), 1) if first else range(1, len(shape))
        sample = tuple(shape[axis] for axis in axes) if len(shape) > 1 else shape
        if len(shape) > 1 and shape[0] != 1:
            sample, first = shape, False
        self.graph = Graph(sample, opset, first)
        order = numbered(sample)
        if first:
            order = np.moveaxis(order, -1, 0)
        self.bind(name, Tensor(INPUT, order.reshape(shape)))

    def network(self) -> Network:
        for node in self.nodes:
            self.read(node)
        output = self.values.get(self.output)
        if output is None or isinstance(output, Constant):
            raise UnsupportedLayerError(f"output {self.output!r} does not depend on the input")
        network = self.graph.network(self.graph.made(output))
        for name, layer in zip(network.names, network.layers, strict=True):
            for role, array in layer.arrays().items():
                check_finite(array, f"layer {name!r}: {role}")
        return network

    def read(self, node: onnx.NodeProto) -> None:
        inputs = [self.values.get(name) if name else None for name in node.input]
        title = f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})"
        for name, value in zip(node.input, inputs, strict=True):
            if name and value is None:
                raise ModelFileError(f"{title}: nothing writes its input {name!r}")
        constants = [v for v in inputs if v is None or isinstance(v, Constant)]
        results: Sequence[Value | None]
        if len(constants) == len(inputs):
            results = self.folding.fold(node, constants)
        else:
            results = self.converted(title, node, inputs)
        for name, value in zip_longest(node.output, results[: len(node.output)]):
            if value is not None:
                self.bind(name, value)
            elif name and self.uses[name]:
                raise UnsupportedLayerError(f"{title}: its output {name!r} is not supported")

    def converted(
        self, title: str, node: onnx.NodeProto, inputs: Sequence[Value | None]
    ) -> Sequence[Value | None]:
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        operator = OPERATORS.get(kind)
        if operator is None:
            raise UnsupportedLayerError(
                f"{title}: {kind} of an activation is not supported; supported are"
                f" {', '.join(sorted(OPERATORS))}"
            )
        attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        try:
            found = operator(
                self.graph, Node(title, node.op_type, inputs, attributes, len(node.output))
            )
            return found if isinstance(found, list) else [found]
        except UnsupportedLayerError as error:
            raise named(title, error) from None
        except NetreduceError as error:
            raise ModelFileError(f"{title}: {error}") from None
        except MALFORMED as error:
            raise ModelFileError(f"{title}: {type(error).__name__}: {error}") from error

    def bind(self, name: str, value: Value) -> None:
        if isinstance(value, Curve):  # stays one object under all its names: layers once
            value.readers = max(value.readers, self.uses[name])
        elif isinstance(value, Tensor):
            value = replace(value, readers=max(value.readers, self.uses[name]))
        self.values[name] = value


def _output(graph: onnx.GraphProto) -> str:
    """Name of the output; class labels beside the scores do not count, and scores by their labels
    (ZipMap) are scores.
    """
    names = [entry.name for entry in graph.output]
    zipped = {name: node.input[0] for node in _zipmaps(graph) for name in node.output}
    scores = [
        zipped.get(entry.name, entry.name)
        for entry in graph.output
        if entry.type.tensor_type.elem_type in FLOATS or entry.name in zipped
    ]
    if len(names) != 1 and len(scores) != 1:
        raise UnsupportedLayerError(f"a network has one output, found {_listed(names)}")
    return scores[0] if scores else names[0]


def _zipmaps(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    return [node for node in graph.node if node.op_type == "ZipMap" and node.input]


def _input(inputs: Sequence[onnx.ValueInfoProto]) -> tuple[str, tuple[int, ...]]:
    """Name of the input, and its shape with a batch of one."""
    if len(inputs) != 1:
        raise UnsupportedLayerError(
            f"a network has one input, found {_listed([entry.name for entry in inputs])}"
        )
    (entry,) = inputs
    kind = entry.type.tensor_type
    if kind.elem_type not in FLOATS:
        found = onnx.TensorProto.DataType.Name(kind.elem_type)
        raise UnsupportedLayerError(f"input {entry.name!r}: expected floats, found {found}")
    lengths = [length.dim_value for length in kind.shape.dim]
    if len(lengths) > 1 and lengths[0] <= 0:
        lengths[0] = 1
    if not lengths or any(length < 1 for length in lengths):
        found = [length.dim_param or length.dim_value for length in kind.shape.dim]
        raise UnsupportedLayerError(
            f"input {entry.name!r}: only the batch axis may be free, found shape {found}"
        )
    if size_of(lengths) > LARGEST_TENSOR:
        raise ShapeError(
            f"input {entry.name!r}: shape {lengths} is beyond {LARGEST_TENSOR} elements"
        )
    return entry.name, tuple(lengths)


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} ({', '.join(map(repr, names[:10]))})" if names else "none"


def _needed(nodes: Iterable[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """The nodes on which the output depends, in the file's order."""
    needed, kept = {output}, []
    for node in reversed(list(nodes)):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    return kept[::-1]


def _channels_first(
    model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto], name: str, shape: Sequence[int]
) -> bool:
    """Whether the channels of the input come before its rows and columns."""
    same = {name}
    last = [0, len(shape) - 1, *range(1, len(shape) - 1)]  # channels last to channels first
    for node in nodes:
        if not same.intersection(node.input):
            continue
        if node.op_type in ELEMENTWISE:
            same.update(node.output)
        elif node.op_type == "Transpose":
            return _attributes(node).get("perm") != last
        elif node.op_type in ("Flatten", "Gemm", "MatMul", "Reshape", "Squeeze", "Unsqueeze"):
            break
        else:
            return True
    return len(shape) == 4 and (shape[1] == 1 or model.producer_name == "pytorch")


def _attributes(node: onnx.NodeProto) -> Mapping[str, object]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
