"""Constants of ONNX files: initializers, and what nodes compute from constants alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netreduce.errors import ModelFileError, ShapeError, UnsupportedLayerError

LARGEST_CONSTANT = 1 << 24  # elements that one node may make
FOLDED = {
    *("Abs", "Add", "And", "Cast", "CastLike", "Ceil", "Concat", "Constant", "ConstantOfShape"),
    *("DequantizeLinear", "Div", "Equal", "Exp", "Expand", "Flatten", "Floor", "Gather", "Greater"),
    *("GreaterOrEqual", "Identity", "Less", "LessOrEqual", "Log", "MatMul", "Max", "Min", "Mod"),
    *("Mul", "Neg", "Not", "Or", "Pow", "Range", "Reciprocal", "ReduceMax", "ReduceMin"),
    *("ReduceProd", "ReduceSum", "Reshape", "Round", "Shape", "Sign", "Size", "Slice", "Split"),
    *("Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where"),
}


@dataclass(frozen=True, eq=False)
class Constant:
    """An array of the file that does not depend on the network's input.

    Attributes
    ----------
    array : ndarray
    scale : ndarray, optional
        Where the array is scale · integers, as the file stores it: the scale, which broadcasts
        against the array and has as many axes.
    """

    array: np.ndarray
    scale: np.ndarray | None = None

    def transposed(self, axes: Sequence[int]) -> "Constant":
        """The array with its axes in another order."""
        scale = None if self.scale is None else self.scale.transpose(axes)
        return Constant(self.array.transpose(axes), scale)

    def reshaped(self, shape: Sequence[int]) -> "Constant":
        """The array in another shape; its grid goes where it has a scale for parts of it."""
        scale = self.scale
        if scale is not None and self.array.shape != tuple(shape):
            scale = scale.reshape((1,) * len(shape)) if scale.size == 1 else None
        return Constant(self.array.reshape(shape), scale)

    def scaled(self, factor: float) -> "Constant":
        """The array times a number."""
        if factor == 1:
            return self
        factor = self.array.dtype.type(factor)
        return Constant(self.array * factor, None if self.scale is None else self.scale * factor)


def initializers(graph: onnx.GraphProto, folder: Path) -> Iterator[tuple[str, Constant]]:
    """The arrays that the file stores; those outside it must be in its folder."""
    if graph.sparse_initializer:
        raise UnsupportedLayerError("sparse initializers are not supported")
    for tensor in graph.initializer:
        try:
            yield tensor.name, Constant(numpy_helper.to_array(tensor, str(folder)))
        except (onnx.checker.ValidationError, ValueError, TypeError, OSError) as error:
            raise ModelFileError(f"initializer {tensor.name!r}: {error}") from None


class Folding:
    """What nodes compute from constants, by the reference implementation of the onnx package."""

    def __init__(self, opset: int):
        self.opset = opset

    def fold(self, node: onnx.NodeProto, inputs: Sequence[Constant | None]) -> list[Constant]:
        """Outputs of a node whose inputs are constants."""
        from onnx.reference import ReferenceEvaluator

        title = f"node {node.name or next(iter(node.output), '')!r} ({node.op_type})"
        if node.op_type not in FOLDED or node.domain not in ("", "ai.onnx"):
            raise UnsupportedLayerError(
                f"{title}: not computed from constants; known: {', '.join(sorted(FOLDED))}"
            )
        _check_size(title, node, [None if value is None else value.array for value in inputs])
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
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        arrays = {
            name: value.array
            for name, value in zip(names, inputs, strict=True)
            if value is not None
        }
        try:
            with np.errstate(all="ignore"):
                results = ReferenceEvaluator(model).run(None, arrays)
        except Exception as error:
            raise ModelFileError(f"{title}: {type(error).__name__}: {error}") from None
        return [Constant(np.asarray(array)) for array in results]


def _check_size(title: str, node: onnx.NodeProto, arrays: Sequence[np.ndarray | None]) -> None:
    """Refuse a node that would make something huge out of little."""
    sizes = [array.size for array in arrays if array is not None]
    match node.op_type:
        case "ConstantOfShape":
            size = _product(arrays[0])
        case "Expand":
            size = sizes[0] * _product(arrays[1])
        case "Range":
            start, stop, step = (float(array.reshape(-1)[0]) for array in arrays)
            size = abs((stop - start) / step) if step else 0
        case "Concat":
            size = sum(sizes)
        case "Gather":
            size = sizes[0] * sizes[1]
        case "MatMul":
            size = sizes[0] * sizes[1] // max(1, min(arrays[0].shape[-1:], default=1))
        case _:
            size = max(1, max(sizes, default=1)) * (min(sizes, default=1) if len(sizes) > 1 else 1)
    if not size <= LARGEST_CONSTANT:
        raise ShapeError(f"{title}: makes a constant beyond {LARGEST_CONSTANT} elements")


def _product(lengths: np.ndarray) -> int:
    product = 1
    for length in lengths.ravel():
        product *= abs(int(length))
    return product
