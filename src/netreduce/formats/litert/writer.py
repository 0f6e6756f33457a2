"""Export of a network to LiteRT (formerly TensorFlow Lite), through Keras and TensorFlow's
converter, and with the weights of quantized layers as integers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.formats import save
from netreduce.formats.integers import IntegerKernel, integer_kernel
from netreduce.network import Network
from netreduce.network.layers import (
    ActivationGrid,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Weighted,
)

from .graph import Graph, packed

# LiteRT's operator for each kind of layer, and where in its weights the outputs are
OPERATORS: dict[str, tuple[type[Weighted], int]] = {
    "FULLY_CONNECTED": (Dense, 0),
    "CONV_2D": (Conv2D, 0),
    "DEPTHWISE_CONV_2D": (DepthwiseConv2D, 3),
    "TRANSPOSE_CONV": (Conv2DTranspose, 0),
}
FOLDED = 1e-6  # rounding of weights that the converter multiplies by a batch normalization


def to_litert(network: Network) -> bytes:
    """The network as a LiteRT file in float32 that reads (batch, *input_shape).

    The weights of a quantized layer with one scale, or one for each output, are integers of 2, 4
    or 8 bits, whichever hold its codes. The runtime turns them into floats; what it computes is
    the same to float32 rounding. Where 0 is not a level of the grid, it adds half a step to the
    weights of up to 8 bits each time it runs, which takes about as long as a dense layer does for
    one sample.

    A network whose activations lie on grids is written as one that runs in integers: see
    `litert.integers`.

    Raises
    ------
    UnsupportedLayerError
        Keras or the converter does not have a layer.
    """
    if any(isinstance(layer, ActivationGrid) for layer in network.layers):
        from .integers import to_integer_litert

        return to_integer_litert(network)

    import keras
    import tensorflow as tf

    with TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        save(network, path)
        try:
            model = keras.saving.load_model(path, compile=False)
            content = tf.lite.TFLiteConverter.from_keras_model(model).convert()
        except Exception as error:  # of many kinds
            raise UnsupportedLayerError(
                f"TensorFlow's converter to LiteRT refuses the network: {error}"
            ) from error
    kernels = {
        layer: kernel
        for layer in network.layers
        if isinstance(layer, Weighted) and (kernel := integer_kernel(layer)) is not None
    }
    return with_integers(content, kernels) if kernels else content


def with_integers(content: bytes, kernels: dict[Weighted, IntegerKernel]) -> bytes:
    """A LiteRT file whose float weights are the kernels of quantized layers, with integers in
    their place.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    waiting = dict(kernels)
    for graph in model.subgraphs:
        _Rewriting(model, graph, waiting).run()
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    for index, buffer in enumerate(model.buffers):
        if index not in read and index not in {entry.buffer for entry in model.metadata or ()}:
            buffer.data = None
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


@dataclass(frozen=True, eq=False)
class _Stored:
    """Weights as (integers · scale + shift) · factor, in the order of axes of LiteRT."""

    integers: np.ndarray
    width: int
    scale: np.ndarray
    shift: np.ndarray
    factor: np.ndarray | None


