"""Tensors and operators of a LiteRT model, in the words of its schema."""

from collections.abc import Sequence
from typing import Any

import numpy as np

# The schema's options of each operator that is written.
OPTIONS = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "DIV": "DivOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GATHER": "GatherOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
}


class Graph:
    """One graph of a model, that grows.

    Parameters
    ----------
    model, graph
        Objects of the schema; an empty model by default.
    """

    def __init__(self, model: Any = None, graph: Any = None):
        from tensorflow.lite.python import schema_py_generated as schema

        self.schema = schema
        if model is None:
            model, graph = schema.ModelT(), schema.SubGraphT()
            model.version, model.description = 3, "netreduce"
            model.buffers, model.operatorCodes, model.subgraphs = [schema.BufferT()], [], [graph]
            graph.name, graph.tensors, graph.operators = "main", [], []
        self.model, self.graph = model, graph

    def to_bytes(self) -> bytes:
        from tensorflow.lite.tools import flatbuffer_utils

        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    def tensor(
        self,
        name: str,
        kind: str,
        shape: Sequence[int | None],
        content: np.ndarray | None = None,
        grid: Any = None,
    ) -> int:
        """Add a tensor and return its index; None in a shape stands for any length."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.type = name, getattr(self.schema.TensorType, kind)
        lengths = [1 if length is None else length for length in shape]
        tensor.shape = np.array(lengths, np.int32)
        if None in shape:
            signature = [-1 if length is None else length for length in shape]
            tensor.shapeSignature = np.array(signature, np.int32)
        tensor.hasRank, tensor.quantization, tensor.buffer = True, grid, 0
        if content is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.ascontiguousarray(content).view(np.uint8).ravel()
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, array: np.ndarray, name: str = "constant") -> int:
        """Add an array of float32 or int32."""
        kind = {np.dtype(np.float32): "FLOAT32", np.dtype(np.int32): "INT32"}[array.dtype]
        return self.tensor(name, kind, array.shape, array)

    def grid(self, scale: np.ndarray, zero_point: int = 0, axis: int = 0) -> Any:
        """How integers stand for numbers: with one scale, or one for each entry of an axis."""
        grid = self.schema.QuantizationParametersT()
        grid.scale = np.asarray(scale, np.float32).ravel()
        grid.zeroPoint = np.full(len(grid.scale), zero_point, np.int64)
        grid.quantizedDimension = axis if len(grid.scale) > 1 else 0
        return grid

    def node(
        self, name: str, version: int, inputs: Sequence[int], output: int, **options: Any
    ) -> int:
        """Add an operator and return its output; options in the words of the schema."""
        operator = self.schema.OperatorT()
        code = getattr(self.schema.BuiltinOperator, name)
        operator.opcodeIndex = self._code(code, version)
        operator.inputs, operator.outputs = list(inputs), [output]
        if name in OPTIONS:
            kind = OPTIONS[name]
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self.schema, f"{kind}T")()
            for key, value in options.items():
                setattr(operator.builtinOptions, key, value)
        self.graph.operators.append(operator)
        return output

    def _code(self, code: int, version: int) -> int:
        for index, known in enumerate(self.model.operatorCodes):
            if known.builtinCode == code and known.version >= version:
                return index
        entry = self.schema.OperatorCodeT()
        entry.builtinCode, entry.version = code, version
        entry.deprecatedBuiltinCode = min(code, 127)
        self.model.operatorCodes.append(entry)
        return len(self.model.operatorCodes) - 1


def to_bytes(model: Any) -> bytes:
    """A model as the content of a file, in which equal vectors and names stand once, such as the
    zero points of all layers.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    class Builder(flatbuffer_utils.flatbuffers.Builder):
        def __init__(self) -> None:
            super().__init__(1024)
            self.written: dict[tuple[np.dtype, bytes], int] = {}
            self.names: dict[str, int] = {}

        def CreateString(self, s: str, **options: Any) -> int:
            if s not in self.names:
                self.names[s] = super().CreateString(s, **options)
            return self.names[s]

        def CreateNumpyVector(self, x: np.ndarray) -> int:
            key = x.dtype, x.tobytes()
            if key not in self.written:
                self.written[key] = super().CreateNumpyVector(x)
            return self.written[key]

    builder = Builder()
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def packed(integers: np.ndarray, width: int) -> np.ndarray:
    """Two's complement integers, the first ones in the lowest bits of each byte."""
    count = 8 // width
    flat = integers.ravel() & ((1 << width) - 1)
    flat = np.pad(flat, (0, -len(flat) % count)).reshape(-1, count)
    return (flat << np.arange(0, 8, width)).sum(axis=1).astype(np.uint8)
