"""Export of a network to ONNX, and through TensorFlow to LiteRT, for deployment."""

from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.files import replacing
from netreduce.network import INPUT, Network
from netreduce.network.activations import LEAKY_RELU_SLOPE
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)

OPSET, IR_VERSION = 17, 8
LARGEST_CODE = 127  # of 8-bit integers
OPERATORS = {
    "relu": "Relu",
    "elu": "Elu",
    "softplus": "Softplus",
    "sigmoid": "Sigmoid",
    "tanh": "Tanh",
}


def export(network: Network, path: str | Path) -> None:
    """Write a network for deployment: .onnx for ONNX runtimes, .tflite for LiteRT.

    Raises
    ------
    ModelFileError
        Another suffix.
    UnsupportedLayerError
        A layer that the format does not have.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        content = to_onnx(network).SerializeToString(deterministic=True)
    elif path.suffix == ".tflite":
        from .litert import to_litert

        content = to_litert(network)
    else:
        raise ModelFileError(
            f"{path}: cannot export to {path.suffix or 'a file without suffix'!r}; known: .onnx,"
            " .tflite"
        )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_onnx(network: Network) -> onnx.ModelProto:
    """The network as an ONNX model in float32 that reads (batch, *input_shape), channels last.

    The kernels of quantized layers are 8-bit codes (where these are at most 127) with their scale,
    dequantized by the runtime.
    """
    graph = _Graph(network)
    for index, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True)):
        graph.layer(index, layer, sources)
    nodes = graph.nodes
    output = graph.channels_last(len(network.layers) - 1)
    nodes.append(helper.make_node("Identity", [output], ["output"]))
    tensor = onnx.TensorProto.FLOAT
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("input", tensor, ["batch", *network.input_shape])],
            [helper.make_tensor_value_info("output", tensor, ["batch", *network.shapes[-1]])],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        producer_name="netreduce",
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    return model


class _Graph:
    """Nodes and constants of an ONNX graph as it grows; ONNX wants images channels first, the
    network has them last.
    """

    def __init__(self, network):
        self.network, self.nodes, self.constants = network, [], []
        self.first, self.last = (
            {},
            {INPUT: "input"},
        )  # name of every layer's output, channels first and channels last
        self.ranks = {
            INPUT: len(network.input_shape) + 1,
            **{i: len(shape) + 1 for i, shape in enumerate(network.shapes)},
        }

    def node(self, operator, inputs, **attributes):
        """Add a node and return the name of its output."""
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def constant(self, array):
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def number(self, value):
        return self.constant(np.float32(value))

    def channels_first(self, index):
        if self.ranks[index] != 4:
            return self.last[index]
        if index not in self.first:
            self.first[index] = self.node("Transpose", [self.last[index]], perm=[0, 3, 1, 2])
        return self.first[index]

    def channels_last(self, index):
        if index not in self.last:
            self.last[index] = self.node("Transpose", [self.first[index]], perm=[0, 2, 3, 1])
        return self.last[index]

    def layer(self, index, layer, sources):
        source = sources[0]
        shape = self.network.input_shape if source == INPUT else self.network.shapes[source]
        match layer:
            case Flatten():
                output = self.node("Flatten", [self.channels_last(source)])
            case Dropout():
                output = self.channels_first(source)
            case Dense():
                output = self.node(
                    "Gemm",
                    [
                        self.last[source],
                        self.kernel(layer, lambda kernel: kernel, 1),
                        self.constant(layer.bias.astype(np.float32)),
                    ],
                )
                output = self.activation(output, layer.activation)
            case Conv2D() | DepthwiseConv2D():
                depthwise = isinstance(layer, DepthwiseConv2D)
                kernel = self.kernel(layer, lambda kernel: _outputs_first(kernel, depthwise), 0)
                output = self.node(
                    "Conv",
                    [
                        self.channels_first(source),
                        kernel,
                        self.constant(layer.bias.astype(np.float32)),
                    ],
                    strides=layer.strides,
                    dilations=layer.dilation,
                    pads=_pads(layer, shape),
                    group=shape[2] if depthwise else layer.groups,
                )
                output = self.activation(output, layer.activation)
            case BatchNormalization():
                parameters = [
                    self.constant(getattr(layer, field).astype(np.float32))
                    for field in ("gamma", "beta", "mean", "variance")
                ]
                output = self.node(
                    "BatchNormalization",
                    [self.channels_first(source), *parameters],
                    epsilon=layer.epsilon,
                )
            case MaxPooling2D() | AveragePooling2D():
                operator = "MaxPool" if isinstance(layer, MaxPooling2D) else "AveragePool"
                counted = {"count_include_pad": 1} if getattr(layer, "count_padding", False) else {}
                output = self.node(
                    operator,
                    [self.channels_first(source)],
                    kernel_shape=layer.pool_size,
                    strides=layer.strides,
                    pads=_pads(layer, shape),
                    **counted,
                )
            case GlobalAveragePooling2D():
                output = self.node(
                    "Flatten", [self.node("GlobalAveragePool", [self.channels_first(source)])]
                )
            case Activation():
                output = self.activation(
                    self.channels_first(source), layer.name, layer.negative_slope
                )
            case Add():
                output = self.channels_first(source)
                for other in sources[1:]:
                    output = self.node("Add", [output, self.channels_first(other)])
            case Concatenate():
                output = self.node(
                    "Concat", [self.channels_first(other) for other in sources], axis=1
                )
            case _:
                raise UnsupportedLayerError(
                    f"{self.network.names[index]}: {type(layer).__name__} has no counterpart in the"
                    " ONNX export"
                )
        (self.first if self.ranks[index] == 4 else self.last)[index] = output

    def kernel(self, layer, arrange, axis):
        """A kernel as numbers, or as 8-bit codes that are multiplied by their scale; `axis` is that
        of the outputs once arranged.
        """
        codes, quantization = layer.codes, layer.quantization
        if (
            codes is None
            or np.abs(codes).max(initial=0) > LARGEST_CODE
            or not _per_output(quantization.scale, layer)
        ):
            return self.constant(arrange(layer.kernel.astype(np.float32)))
        scale = quantization.scale.astype(np.float32)
        inputs = [
            self.constant(arrange(codes).astype(np.int8)),
            self.constant(scale.reshape(-1) if scale.ndim else scale),
        ]
        return self.node("DequantizeLinear", inputs, axis=axis)

    def activation(self, x, name, negative_slope=LEAKY_RELU_SLOPE):
        match name:
            case "linear":
                return x
            case "leaky_relu":
                return self.node("LeakyRelu", [x], alpha=negative_slope)
            case "relu6":
                return self.node("Clip", [x, self.number(0), self.number(6)])
            case "silu":
                return self.node("Mul", [x, self.node("Sigmoid", [x])])
            case "gelu":
                erf = self.node("Erf", [self.node("Mul", [x, self.number(np.sqrt(0.5))])])
                return self.node(
                    "Mul",
                    [
                        self.node("Mul", [x, self.number(0.5)]),
                        self.node("Add", [erf, self.number(1)]),
                    ],
                )
            case "softmax":
                return self.node("Softmax", [x], axis=1)
        return self.node(OPERATORS[name], [x])


def _per_output(scale, layer):
    """Whether there is one scale, or one for each output."""
    return scale.ndim == 0 or (
        scale.size == layer.outputs and scale.shape[-1] == layer.kernel.shape[-1]
    )


def _outputs_first(kernel, depthwise):
    if depthwise:
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    return kernel.transpose(3, 2, 0, 1)


def _pads(layer, shape):
    """Padding as ONNX has it: before rows, before columns, after rows, after columns."""
    (top, bottom), (left, right) = layer.padding_widths(shape)
    return (top, left, bottom, right)