class _Rewriting(Graph):
    """One graph of a LiteRT file, whose weights become integers with nodes behind them."""

    def __init__(self, model: Any, graph: Any, kernels: dict[Weighted, IntegerKernel]):
        super().__init__(model, graph)
        self.kernels = kernels
        self.replaced: dict[int, int] = {}  # weights that several operators read are one tensor
        self.codes = {
            getattr(self.schema.BuiltinOperator, name): rule for name, rule in OPERATORS.items()
        }

    def run(self) -> None:
        operators, self.graph.operators = self.graph.operators, []
        for operator in operators:
            code = self.model.operatorCodes[operator.opcodeIndex].builtinCode
            if code in self.codes:
                self.rewrite(operator, *self.codes[code])
            self.graph.operators.append(operator)

    def rewrite(self, operator: Any, kind: type[Weighted], axis: int) -> None:
        """Let an operator read integers, if its weights are the kernel of a quantized layer."""
        index = int(operator.inputs[1])
        if index in self.replaced:
            operator.inputs[1] = self.replaced[index]
            return
        tensor = self.graph.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or tensor.type != self.schema.TensorType.FLOAT32:
            return
        weights = np.frombuffer(bytes(data), np.float32).reshape(tensor.shape)
        for layer, kernel in self.kernels.items():
            stored = _stored(weights, layer, kernel, axis) if isinstance(layer, kind) else None
            if stored is not None:
                del self.kernels[layer]
                self.replaced[index] = operator.inputs[1] = self.floats(tensor, stored, axis)
                tensor.buffer, tensor.shape = 0, [0]  # nothing reads it
                return

    def floats(self, tensor: Any, stored: _Stored, axis: int) -> int:
        """Integers, and the nodes that turn them into floats; the index of their last output."""
        shape, width = stored.integers.shape, stored.width
        grid = self.grid(stored.scale, axis=axis)
        content = packed(stored.integers, width)
        codes = self.tensor(tensor.name, f"INT{width}", shape, content, grid)
        version = 6 if width < 8 else 5 if len(stored.scale) > 1 else 2
        out = self.node("DEQUANTIZE", version, [codes], self.weights(shape))
        for name, array in (("ADD", stored.shift), ("MUL", stored.factor)):
            if array is not None and (name == "MUL" or array.any()):
                other = self.constant(array.astype(np.float32))
                out = self.node(name, 1, [out, other], self.weights(shape))
        return out

    def weights(self, shape: Sequence[int]) -> int:
        return self.tensor("weights", "FLOAT32", shape)


def _stored(
    weights: np.ndarray, layer: Weighted, kernel: IntegerKernel, axis: int
) -> _Stored | None:
    """Weights of a file as integers, if they are those of that layer, each output perhaps times a
    factor; None otherwise.
    """
    floats = arranged(layer, np.asarray(layer.kernel, np.float64))
    if floats.shape != weights.shape or kernel.width > 8:
        return None
    others = tuple(i for i in range(weights.ndim) if i != axis)
    step = arranged(layer, np.broadcast_to(kernel.step, layer.kernel.shape))
    steps = step.max(axis=others, keepdims=True)
    largest = np.abs(floats).max(axis=others, keepdims=True)
    factor = _ratio(weights, floats, others)
    if (step != steps).any() or not np.allclose(
        weights, factor * floats, rtol=0, atol=FOLDED * float((np.abs(factor) * largest).max())
    ):
        return None
    half = 1 << (kernel.width - 1)
    least = kernel.integers.min() - kernel.offset
    most = kernel.integers.max() - kernel.offset
    whole = kernel.offset == int(kernel.offset) and -half <= least and most < half
    start = int(kernel.offset) if whole else half
    integers = arranged(layer, kernel.integers.astype(np.int64) - start)
    shift = np.array([start - kernel.offset])
    if kernel.alive is not None:
        alive = arranged(layer, np.broadcast_to(kernel.alive, layer.kernel.shape))
        integers = np.where(alive, integers, 0)
        shared = alive.any(axis=axis, keepdims=True)
        shift = shift * (shared if (alive == shared).all() else alive)
    scale = (factor * steps).ravel()
    if (scale == scale[0]).all() and scale[0] > 0:
        return _Stored(integers, kernel.width, scale[:1], shift * scale[0], None)
    if not shift.any() and (scale > 0).all():
        return _Stored(integers, kernel.width, scale, shift, None)
    return _Stored(integers, kernel.width, np.ones(1), shift, factor * steps)


def _ratio(weights: np.ndarray, floats: np.ndarray, others: tuple[int, ...]) -> np.ndarray:
    """For each output, what its weights are times those of the layer; 1 where these are 0."""
    weights = weights.astype(np.float64)
    if np.array_equal(weights, floats):
        return np.ones([1 if i in others else n for i, n in enumerate(floats.shape)])
    norm = (floats**2).sum(axis=others, keepdims=True)
    product = (weights * floats).sum(axis=others, keepdims=True)
    return np.divide(product, norm, out=np.ones_like(norm), where=norm > 0)


def arranged(layer: Weighted, array: np.ndarray) -> np.ndarray:
    """A kernel in LiteRT's order of axes."""
    match layer:
        case Dense():
            return array.T
        case DepthwiseConv2D():
            return array.reshape(1, *array.shape[:2], -1)
        case Conv2DTranspose():
            return array.transpose(2, 0, 1, 3)
    return array.transpose(3, 0, 1, 2)
