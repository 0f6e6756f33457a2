"""Networks with integer activations as ONNX models that run in integers.

Every tensor on a grid goes through QuantizeLinear and DequantizeLinear (QDQ), an integer of 8 bits
between them. ONNX Runtime replaces a layer between two such pairs by QLinearConv, QGemm, QLinearAdd
and their like, but only where the two nodes of a pair are neighbours: so there is one behind layers
that only move values, too. Weights are int8, biases int32 in units of the scale of the inputs times
that of the weights, which a node multiplies; tables of 2 or 4 bits become int8 when the file is
loaded. Equal constants stand once, and names are short but for those of weights and biases.

Activations are uint8, a code of `ActivationGrid` being 128 less: on x86 ONNX Runtime turns int8
ones into these by default, but fails to where several layers read a tensor, and then computes in
floats. Its kernels for x86 processors without VNNI add two products of uint8 by int8 in 16 bits,
which saturates where weights have codes beyond ±64: there, quantize to 7 bits or fewer.

Codes of fewer than 8 bits are kept in their range by a Clip in front of QuantizeLinear, unless they
cannot leave it; ONNX Runtime then computes the layer in floats, between the same codes. Average
pooling over windows of one size is a convolution with ones, so that its sums are exact; over
windows that hold different numbers of values it is computed in floats, where a mean in the middle
of two codes can fall to either.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netreduce.network import INPUT, Network
from netreduce.network.integers import IntegerNetwork
from netreduce.network.layers import (
    ActivationGrid,
    AveragePooling2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    Permute,
    Reshape,
    Shape,
    Weighted,
)

from .writer import INTEGERS, Graph, arranged, pads

SIGNED = {  # by their bits: integers, the operator set and the version of files that have them
    2: (onnx.TensorProto.INT2, 25, 13),
    4: (onnx.TensorProto.INT4, 21, 10),
}
USUAL = {"strides": (1, 1), "dilations": (1, 1), "group": 1, "pads": [0, 0, 0, 0]}
NAMED = ("codes", "bias")  # constants that have the name of their layer
FEW = 16  # numbers that take no more room than a node that computes them
UNSIGNED = 128  # code 0 of a grid in the file


class IntegerGraph(Graph):
    """The graph of a network that `IntegerNetwork` evaluates; raises as that does."""

    def __init__(self, network: Network) -> None:
        self.evaluated = IntegerNetwork(network)
        super().__init__(self.evaluated.network)
        self.index = INPUT  # of the layer that is being written
        self.codes: dict[str, list[str]] = {}  # what the numbers of a tensor are made from
        self.read: set[str] = set()  # tensors that have a reader
        self.known: dict[tuple[np.dtype, Shape, bytes], str] = {}  # constants
        self.pooled: dict[int, str] = {}  # means of images, still of shape (channels, 1, 1)

    def node(self, operator: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """As in files of floats, but with short names: there are many nodes to a layer."""
        name = name or np.base_repr(len(self.nodes), 36)
        said = {key: value for key, value in attributes.items() if USUAL.get(key) != value}
        self.nodes.append(helper.make_node(operator, inputs, [name], **said))
        return name

    def constant(self, array: np.ndarray, what: str = "") -> str:
        """A constant, once for all who read it: of a short name, or of what it is to a layer."""
        array = np.asarray(array, order="C")
        key = array.dtype, array.shape, array.tobytes()
        if key not in self.known:
            name = (
                f"{self.title}.{what}" if what in NAMED else f"_{np.base_repr(len(self.known), 36)}"
            )
            self.known[key] = name
            self.constants.append(numpy_helper.from_array(array, name))
        return self.known[key]

    def channels_first(self, index: int) -> str:
        if self.is_image(index) and index not in self.first:
            moved = self.node("Transpose", [self.fresh(self.last[index])], perm=[0, 3, 1, 2])
            self.first[index] = self.again(moved, index)
        return self.fresh((self.first if self.is_image(index) else self.last)[index])

    def channels_last(self, index: int) -> str:
        if index not in self.last:
            moved = self.node("Transpose", [self.fresh(self.first[index])], perm=[0, 2, 3, 1])
            self.last[index] = self.again(moved, index)
        return self.fresh(self.last[index])

    def again(self, x: str, index: int) -> str:
        """A tensor of values that lie on their grid already."""
        grid = self.evaluated.grids.get(index)
        return x if grid is None else self.rounded(x, grid, inside=True)

    def fresh(self, x: str) -> str:
        """A tensor for one reader: each gets a DequantizeLinear of its own."""
        if x not in self.read:
            self.read.add(x)
            return x
        codes = self.codes.get(x)
        return x if codes is None else self.node("DequantizeLinear", codes)

    def rounded(self, x: str, grid: ActivationGrid, inside: bool = False) -> str:
        """A tensor brought onto a grid; whether it is known to lie inside the grid's ends."""
        if grid.bits < 8 and not inside:
            x = self.node("Clip", [x, *map(self.number, _ends(grid))])
        zero_point = self.constant(np.array(grid.zero_point + UNSIGNED, np.uint8))
        places = [self.number(grid.scale), zero_point]
        codes = [self.node("QuantizeLinear", [x, *places]), *places]
        values = self.node("DequantizeLinear", codes)
        self.codes[values] = codes
        return values

    def layer(self, index: int) -> None:
        layer, (source, *_) = self.network.layers[index], self.sources[index]
        self.index = index
        if isinstance(layer, ActivationGrid):
            self.title = self.evaluated.names[index].removeprefix("activation_")
            self.on_grid(index, source, layer)
            return
        super().layer(index)
        if not isinstance(layer, Dropout):
            for outputs in (self.first, self.last):
                if index in outputs:
                    outputs[index] = self.again(outputs[index], index)

    def on_grid(self, index: int, source: int, grid: ActivationGrid) -> None:
        """Write an ActivationGrid."""
        inside = self.stays_inside(source, grid)
        if source in self.pooled:
            vector = self.node("Flatten", [self.rounded(self.pooled[source], grid, inside)])
            self.last[index] = self.rounded(vector, grid, inside=True)
        elif self.is_image(source) and not self.taken_apart(index):
            self.first[index] = self.rounded(self.channels_first(source), grid, inside)
        else:
            self.last[index] = self.rounded(self.channels_last(source), grid, inside)

    def stays_inside(self, index: int, grid: ActivationGrid) -> bool:
        """Whether a layer gives means of values whose grid ends inside this one. Then there is
        nothing to clip, and ONNX Runtime computes the mean in integers: in floats, a mean in the
        middle of two codes can fall to either side.
        """
        mean = AveragePooling2D | GlobalAveragePooling2D
        if index == INPUT or not isinstance(self.network.layers[index], mean):
            return False
        seen = self.evaluated.grids.get(self.sources[index][0])
        if seen is None:
            return False
        (low, high), (least, most) = _ends(seen), _ends(grid)
        return least <= low and high <= most

    def taken_apart(self, index: int) -> bool:
        """Whether an image is read by layers alone that want its channels last."""
        readers = [self.network.layers[reader] for reader in self.network.readers(index)]
        return all(isinstance(reader, Flatten | Reshape | Permute) for reader in readers)

    def computed(self, layer: Layer, index: int, sources: Sequence[int]) -> str:
        source, shape = sources[0], self.shapes[sources[0]]
        match layer:
            case AveragePooling2D() if len(np.unique(layer.counts(shape))) == 1:
                return self.mean(layer, source, shape)
            case GlobalAveragePooling2D() if source in self.evaluated.grids:
                rows, columns, _ = shape
                pooled = self.mean(AveragePooling2D((rows, columns)), source, shape)
                if index not in self.evaluated.tail:  # its grid takes the mean as it is
                    self.pooled[index] = pooled
                    return pooled
                return self.node("Flatten", [pooled])
        return super().computed(layer, index, sources)

    def parameters(self, layer: Weighted) -> list[str]:
        weights = self.evaluated.weights[self.index]
        axis = int(isinstance(layer, Dense))
        kernel = self.packed(arranged(layer, weights.kernel))
        scale = one_if_equal(weights.scale)
        kernel = self.dequantized(kernel, np.int8, scale, self.constant(scale), axis)
        bias, bias_scale = self.constant(weights.bias, "bias"), one_if_equal(weights.bias_scale)
        if bias_scale.size > FEW:
            grid = self.evaluated.grids[self.sources[self.index][0]]
            product = self.node("Mul", [self.number(grid.scale), self.constant(scale)])
        else:
            product = self.constant(bias_scale)
        return [kernel, self.dequantized(bias, np.int32, bias_scale, product, 0)]

    def packed(self, kernel: np.ndarray) -> str:
        """Weights of 8 bits: as they are, or from a table of 2 or 4 bits if that holds them."""
        least = int(kernel.min())
        for width, (kind, opset, version) in SIGNED.items():
            if -(1 << width - 1) <= least and kernel.max() < 1 << width - 1:
                self.versions.add((opset, version))
                table = kernel.astype(helper.tensor_dtype_to_np_dtype(kind))
                return self.node("Cast", [self.constant(table, "codes")], to=onnx.TensorProto.INT8)
        spacing = max(int(np.gcd.reduce(kernel.ravel().astype(np.int64) - least)), 1)
        table = (kernel.astype(np.int64) - least) // spacing
        unsigned = next((width for width in (2, 4) if table.max() < 1 << width), None)
        if unsigned is None:
            return self.constant(kernel, "codes")
        kind, opset, version = INTEGERS[unsigned]
        self.versions.add((opset, version))
        codes = self.constant(table.astype(helper.tensor_dtype_to_np_dtype(kind)), "codes")
        codes = self.node("Cast", [codes], to=onnx.TensorProto.FLOAT)
        if spacing != 1:
            codes = self.node("Mul", [codes, self.number(spacing)])
        if least:
            codes = self.node("Add", [codes, self.number(least)])
        return self.node("Cast", [codes], to=onnx.TensorProto.INT8)

    def dequantized(
        self, integers: str, kind: type[np.integer], scale: np.ndarray, name: str, axis: int
    ) -> str:
        """Integers that stand for numbers: with one scale, or one for each entry of an axis; and
        the name of the scale.
        """
        inputs = [integers, name, self.constant(np.zeros(scale.shape, kind))]
        if scale.shape:
            return self.node("DequantizeLinear", inputs, axis=axis)
        return self.node("DequantizeLinear", inputs)

    def mean(self, layer: AveragePooling2D, source: int, shape: Shape) -> str:
        count = int(layer.counts(shape).flat[0])
        lengths = self.integers((shape[2], 1, *layer.pool_size), "shape")
        one = numpy_helper.from_array(np.ones(1, np.int8))
        ones = self.node("ConstantOfShape", [lengths], value=one)
        share = np.array(np.float32(1) / np.float32(count))
        return self.node(
            "Conv",
            [
                self.channels_first(source),
                self.dequantized(ones, np.int8, share, self.constant(share), 0),
            ],
            strides=layer.strides,
            pads=pads(layer.padding_widths(shape)),
            group=shape[2],
        )


def one_if_equal(scale: np.ndarray) -> np.ndarray:
    return scale[0] if (scale == scale[0]).all() else scale


def _ends(grid: ActivationGrid) -> tuple[float, float]:
    """The least and the largest value on a grid."""
    least, most = (grid.scale * (end - grid.zero_point) for end in (grid.low, grid.high))
    return least, most
