"""Constants of ONNX files: initializers, and what nodes compute from constants alone."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netreduce.errors import ModelFileError, ShapeError, UnsupportedLayerError

LARGEST_CONSTANT = 1 << 24  # elements that one node may make
MOST_CONSTANTS = 1 << 26  # elements that all nodes together may make
SMALL_INTEGERS = ("INT2", "UINT2", "INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16")
QUANTIZATION_KEY = "netreduce.quantization"  # of the metadata: bits of every table of codes
FOLDED = {
    *("Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape"),
    *("DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater"),
    *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mod"),
    *("Mul", "Neg", "Not", "Or", "Pow", "QuantizeLinear", "Range", "Reciprocal", "ReduceMax"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Sign", "Size", "Slice"),
    *("Split", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
}


@dataclass(frozen=True, eq=False)
class Constant:
    """An array of the file that does not depend on the network's input.

    Attributes
    ----------
    array : ndarray
    scale : ndarray, optional
        Where the array is scale · integers and the file stores the integers: the scale, which
        broadcasts against the array and has as many axes.
    bits : float
        log2 of the number of levels of these integers.
    quantized_bias : bool
        Whether the layer's bias lies on the same grid.
    spacing : int
        Of a table of codes: how many codes of the grid lie between neighbouring integers.
    """

    array: np.ndarray
    scale: np.ndarray | None = None
    bits: float = 0.0
    quantized_bias: bool = False
    spacing: int = 1

    def transposed(self, axes: Sequence[int]) -> "Constant":
        """The array with its axes in another order."""
        scale = None if self.scale is None else self.scale.transpose(axes)
        return replace(self, array=self.array.transpose(axes), scale=scale)

    def reshaped(self, shape: Sequence[int]) -> "Constant":
        """The array in another shape; its scale is kept where it is one number, or the shape gets
        axes of length 1 only.
        """
        shape, scale = tuple(shape), self.scale
        if scale is not None and self.array.shape != shape:
            if scale.size == 1:
                scale = scale.reshape((1,) * len(shape))
            elif _without_ones(shape) == self.array.shape and len(shape) >= scale.ndim:
                scale = scale.reshape((1,) * (len(shape) - scale.ndim) + scale.shape)
            else:
                scale = None
        return replace(self, array=self.array.reshape(shape), scale=scale)

    def rows(self, order: np.ndarray) -> "Constant":
        """The array with its first axis in another order."""
        scale = self.scale
        if scale is not None and len(scale) > 1:
            scale = scale[order]
        return replace(self, array=self.array[order], scale=scale)

    def scaled(self, factor: float) -> "Constant":
        """The array times a number."""
        if factor == 1:
            return self
        scale = None if self.scale is None or factor <= 0 else self.scale * factor
        return replace(self, array=self.array * self.array.dtype.type(factor), scale=scale)


def initializers(model: onnx.ModelProto, folder: Path) -> Iterator[tuple[str, Constant]]:
    """The arrays that the file stores; those outside it must be in its folder."""
    if model.graph.sparse_initializer:
        raise UnsupportedLayerError("sparse initializers are not supported")
    recorded = _recorded(model)
    for tensor in model.graph.initializer:
        try:
            array = numpy_helper.to_array(tensor, str(folder))
        except (onnx.checker.ValidationError, ValueError, TypeError, OSError) as error:
            raise ModelFileError(f"initializer {tensor.name!r}: {error}") from None
        yield tensor.name, Constant(array, None, *recorded.get(tensor.name, (0.0, False, 1)))


def _recorded(model: onnx.ModelProto) -> dict[str, tuple[float, bool, int]]:
    """What our own export notes of its tables of codes: bits, quantized_bias and spacing."""
    for entry in model.metadata_props:
        if entry.key == QUANTIZATION_KEY:
            notes = json.loads(entry.value)
            return {
                str(name): (
                    float(note["bits"]),
                    bool(note["quantized_bias"]),
                    int(note["spacing"]),
                )
                for name, note in notes.items()
            }
    return {}


class Folding:
    """What nodes compute from constants, by the reference implementation of the onnx package."""

    def __init__(self, opset: int):
        self.opset = opset
        self.made = 0

    def fold(self, node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> list[Constant]:
        """Outputs of a node whose inputs are constants."""
        title = f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})"
        if node.op_type not in FOLDED or node.domain not in ("", "ai.onnx"):
            raise UnsupportedLayerError(
                f"{title}: not computed from constants; known: {', '.join(sorted(FOLDED))}"
            )
        _check_size(title, node, [None if value is None else value.array for value in inputs])
        try:
            with np.errstate(all="ignore"):
                arrays = self.computed(node, inputs)
        except Exception as error:
            raise ModelFileError(f"{title}: {type(error).__name__}: {error}") from None
        self.made += sum(array.size for array in arrays)
        if self.made > MOST_CONSTANTS:
            raise ShapeError(f"{title}: nodes make constants beyond {MOST_CONSTANTS} elements")
        return [_gridded(node, inputs, arrays[0]), *map(Constant, arrays[1:])]

    def computed(self, node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> list[np.ndarray]:
        from onnx.reference import ReferenceEvaluator

        names = [f"input_{i}" if value is not None else "" for i, value in enumerate(inputs)]
        outputs = [f"output_{i}" for i in range(len(node.output))]
        alone = helper.make_node(node.op_type, names, outputs)
        alone.attribute.extend(node.attribute)
        free = onnx.TypeProto()
        graph = helper.make_graph(
            [alone],
            "constant",
            [helper.make_value_info(name, free) for name in names if name],
            [helper.make_value_info(name, free) for name in outputs],
        )
        opset = max(self.opset, 19) if "quantize" in node.op_type.lower() else self.opset
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        arrays = {
            name: value.array
            for name, value in zip(names, inputs, strict=True)
            if value is not None
        }
        return [np.asarray(array) for array in ReferenceEvaluator(model).run(None, arrays)]


def _gridded(
    node: onnx.NodeProto, inputs: Sequence[Constant | None], array: np.ndarray
) -> Constant:
    """A result, with the grid on which it lies where it is made of integers."""
    x, *others = (*inputs, None)
    if x is None or array.dtype not in (np.float32, np.float64):
        return Constant(array)
    other = others[0]
    attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    scale, bits = x.scale, x.bits
    match node.op_type:
        case "Cast" if x.array.dtype.name.upper() in SMALL_INTEGERS:
            scale = np.full((1,) * array.ndim, 1 / max(x.spacing, 1))
            bits = bits or _bits(x.array.dtype)
        case "DequantizeLinear" if "block_size" not in attributes and other is not None:
            scale, bits = other.array.astype(np.float64), bits or _bits(x.array.dtype)
            if scale.size == 1:
                scale = scale.reshape((1,) * array.ndim)
            else:
                axis = attributes.get("axis", 1) % array.ndim
                scale = scale.reshape([-1 if i == axis else 1 for i in range(array.ndim)])
        case "Sub" if scale is not None and other is not None and other.array.size == 1:
            halves = float(other.array.reshape(())) * 2 / scale.reshape(-1)[0]
            if scale.size > 1 or halves % 1:
                scale = None
            elif halves % 2:
                scale = scale / 2
        case "Mul" if scale is not None and other is not None and other.array.ndim == array.ndim:
            factor = np.where(other.array == 0, 1, other.array)
            if not (factor == 1).all():
                scale = scale * factor.astype(np.float64)
        case "Transpose":
            return x.transposed(attributes.get("perm", range(array.ndim)[::-1]))
        case "Reshape" | "Unsqueeze" | "Identity":
            return x.reshaped(array.shape)
        case _:
            scale = None
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        return Constant(array)
    return Constant(array, scale, bits, x.quantized_bias)


def _bits(dtype: np.dtype) -> float:
    return float("".join(character for character in dtype.name if character.isdigit()))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[0] == 1:
        shape = shape[1:]
    return shape


def _check_size(title: str, node: onnx.NodeProto, arrays: Sequence[np.ndarray | None]) -> None:
    """Refuse a node that would make something huge out of little."""
    sizes = [array.size for array in arrays if array is not None]
    operands = [array for array in arrays if array is not None]
    size: float
    match node.op_type:
        case "ConstantOfShape":
            size = _product(operands[0])
        case "Expand":
            size = sizes[0] * _product(operands[1])
        case "Range":
            start, stop, step = (float(array.reshape(-1)[0]) for array in operands)
            size = abs((stop - start) / step) if step else 0
        case "Concat" | "Slice" | "Split" | "Reshape" | "DequantizeLinear" | "QuantizeLinear":
            size = sum(sizes)
        case "MatMul":
            size = sizes[0] * sizes[1] / max(1, *operands[0].shape[-1:]) ** 2
        case "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Where" | "Max" | "Min":
            size = _product(np.array(np.broadcast_shapes(*(array.shape for array in operands))))
        case _:
            size = max(sizes, default=1) * (min(sizes) if len(sizes) > 1 else 1)
    if not size <= LARGEST_CONSTANT:
        raise ShapeError(f"{title}: makes a constant beyond {LARGEST_CONSTANT} elements")


def _product(lengths: np.ndarray) -> int:
    product = 1
    for length in lengths.ravel():
        product *= abs(int(length))
    return product
