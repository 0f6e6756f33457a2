"""Networks as programs: linear operators and functions of one value, in one graph.

Batch normalization is folded into the weights before it, activations are nodes of their own. The
networks to be compared share the input and stand side by side, layer by layer.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.network import INPUT, Network
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
    Permute,
    PReLU,
    Rescaling,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)
from netreduce.network.layers import Reshape as ReshapeLayer

from .chains import Chain
from .enclosures import Enclosure, Grid, Product, Softmax
from .functions import Function, Rectifier, function_of
from .operators import (
    Convolution,
    GlobalMean,
    Join,
    Linear,
    Matrix,
    Mean,
    Reshape,
    Scale,
    Selection,
    Shape,
    Sum,
    TransposedConvolution,
)
from .pooling import Maximum

DEEP = 4  # activations from which on norms of products of layers are smaller by far
Operator = Linear | Function | Maximum | Enclosure


@dataclass(frozen=True, eq=False)
class Node:
    """One step of a program.

    Attributes
    ----------
    operator : Linear, Function, Maximum or Enclosure
    sources : tuple of int
        Nodes that it reads, INPUT for the input.
    shape : tuple of int
    name : str
        The network and the layer it stands for.
    """

    operator: Operator
    sources: tuple[int, ...]
    shape: Shape
    name: str


@dataclass(frozen=True, eq=False)
class Line:
    """A program, or the part of it that one network is, as a chain (`chains`).

    Attributes
    ----------
    chain : Chain
    steps : dict of int to int
        By linear node, its step.
    """

    chain: Chain
    steps: dict[int, int]


@dataclass
class Program:
    """Nodes in topological order.

    Attributes
    ----------
    outputs : list of int
        The last node of each network.
    pairs : dict of int to int
        Nodes of the second network that do what a node of the first one does, on paired inputs.
    """

    input_shape: Shape
    nodes: list[Node] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    pairs: dict[int, int] = field(default_factory=dict)
    changes: dict[int, Linear | None] = field(default_factory=dict, repr=False)

    def add(
        self,
        operator: Operator,
        sources: tuple[int, ...],
        shape: Shape,
        name: str,
    ) -> int:
        self.nodes.append(Node(operator, sources, shape, name))
        return len(self.nodes) - 1

    def shape(self, node: int) -> Shape:
        return self.input_shape if node == INPUT else self.nodes[node].shape

    @property
    def has_maps(self) -> bool:
        """Whether functions read feature maps: too many values to bound them one by one."""
        return any(isinstance(n.operator, Function) and len(n.shape) == 3 for n in self.nodes)

    @cached_property
    def lines(self) -> list[Line]:
        """The networks that are deep chains, the first and the second; none where one is not."""
        lines = [line for end in self.outputs if (line := self._line(end)) is not None]
        return lines if len(lines) == len(self.outputs) else []

    def _line(self, end: int) -> Line | None:
        sizes = [int(np.prod(self.input_shape))]
        maps: list[np.ndarray | None] = []
        bends: list[bool] = []
        steps: dict[int, int] = {}
        before = INPUT
        for index in sorted(self.needed(end)):
            node = self.nodes[index]
            operator, size = node.operator, int(np.prod(node.shape))
            if node.sources != (before,):
                return None
            before = index
            if isinstance(operator, Function):
                if not 0 <= min(operator.slopes) <= max(operator.slopes) <= 1:
                    return None
                if not bends or bends[-1]:
                    maps, bends, sizes = [*maps, None], [*bends, True], [*sizes, size]
                bends[-1] = True
                continue
            step = None
            if isinstance(operator, Matrix):
                step = operator.kernel
            elif isinstance(operator, Scale):
                step = np.broadcast_to(operator.slope, node.shape).reshape(-1)
            elif not isinstance(operator, Reshape):
                return None
            steps[index] = len(maps)
            maps, bends, sizes = [*maps, step], [*bends, False], [*sizes, size]
        if sum(bends) < DEEP:
            return None
        return Line(Chain(sizes, maps, bends), steps)

    def change(self, node: int) -> Linear | None:
        """A linear operator less the one it is paired with; None where they are the same."""
        if node not in self.changes:
            self.changes[node] = self.linear(node).minus(self.linear(self.pairs[node]))
        return self.changes[node]

    def linear(self, node: int) -> Linear:
        """The operator of a node that is known to have a linear one."""
        operator = self.nodes[node].operator
        assert isinstance(operator, Linear)
        return operator

    def needed(self, node: int) -> set[int]:
        """The nodes that a node is computed from, and itself."""
        found, todo = set(), [node]
        while todo:
            index = todo.pop()
            if index != INPUT and index not in found:
                found.add(index)
                todo.extend(self.nodes[index].sources)
        return found

    def forward(self, x: np.ndarray) -> list[np.ndarray]:
        """The values of all nodes for a batch, in float64."""
        values: list[np.ndarray] = []
        for node in self.nodes:
            values.append(
                node.operator.forward(*(x if s == INPUT else values[s] for s in node.sources))
            )
        return values


NAMES = ("original", "reduced")


def compile_networks(
    networks: Iterable[Network], names: Iterable[str] = NAMES, intervals: bool = False
) -> Program:
    """The networks as one program that reads one input; `intervals` says whether there may be
    layers without a linear relaxation.

    Raises
    ------
    UnsupportedLayerError
        For a layer without a linear relaxation: names it.
    """
    networks = list(networks)
    program = Program(networks[0].input_shape)
    writers = [
        _Writer(program, network, name, intervals)
        for network, name in zip(networks, names, strict=False)
    ]
    for index in range(max(len(network.layers) for network in networks)):
        for writer in writers:
            writer.write(index)
    program.outputs = [writer.node[len(writer.network.layers) - 1] for writer in writers]
    if len(writers) == 2:
        program.pairs = pairs_of(program)
    return program


def pairs_of(program: Program) -> dict[int, int]:
    """Nodes of the second network by those of the first that do the same, if all have one."""
    nodes = program.nodes
    first, second = (sorted(program.needed(end)) for end in program.outputs)
    if len(first) != len(second):
        return {}
    pairs = {INPUT: INPUT}
    for one, other in zip(first, second, strict=True):
        a, b = nodes[one], nodes[other]
        if (
            a.shape != b.shape
            or not _same_kind(a.operator, b.operator)
            or tuple(pairs[s] for s in b.sources) != a.sources
        ):
            return {}
        pairs[other] = one
    pairs.pop(INPUT)
    return pairs


def _same_kind(first: Operator, second: Operator) -> bool:
    """Whether two operators differ in nothing but weights."""
    if type(first) is not type(second):
        return False
    if isinstance(first, Function) and isinstance(second, Function):
        return first.same(second)
    if isinstance(first, Convolution) and isinstance(second, Convolution):
        return (
            first.layer.kernel.shape == second.layer.kernel.shape
            and first.layer.strides == second.layer.strides
            and bool((first.before == second.before).all())
            and first.layer.dilation == second.layer.dilation
            and getattr(first.layer, "groups", 1) == getattr(second.layer, "groups", 1)
        )
    if isinstance(first, TransposedConvolution) and isinstance(second, TransposedConvolution):
        return first.layer.kernel.shape == second.layer.kernel.shape and first.layer.crop(
            first.input_shape
        ) == second.layer.crop(second.input_shape)
    if isinstance(first, Selection) and isinstance(second, Selection):
        return (first.matrix != second.matrix).nnz == 0
    if isinstance(first, Sum) and isinstance(second, Sum):
        return first.signs == second.signs
    if isinstance(first, Maximum) and isinstance(second, Maximum):
        return _same_windows(first.layer, second.layer)
    if isinstance(first, Mean) and isinstance(second, Mean):
        return _same_windows(first.sums.layer, second.sums.layer) and np.array_equal(
            first.counts, second.counts
        )
    return True


def _same_windows(first: Layer, second: Layer) -> bool:
    return all(
        getattr(first, key, None) == getattr(second, key, None)
        for key in ("pool_size", "strides", "padding")
    )


class _Writer:
    """Appends the layers of one network to a program."""

    def __init__(self, program: Program, network: Network, name: str, intervals: bool):
        self.program, self.network, self.name = program, network, name
        self.intervals = intervals
        self.node = {INPUT: INPUT}
        self.folded: dict[int, BatchNormalization] = {}

    def write(self, index: int) -> None:
        if index >= len(self.network.layers):
            return
        layer = self.network.layers[index]
        sources = tuple(self.node[s] for s in self.network.sources[index])
        shapes = tuple(self.program.shape(s) for s in sources)
        name = f"{self.name}: {self.network.names[index]}"
        if self.network.sources[index][0] in self.folded:  # is in the weights already
            self.folded.pop(self.network.sources[index][0])
            self.node[index] = sources[0]
            return
        node = sources[0]
        if not _is_identity(layer):
            node = self._add(self._operator(layer, shapes, name), sources, index, name)
        activation = getattr(layer, "activation", "linear")
        if activation != "linear":
            function = self._operator(Activation(activation), shapes, name)
            node = self.program.add(function, (node,), self.network.shapes[index], name)
        self.node[index] = node

    def _add(self, operator: Operator, sources: tuple[int, ...], index: int, name: str) -> int:
        shape = self.network.shapes[index]
        norm = self._norm_behind(index)
        if norm is not None:
            assert isinstance(operator, Matrix | Convolution)
            operator = operator.normalized(norm)
            self.folded[index] = norm
        if isinstance(operator, Maximum) and operator.output_shape != shape:
            node = self.program.add(operator, sources, operator.output_shape, name)
            return self.program.add(Reshape(operator.output_shape, shape), (node,), shape, name)
        return self.program.add(operator, sources, shape, name)

    def _operator(self, layer: Layer, shapes: tuple[Shape, ...], name: str) -> Operator:
        operator = _operator(layer, shapes)
        if operator is None or (isinstance(operator, Enclosure) and not self.intervals):
            what = type(layer).__name__
            if isinstance(layer, Activation):
                what = f"activation {layer.name!r}"
            raise UnsupportedLayerError(f"{name}: no linear relaxation of {what} is known")
        return operator

    def _norm_behind(self, index: int) -> BatchNormalization | None:
        """The batch normalization that alone reads a layer of weights."""
        layer, readers = self.network.layers[index], self.network.readers(index)
        if (
            isinstance(layer, Dense | Conv2D | DepthwiseConv2D)
            and layer.activation == "linear"
            and len(readers) == 1
        ):
            behind = self.network.layers[readers[0]]
            return behind if isinstance(behind, BatchNormalization) else None
        return None


def _is_identity(layer: Layer) -> bool:
    return isinstance(layer, Dropout) or (isinstance(layer, Activation) and layer.name == "linear")


def _operator(layer: Layer, shapes: tuple[Shape, ...]) -> Operator | None:
    shape = shapes[0]
    match layer:
        case Dense():
            return Matrix(layer.kernel, layer.bias)
        case Conv2D() | DepthwiseConv2D():
            return Convolution(layer, shape)
        case Conv2DTranspose():
            return TransposedConvolution(layer, shape)
        case BatchNormalization() | Rescaling() | Normalization():
            return Scale.of(layer)
        case Flatten() | ReshapeLayer():
            return Reshape(shape, layer.output_shape(shape))
        case UpSampling2D(interpolation="bilinear"):
            return Selection.interpolating(layer, shape)
        case Permute() | ZeroPadding2D() | Cropping2D() | UpSampling2D():
            return Selection.of(layer, shape)
        case Add():
            return Sum((1.0,) * len(shapes), shape)
        case Subtract():
            return Sum((1.0, -1.0), shape)
        case Concatenate():
            return Join(shapes)
        case AveragePooling2D():
            return Mean(layer, shape)
        case GlobalAveragePooling2D():
            return GlobalMean(shape)
        case MaxPooling2D():
            return Maximum(layer, shape)
        case GlobalMaxPooling2D():
            return Maximum(MaxPooling2D((shape[0], shape[1])), shape)
        case PReLU():
            return Rectifier(np.broadcast_to(layer.alpha.astype(np.float64), shape))
        case Activation():
            return function_of(layer) if layer.function.elementwise else Softmax(layer)
        case Multiply():
            return Product(layer)
        case ActivationGrid():
            return Grid(layer)
    return None
