"""Networks as ONNX models."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netreduce.errors import UnsupportedLayerError
from netreduce.formats.integers import IntegerKernel, integer_kernel
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
    Reshape,
    Shape,
    Subtract,
    UpSampling2D,
    Weighted,
    Widths,
    ZeroPadding2D,
)

from .constants import QUANTIZATION_KEY

# By the bits of a table of codes: its type, and the oldest operator set and version of the file
# format that have it.
INTEGERS = {
    2: (onnx.TensorProto.UINT2, 25, 13),
    4: (onnx.TensorProto.UINT4, 21, 10),
    8: (onnx.TensorProto.UINT8, 17, 8),
    16: (onnx.TensorProto.UINT16, 17, 8),
}
OPERATORS = {
    "relu": "Relu",
    "selu": "Selu",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
    "exponential": "Exp",
    "hard_swish": "HardSwish",
}


def to_onnx(network: Network, dialect: str = "onnx") -> onnx.ModelProto:
    """The network as an ONNX model in float32 that reads (batch, *input_shape), channels last.

    The kernel of a quantized layer is a table of unsigned integers of 2, 4, 8 or 16 bits, whichever
    hold its codes, that nodes turn into floats: (integers − offset) · step. Runtimes compute these
    nodes once, when they load the model; the numbers are those of the network to float32 rounding,
    whatever the runtime optimizes. (DequantizeLinear would say the same, but ONNX Runtime
    takes it as leave to round the activations to 8 bits.)

    A network whose activations lie on grids is written with QuantizeLinear and DequantizeLinear
    instead, weights and activations in 8 bits, biases in 32: see `onnx.integers`; in the dialect
    "qonnx", with its Quant nodes: see `onnx.qonnx`.

    Examples
    --------
    >>> import numpy as np
    >>> from netreduce import Dense, Network
    >>> model = to_onnx(Network([Dense(np.ones((3, 2)))], (3,)))
    >>> [node.op_type for node in model.graph.node]
    ['Gemm', 'Identity']
    """
    graph = Graph(network)
    if dialect == "qonnx":
        from .qonnx import QonnxGraph

        graph = QonnxGraph(network)
    elif any(isinstance(layer, ActivationGrid) for layer in network.layers):
        from .integers import IntegerGraph

        graph = IntegerGraph(network)
    for index in range(len(network.layers)):
        graph.layer(index)
    graph.title = "output"
    graph.node("Identity", [graph.channels_last(len(network.layers) - 1)], name="output")
    tensor = onnx.TensorProto.FLOAT
    opset, version = max(graph.versions)
    model = helper.make_model(
        helper.make_graph(
            _read(graph.nodes, "output"),
            "network",
            [helper.make_tensor_value_info("input", tensor, [graph.batch, *network.input_shape])],
            [helper.make_tensor_value_info("output", tensor, [graph.batch, *network.shapes[-1]])],
            graph.constants,
        ),
        opset_imports=[
            helper.make_opsetid("", opset),
            *(helper.make_opsetid(domain, 1) for domain in graph.domains),
        ],
        producer_name="netreduce",
        ir_version=version,
    )
    if graph.quantized:
        helper.set_model_props(model, {QUANTIZATION_KEY: json.dumps(graph.quantized)})
    onnx.checker.check_model(model)
    return model


def _read(nodes: list[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """Nodes without those that nothing reads."""
    read, kept = {output}, []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read.update(node.input)
            kept.append(node)
    return kept[::-1]


class Graph:
    """Nodes and constants of an ONNX graph as it grows; ONNX wants images channels first, the
    network has them last.
    """

    domains: tuple[str, ...] = ()  # of operators that are not ONNX's
    batch: int | str = "batch"  # samples that the model reads

    def __init__(self, network: Network):
        self.network = network
        self.sources = tuple(network.sources or ())
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.title = "input"  # of the layer that is being written
        self.versions = {INTEGERS[8][1:]}
        self.quantized: dict[str, dict[str, float | bool]] = {}
        # name of every layer's output, channels first (images only) and channels last
        self.first: dict[int, str] = {}
        self.last = {INPUT: "input"}
        self.shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}

    def node(self, operator: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = name or f"{self.title}.{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array: np.ndarray, what: str = "constant") -> str:
        name = f"{self.title}.{what}"
        if any(constant.name == name for constant in self.constants):
            name += f"_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def number(self, value: float) -> str:
        return self.constant(np.array(value, np.float32))

    def integers(self, values: Sequence[int], what: str) -> str:
        return self.constant(np.array(values, np.int64), what)

    def is_image(self, index: int) -> bool:
        return len(self.shapes[index]) == 3

    def axis(self, index: int) -> int:
        """Where an output has its channels."""
        return 1 if self.is_image(index) else -1

    def channels_first(self, index: int) -> str:
        if not self.is_image(index):
            return self.last[index]
        if index not in self.first:
            self.first[index] = self.node("Transpose", [self.last[index]], perm=[0, 3, 1, 2])
        return self.first[index]

    def channels_last(self, index: int) -> str:
        if index not in self.last:
            self.last[index] = self.node("Transpose", [self.first[index]], perm=[0, 2, 3, 1])
        return self.last[index]

    def layer(self, index: int) -> None:
        """Write one layer."""
        layer, sources = self.network.layers[index], self.sources[index]
        self.title = self.network.names[index]
        match layer:
            case Dropout():
                for outputs in (self.first, self.last):
                    if sources[0] in outputs:
                        outputs[index] = outputs[sources[0]]
            case Flatten() | Reshape() | Permute():
                self.last[index] = self.rearranged(layer, self.channels_last(sources[0]))
            case _:
                output = self.computed(layer, index, sources)
                (self.first if self.is_image(index) else self.last)[index] = output

    def rearranged(self, layer: Layer, x: str) -> str:
        match layer:
            case Reshape():
                return self.node("Reshape", [x, self.integers([0, *layer.shape], "shape")])
            case Permute():
                return self.node("Transpose", [x], perm=[0, *layer.order])
        return self.node("Flatten", [x])

    def computed(self, layer: Layer, index: int, sources: Sequence[int]) -> str:
        """A layer whose input and output are channels first where they are images."""
        x, shape = self.channels_first(sources[0]), self.shapes[sources[0]]
        match layer:
            case Weighted():
                linear = self.weighted(layer, x, shape)
                return self.activation(linear, Activation(layer.activation), self.axis(index))
            case Activation():
                return self.activation(x, layer, self.axis(index))
            case BatchNormalization() if len(shape) in (1, 3):
                parameters = [
                    self.constant(array.astype(np.float32), name)
                    for name, array in layer.arrays().items()
                ]
                return self.node("BatchNormalization", [x, *parameters], epsilon=layer.epsilon)
            case BatchNormalization():
                slope, intercept = layer.affine()
                scaled = self.node("Mul", [x, self.parameter(slope, shape, "slope")])
                return self.node("Add", [scaled, self.parameter(intercept, shape, "intercept")])
            case Rescaling():
                scaled = self.node("Mul", [x, self.parameter(layer.scale, shape, "scale")])
                return self.node("Add", [scaled, self.parameter(layer.offset, shape, "offset")])
            case Normalization():
                slope, _ = layer.affine()
                moved = self.node("Sub", [x, self.parameter(layer.mean, shape, "mean")])
                return self.node("Div", [moved, self.parameter(1 / slope, shape, "deviation")])
            case PReLU():
                return self.node("PRelu", [x, self.parameter(layer.alpha, shape, "alpha")])
            case MaxPooling2D() | AveragePooling2D():
                return self.pooling(layer, x, shape)
            case GlobalAveragePooling2D():
                return self.node("Flatten", [self.node("GlobalAveragePool", [x])])
            case GlobalMaxPooling2D():
                return self.node("Flatten", [self.node("GlobalMaxPool", [x])])
            case ZeroPadding2D():
                top, bottom, left, right = layer.padding
                pads = self.integers([0, 0, top, left, 0, 0, bottom, right], "padding")
                readers = [self.network.layers[i] for i in self.network.readers(index)]
                fused = all(isinstance(reader, Conv2D | DepthwiseConv2D) for reader in readers)
                # ONNX Runtime takes padding with +0 for that of a MaxPool behind it, as if no zeros
                return self.node("Pad", [x, pads, self.number(0.0 if fused else -0.0)])
            case Cropping2D():
                (rows, columns, _), (top, _, left, _) = self.shapes[index], layer.cropping
                slices = {"starts": (top, left), "ends": (top + rows, left + columns)}
                limits = [self.integers(values, name) for name, values in slices.items()]
                return self.node("Slice", [x, *limits, self.integers((2, 3), "axes")])
            case UpSampling2D():
                return self.upsampling(layer, x)
            case Add() | Subtract() | Multiply():
                operator = {Add: "Add", Subtract: "Sub", Multiply: "Mul"}[type(layer)]
                rank = len(self.shapes[index])
                output = self.broadcast(sources[0], rank)
                for other in sources[1:]:
                    output = self.node(operator, [output, self.broadcast(other, rank)])
                return output
            case Concatenate():
                inputs = [self.channels_first(source) for source in sources]
                return self.node("Concat", inputs, axis=self.axis(index))
        raise UnsupportedLayerError(
            f"{self.title}: {type(layer).__name__} has no counterpart in the ONNX export"
        )

    def parameter(self, array: np.ndarray, shape: Shape, what: str) -> str:
        """An array that broadcasts against an input of that shape."""
        array = array.astype(np.float32).reshape((1,) * (len(shape) - array.ndim) + array.shape)
        return self.constant(array.transpose(2, 0, 1) if len(shape) == 3 else array, what)

    def broadcast(self, index: int, rank: int) -> str:
        """An output with further axes of length 1 in front, where it has fewer than `rank`."""
        missing = rank - len(self.shapes[index])
        if not missing:
            return self.channels_first(index)
        axes = self.integers(range(1, missing + 1), "axes")
        output = self.node("Unsqueeze", [self.last[index], axes])
        return self.node("Transpose", [output], perm=[0, 3, 1, 2]) if rank == 3 else output

    def weighted(self, layer: Weighted, x: str, shape: Shape) -> str:
        """Everything before the activation."""
        inputs = [x, *self.parameters(layer)]
        match layer:
            case Dense():
                return self.node("Gemm", inputs)
            case Conv2D() | DepthwiseConv2D():
                return self.node(
                    "Conv",
                    inputs,
                    strides=layer.strides,
                    dilations=layer.dilation,
                    pads=pads(layer.padding_widths(shape)),
                    group=shape[2] if isinstance(layer, DepthwiseConv2D) else layer.groups,
                )
            case Conv2DTranspose():
                ends = [
                    (size - 1) * stride + kernel - start - length
                    for size, stride, kernel, (start, length) in zip(
                        shape, layer.strides, layer.kernel.shape, layer.crop(shape), strict=False
                    )
                ]
                (top, _), (left, _) = layer.crop(shape)
                return self.node(
                    "ConvTranspose",
                    inputs,
                    strides=layer.strides,
                    pads=(top, left, *(max(end, 0) for end in ends)),
                    output_padding=[max(-end, 0) for end in ends],
                )
        raise UnsupportedLayerError(
            f"{self.title}: {type(layer).__name__} has no counterpart in the ONNX export"
        )

    def parameters(self, layer: Weighted) -> list[str]:
        """Kernel and bias."""
        return [self.kernel(layer), self.constant(np.asarray(layer.bias, np.float32), "bias")]

    def kernel(self, layer: Weighted) -> str:
        """A kernel as numbers, or as integers that are turned into them."""
        integers = integer_kernel(layer)
        if integers is None:
            return self.constant(arranged(layer, np.asarray(layer.kernel, np.float32)), "kernel")
        return self.from_integers(layer, integers)

    def from_integers(self, layer: Weighted, integers: IntegerKernel) -> str:
        kind, opset, version = INTEGERS[integers.width]
        table = arranged(layer, integers.integers).astype(helper.tensor_dtype_to_np_dtype(kind))
        codes = self.constant(table, "codes")
        self.versions.add((opset, version))
        self.quantized[codes] = {
            "bits": float(integers.quantization.bits),
            "quantized_bias": integers.quantization.quantized_bias,
            "spacing": integers.spacing,
        }
        kernel = self.node("Cast", [codes], to=onnx.TensorProto.FLOAT)
        kernel = self.node("Sub", [kernel, self.number(integers.offset)])
        step = self.constant(arranged(layer, integers.step.astype(np.float32)), "step")
        kernel = self.node("Mul", [kernel, step])
        if integers.alive is None:
            return kernel
        alive = self.constant(arranged(layer, integers.alive), "alive")
        alive = self.node("Cast", [alive], to=onnx.TensorProto.FLOAT)
        return self.node("Mul", [kernel, alive])

    def pooling(self, layer: MaxPooling2D | AveragePooling2D, x: str, shape: Shape) -> str:
        counted: dict[str, Any] = (
            {"count_include_pad": int(layer.count_padding)}
            if isinstance(layer, AveragePooling2D)
            else {}
        )
        return self.node(
            "MaxPool" if isinstance(layer, MaxPooling2D) else "AveragePool",
            [x],
            kernel_shape=layer.pool_size,
            strides=layer.strides,
            pads=pads(layer.padding_widths(shape)),
            **counted,
        )

    def upsampling(self, layer: UpSampling2D, x: str) -> str:
        scales = self.constant(np.array([1, 1, *layer.size], np.float32), "scales")
        if layer.interpolation == "nearest":
            settings = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        else:
            settings = {"coordinate_transformation_mode": "half_pixel"}
        mode = {"nearest": "nearest", "bilinear": "linear"}[layer.interpolation]
        return self.node("Resize", [x, "", scales], mode=mode, **settings)

    def activation(self, x: str, layer: Activation, axis: int) -> str:
        match layer.name:
            case "linear":
                return x
            case "relu" | "leaky_relu":
                return self.rectified(x, layer)
            case "relu6":
                return self.node("Clip", [x, self.number(0), self.number(6)])
            case "elu":
                return self.node("Elu", [x], alpha=layer.alpha)
            case "hard_sigmoid":
                return self.node("HardSigmoid", [x], alpha=1 / 6, beta=0.5)
            case "hard_sigmoid_keras2":
                return self.node("HardSigmoid", [x], alpha=0.2, beta=0.5)
            case "silu":
                return self.node("Mul", [x, self.node("Sigmoid", [x])])
            case "mish":
                return self.node("Mul", [x, self.node("Tanh", [self.node("Softplus", [x])])])
            case "gelu":
                erf = self.node("Erf", [self.node("Mul", [x, self.number(np.sqrt(0.5))])])
                return self.gate(x, erf)
            case "gelu_tanh":
                cube = self.node("Mul", [x, self.node("Mul", [x, x])])
                cube = self.node("Mul", [cube, self.number(0.044715)])
                inner = self.node("Add", [x, cube])
                inner = self.node("Mul", [inner, self.number(np.sqrt(2 / np.pi))])
                return self.gate(x, self.node("Tanh", [inner]))
            case "softmax" | "log_softmax":
                operator = {"softmax": "Softmax", "log_softmax": "LogSoftmax"}[layer.name]
                return self.node(operator, [x], axis=axis)
        if layer.name not in OPERATORS:
            raise UnsupportedLayerError(
                f"{self.title}: activation {layer.name!r} has no counterpart in the ONNX export"
            )
        return self.node(OPERATORS[layer.name], [x])

    def rectified(self, x: str, layer: Activation) -> str:
        """relu and leaky_relu with all their parameters."""
        slope = layer.negative_slope if layer.name == "leaky_relu" else 0.0
        if layer.max_value is None and layer.threshold == 0:
            return self.node("LeakyRelu", [x], alpha=slope) if slope else self.node("Relu", [x])
        if layer.max_value is not None and layer.threshold == 0 and slope == 0:
            return self.node("Clip", [x, self.number(0), self.number(layer.max_value)])
        above = self.node("ThresholdedRelu", [x], alpha=layer.threshold)
        if layer.max_value is not None:
            above = self.node("Min", [above, self.number(layer.max_value)])
        if slope == 0:
            return above
        below = self.node("Relu", [self.node("Sub", [self.number(layer.threshold), x])])
        return self.node("Sub", [above, self.node("Mul", [below, self.number(slope)])])

    def gate(self, x: str, s: str) -> str:
        """x · (1 + s) / 2"""
        half = self.node("Mul", [x, self.number(0.5)])
        return self.node("Mul", [half, self.node("Add", [s, self.number(1)])])


def arranged(layer: Weighted, array: np.ndarray) -> np.ndarray:
    """A kernel, or what broadcasts against it, in ONNX' order of axes."""
    if isinstance(layer, Dense):
        return array
    if isinstance(layer, DepthwiseConv2D) and array.shape[2:] != (1, 1):
        array = np.broadcast_to(array, (*array.shape[:2], *layer.kernel.shape[2:]))
        array = array.reshape(*array.shape[:2], 1, -1)
    return array.transpose(3, 2, 0, 1)


def pads(widths: Widths) -> tuple[int, int, int, int]:
    """Padding as ONNX has it: before rows, before columns, after rows, after columns."""
    (top, bottom), (left, right) = widths
    return top, left, bottom, right
