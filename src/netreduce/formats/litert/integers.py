"""Networks with integer activations as LiteRT models that run in integers.

Every tensor on a grid is int8, a code of `ActivationGrid` as it is; weights are int8, or int4 where
their codes lie in −8 … 7, biases int32. LiteRT multiplies sums by fixed-point numbers of 31 bits
where `IntegerNetwork` has float32. Its kernels for convolutions of 4 bits, for dense layers of 4
bits with an odd number of inputs, and all of its reference kernels, round twice:
`IntegerNetwork(network, runtime="litert")` does so for the first two.

Averages are depthwise convolutions with ones, so that their sums are exact. Activations that are no
relu are tables: GATHER by the code. What lies behind the last grid, the last layer with weights
among it, is computed in floats from the codes, so that scores are not rounded.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.integers import IntegerNetwork, clips, fit_4_bits, moves
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    AveragePooling2D,
    Concatenate,
    Conv2D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Permute,
    Reshape,
    UpSampling2D,
    Weighted,
    Widths,
    ZeroPadding2D,
)

from .graph import Graph, packed, to_bytes
from .writer import arranged

DEPTHWISE = 3  # axis of the outputs in the weights of a depthwise convolution
LARGEST_MULTIPLIER = 256  # of sums, from which on XNNPACK does not prepare the graph
LARGEST_SUM = (1 << 15) - 1  # steps of the grid behind an ADD: larger ones wrap around
FLOAT_ACTIVATIONS = {
    "relu": "RELU",
    "relu6": "RELU6",
    "sigmoid": "LOGISTIC",
    "tanh": "TANH",
    "log_softmax": "LOG_SOFTMAX",
}


def to_integer_litert(network: Network) -> bytes:
    """A network that `IntegerNetwork` evaluates, as a LiteRT file that reads float32.

    Raises
    ------
    UnsupportedLayerError
        As `IntegerNetwork`, and for layers that LiteRT does not have in integers: names them.
    """
    return to_bytes(IntegerGraph(network).model)


class IntegerGraph(Graph):
    """The graph of such a network."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.evaluated = IntegerNetwork(network)
        network = self.network = self.evaluated.network
        self.title = "input"  # of the layer that is being written
        self.shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
        self.floats = {INPUT: self.tensor("input", "FLOAT32", (None, *network.input_shape))}
        self.codes: dict[int, int] = {}  # tensors on grids, by the layer that they come from
        for index, layer in enumerate(network.layers):
            self.title = self.evaluated.names[index].removeprefix("activation_")
            self.layer(index, layer)
        last = len(network.layers) - 1
        output = self.in_floats(last)
        self.graph.tensors[output].name = "output"
        self.graph.inputs, self.graph.outputs = [self.floats[INPUT]], [output]

    def layer(self, index: int, layer: Layer) -> None:
        """Write a layer, unless it is written with the grid behind it."""
        sources = self.network.sources[index]
        if isinstance(layer, ActivationGrid):
            self.codes[index] = self.rounded(sources[0], layer)
        elif moves(layer) and index in self.evaluated.grids:
            grid = self.evaluated.grids[index]
            self.codes[index] = self.moved(layer, sources[0], index, grid)
        elif index in self.evaluated.tail:
            self.floats[index] = self.computed(index, layer)

    # tensors

    def on_grid(self, shape: Sequence[int], grid: ActivationGrid) -> int:
        """A new tensor of codes."""
        numbers = self.grid(np.array([grid.scale]), grid.zero_point)
        return self.tensor(self.title, "INT8", (None, *shape), grid=numbers)

    def new(self, index: int) -> int:
        """A new tensor of floats, of the shape of a layer's output."""
        return self.tensor(self.title, "FLOAT32", (None, *self.shapes[index]))

    def shape(self, *lengths: int) -> int:
        return self.constant(np.array(lengths, np.int32), "shape")

    def in_floats(self, index: int) -> int:
        """The output of a layer in floats."""
        if index not in self.floats:
            self.floats[index] = self.node("DEQUANTIZE", 2, [self.codes[index]], self.new(index))
        return self.floats[index]

    # onto a grid

    def rounded(self, index: int, grid: ActivationGrid, clip: Layer | None = None) -> int:
        """The codes, on a grid, of what a layer computes; first clipped, where that is given."""
        layer = None if index == INPUT else self.network.layers[index]
        if index == INPUT:
            out = self.node(
                "QUANTIZE", 1, [self.floats[INPUT]], self.on_grid(self.shapes[index], grid)
            )
            return self.clamped(out, index, grid, clip)
        if index in self.evaluated.grids:
            return self.looked_up(index, Activation("linear"), grid)
        assert layer is not None
        sources = self.network.sources[index]
        if isinstance(layer, Activation) and clips(layer) and sources[0] not in self.codes:
            return self.rounded(sources[0], grid, layer)
        if isinstance(layer, Weighted) and layer.activation == "relu" and clip is None:
            clip = Activation("relu")
        match layer:
            case Dense() | Conv2D() | DepthwiseConv2D():
                out = self.sums(index, layer, grid, fused(clip))
            case AveragePooling2D() | GlobalAveragePooling2D():
                out = self.mean(index, layer, grid, fused(clip))
            case Add() if len(sources) == 2:
                out = self.added(index, grid, fused(clip))
            case Concatenate():
                out = self.node(
                    "CONCATENATION",
                    2,
                    [self.looked_up(source, Activation("linear"), grid) for source in sources],
                    self.on_grid(self.shapes[index], grid),
                    axis=len(self.shapes[index]),
                )
            case Activation():
                out = self.looked_up(sources[0], layer, grid)
            case _:
                raise UnsupportedLayerError(
                    f"{self.evaluated.names[index]}: LiteRT has no {type(layer).__name__} of"
                    f" {len(sources)} tensors in integers"
                )
        return self.clamped(out, index, grid, clip)

    def clamped(self, codes: int, index: int, grid: ActivationGrid, clip: Layer | None) -> int:
        """Codes kept in the range of a grid of fewer than 8 bits, and of a relu."""
        low, high, least, most = grid.low, grid.high, -128, 127
        if clip is not None:
            assert isinstance(clip, Activation)
            low = least = grid.zero_point
            largest = 6.0 if clip.name == "relu6" else clip.max_value
            if largest is not None:
                end = np.rint(np.float32(largest) / np.float32(grid.scale)) + grid.zero_point
                high = int(min(high, end))
            if clip.name == "relu6":
                most = min(127, int(end))
        for name, end, known in (("MAXIMUM", low, least), ("MINIMUM", high, most)):
            if end != known:
                limit = self.tensor(
                    "limit",
                    "INT8",
                    (1,) * (len(self.shapes[index]) + 1),
                    np.array([end], np.int8),
                    self.grid(np.array([grid.scale]), grid.zero_point),
                )
                out = self.on_grid(self.shapes[index], grid)
                codes = self.node(name, 2, [codes, limit], out)
        return codes

    def function(self, name: str) -> int:
        return int(getattr(self.schema.ActivationFunctionType, name))

    def sums(self, index: int, layer: Weighted, grid: ActivationGrid, function: str) -> int:
        weights = self.evaluated.weights[index]
        self.check_multiplier(index, float(weights.bias_scale.max()), grid)
        kernel = arranged(layer, weights.kernel)
        axis = DEPTHWISE if isinstance(layer, DepthwiseConv2D) else 0
        scale = one_if_equal(weights.bias_scale)
        bias = self.tensor("bias", "INT32", weights.bias.shape, weights.bias, self.grid(scale))
        inputs = [self.integers(kernel, weights.scale, axis), bias]
        source = self.network.sources[index][0]
        return self.linear(
            layer, source, inputs, self.on_grid(self.shapes[index], grid), function, True
        )

    def check_multiplier(self, index: int, scale: float, grid: ActivationGrid) -> None:
        """Refuse sums in units of that scale that LiteRT cannot bring onto a grid."""
        if scale / grid.scale >= LARGEST_MULTIPLIER:
            raise UnsupportedLayerError(
                f"{self.evaluated.names[index]}: LiteRT multiplies sums by less than"
                f" {LARGEST_MULTIPLIER} to bring them onto a grid, here by {scale / grid.scale:.4g}"
            )

    def added(self, index: int, grid: ActivationGrid, function: str) -> int:
        sources = self.network.sources[index]
        steps = sum(255 * self.evaluated.grids[source].scale for source in sources) / grid.scale
        if steps > LARGEST_SUM:
            raise UnsupportedLayerError(
                f"{self.evaluated.names[index]}: LiteRT adds up to at most {LARGEST_SUM} steps of"
                f" the grid behind, here to up to {steps:.0f}"
            )
        return self.node(
            "ADD",
            2,
            [self.codes[source] for source in sources],
            self.on_grid(self.shapes[index], grid),
            fusedActivationFunction=self.function(function),
        )

    def integers(self, kernel: np.ndarray, scale: np.ndarray, axis: int) -> int:
        """Weights, in 4 bits where these hold them and the runtime has kernels for them."""
        narrow = axis != DEPTHWISE and fit_4_bits(kernel)
        width = 4 if narrow else 8
        content = packed(kernel.astype(np.int64), width)
        grid = self.grid(one_if_equal(scale), axis=axis)
        return self.tensor("weights", f"INT{width}", kernel.shape, content, grid)

    def linear(
        self,
        layer: Weighted,
        source: int,
        parameters: list[int],
        output: int,
        function: str,
        on_codes: bool,
    ) -> int:
        """A layer with weights, of codes or of floats."""
        x = self.codes[source] if on_codes else self.in_floats(source)
        options: dict[str, Any] = {"fusedActivationFunction": self.function(function)}
        four = self.graph.tensors[parameters[0]].type == self.schema.TensorType.INT4
        if isinstance(layer, Dense):
            version = (10 if four else 4) if on_codes else 1
            return self.node("FULLY_CONNECTED", version, [x, *parameters], output, **options)
        assert isinstance(layer, Conv2D | DepthwiseConv2D)
        shape = self.shapes[source]
        window, dilation = layer.kernel.shape[:2], layer.dilation
        widths = layer.padding_widths(shape)
        x, padding = self.padded(x, source, widths, window, layer.strides, dilation, on_codes)
        (strideH, strideW), (dilationHFactor, dilationWFactor) = layer.strides, dilation
        options |= {
            "padding": padding,
            "strideH": strideH,
            "strideW": strideW,
            "dilationHFactor": dilationHFactor,
            "dilationWFactor": dilationWFactor,
        }
        if isinstance(layer, DepthwiseConv2D):
            options["depthMultiplier"] = layer.kernel.shape[3]
            version = 3 if on_codes else 2
            return self.node("DEPTHWISE_CONV_2D", version, [x, *parameters], output, **options)
        version = (7 if four else 6 if layer.groups > 1 else 3) if on_codes else 1
        return self.node("CONV_2D", version, [x, *parameters], output, **options)

    def padded(
        self,
        x: int,
        source: int,
        widths: Widths,
        window: Sequence[int],
        strides: Sequence[int],
        dilation: Sequence[int] = (1, 1),
        on_codes: bool = True,
        least: int | None = None,
    ) -> tuple[int, int]:
        """A tensor and the padding in the schema's words: that of a layer, or none behind a PAD
        with zeros, or with the least code.
        """
        shape, kinds = self.shapes[source], self.schema.Padding
        if not np.any(widths):
            return x, kinds.VALID
        same = []
        for size, length, stride, step in zip(shape, window, strides, dilation, strict=False):
            total = (-(-size // stride) - 1) * stride + (length - 1) * step + 1 - size
            same.append((max(total, 0) // 2, max(total, 0) - max(total, 0) // 2))
        if same == [tuple(ends) for ends in widths]:
            return x, kinds.SAME
        (top, bottom), (left, right) = widths
        pads = np.array([(0, 0), (top, bottom), (left, right), (0, 0)], np.int32)
        padded = (shape[0] + top + bottom, shape[1] + left + right, shape[2])
        inputs = [x, self.constant(pads, "padding")]
        if not on_codes:
            out = self.tensor(self.title, "FLOAT32", (None, *padded))
            return self.node("PAD", 1, inputs, out), kinds.VALID
        grid = self.evaluated.grids[source]
        out = self.on_grid(padded, grid)
        if least is None:
            return self.node("PAD", 2, inputs, out), kinds.VALID
        numbers = self.grid(np.array([grid.scale]), grid.zero_point)
        inputs.append(self.tensor("least", "INT8", (1,), np.array([least], np.int8), numbers))
        return self.node("PADV2", 2, inputs, out), kinds.VALID

    def mean(
        self,
        index: int,
        layer: AveragePooling2D | GlobalAveragePooling2D,
        grid: ActivationGrid,
        function: str,
    ) -> int:
        """Means as a convolution with ones: over windows, of each channel by itself."""
        source = self.network.sources[index][0]
        shape = self.shapes[source]
        if isinstance(layer, GlobalAveragePooling2D):
            pooling = AveragePooling2D((shape[0], shape[1]))
        else:
            pooling = layer
        counts = np.unique(pooling.counts(shape))
        if len(counts) > 1:
            raise UnsupportedLayerError(
                f"{self.evaluated.names[index]}: LiteRT has no average pooling in integers whose"
                " windows hold different numbers of values"
            )
        share = np.float32(1) / np.float32(counts[0])
        scale = np.float32(self.evaluated.grids[source].scale) * share
        self.check_multiplier(index, float(scale), grid)
        numbers = self.grid(np.array([scale]))
        parts = self.grid(np.array([share]))
        if pooling.pool_size == shape[:2] and not np.any(pooling.padding_widths(shape)):
            out = self.mean_of_all(source, grid, function, parts, numbers)
        else:
            kernel = np.ones((*pooling.pool_size, shape[2], 1), np.int8)
            (top, bottom), (left, right) = pooling.padding_widths(shape)
            padding = (top, bottom, left, right)
            ones = DepthwiseConv2D(kernel, strides=pooling.strides, padding=padding)
            content = arranged(ones, kernel)
            weights = self.tensor("weights", "INT8", content.shape, content, parts)
            bias = self.tensor("bias", "INT32", (shape[2],), np.zeros(shape[2], np.int32), numbers)
            out = self.on_grid(ones.output_shape(shape), grid)
            out = self.linear(ones, source, [weights, bias], out, function, True)
            if isinstance(layer, AveragePooling2D):
                return out
        inputs = [out, self.shape(-1, *self.shapes[index])]
        return self.node("RESHAPE", 1, inputs, self.on_grid(self.shapes[index], grid))

    def mean_of_all(
        self, source: int, grid: ActivationGrid, function: str, parts: Any, numbers: Any
    ) -> int:
        """Means over whole images, as a convolution along all pixels: of one weight for each of
        these, and not for each channel of each.
        """
        rows, columns, channels = self.shapes[source]
        before = self.evaluated.grids[source]
        pixels = (rows * columns, channels, 1)
        inputs = [self.codes[source], self.shape(-1, *pixels)]
        column = self.node("RESHAPE", 1, inputs, self.on_grid(pixels, before))
        ones = np.ones((1, rows * columns, 1, 1), np.int8)
        inputs = [
            column,
            self.tensor("weights", "INT8", ones.shape, ones, parts),
            self.tensor("bias", "INT32", (1,), np.zeros(1, np.int32), numbers),
        ]
        return self.node(
            "CONV_2D",
            3,
            inputs,
            self.on_grid((1, channels, 1), grid),
            fusedActivationFunction=self.function(function),
            padding=self.schema.Padding.VALID,
            strideH=1,
            strideW=1,
            dilationHFactor=1,
            dilationWFactor=1,
        )

    def looked_up(self, source: int, layer: Activation, grid: ActivationGrid) -> int:
        """A function of single values, as a table of the codes of its results."""
        before, shape = self.evaluated.grids[source], self.shapes[source]
        values = np.float64(before.scale) * np.arange(
            before.low - before.zero_point, before.high - before.zero_point + 1
        )
        results = grid.codes(layer(values).astype(np.float32)).astype(np.int8)
        numbers = self.grid(np.array([grid.scale]), grid.zero_point)
        table = self.tensor("table", "INT8", results.shape, results, numbers)
        types = self.schema.TensorType
        place = self.node(
            "CAST",
            3,
            [self.codes[source]],
            self.tensor(self.title, "INT32", (None, *shape)),
            inDataType=types.INT8,
            outDataType=types.INT32,
        )
        start = self.constant(np.full((1,) * (len(shape) + 1), -before.low, np.int32))
        moved = self.tensor(self.title, "INT32", (None, *shape))
        place = self.node("ADD", 1, [place, start], moved)
        return self.node("GATHER", 2, [table, place], self.on_grid(shape, grid))

    # moving

    def moved(self, layer: Layer, source: int, index: int, grid: ActivationGrid) -> int:
        """A layer that moves values, of codes."""
        x, shape, out_shape = self.codes[source], self.shapes[source], self.shapes[index]
        if isinstance(layer, Dropout):
            return x
        match layer:
            case MaxPooling2D():
                widths = layer.padding_widths(shape)
                return self.largest(x, source, index, layer, widths, grid)
            case GlobalMaxPooling2D():
                pooling = MaxPooling2D((shape[0], shape[1]))
                x = self.largest(x, source, None, pooling, ((0, 0), (0, 0)), grid)
                return self.node(
                    "RESHAPE", 1, [x, self.shape(-1, shape[2])], self.on_grid(out_shape, grid)
                )
            case Flatten() | Reshape():
                return self.node(
                    "RESHAPE", 1, [x, self.shape(-1, *out_shape)], self.on_grid(out_shape, grid)
                )
            case Permute():
                order = self.shape(0, *layer.order)
                return self.node("TRANSPOSE", 2, [x, order], self.on_grid(out_shape, grid))
            case ZeroPadding2D():
                top, bottom, left, right = layer.padding
                pads = np.array([(0, 0), (top, bottom), (left, right), (0, 0)], np.int32)
                inputs = [x, self.constant(pads, "padding")]
                return self.node("PAD", 2, inputs, self.on_grid(out_shape, grid))
            case Cropping2D():
                top, _, left, _ = layer.cropping
                inputs = [x, self.shape(0, top, left, 0), self.shape(-1, *out_shape)]
                return self.node("SLICE", 2, inputs, self.on_grid(out_shape, grid))
            case UpSampling2D():
                inputs = [x, self.shape(*out_shape[:2])]
                return self.node(
                    "RESIZE_NEAREST_NEIGHBOR", 2, inputs, self.on_grid(out_shape, grid)
                )
        raise UnsupportedLayerError(
            f"{self.title}: LiteRT has no {type(layer).__name__} in integers"
        )

    def largest(
        self,
        x: int,
        source: int,
        index: int | None,
        layer: MaxPooling2D,
        widths: Widths,
        grid: ActivationGrid,
    ) -> int:
        x, padding = self.padded(x, source, widths, layer.pool_size, layer.strides, least=grid.low)
        shape = layer.output_shape(self.shapes[source]) if index is None else self.shapes[index]
        (strideH, strideW), (filterHeight, filterWidth) = layer.strides, layer.pool_size
        return self.node(
            "MAX_POOL_2D",
            2,
            [x],
            self.on_grid(shape, grid),
            padding=padding,
            strideH=strideH,
            strideW=strideW,
            filterHeight=filterHeight,
            filterWidth=filterWidth,
        )

    # behind the last grid

    def computed(self, index: int, layer: Layer) -> int:
        """A layer in floats."""
        sources = self.network.sources[index]
        match layer:
            case Dense() | Conv2D() | DepthwiseConv2D():
                out = self.scores(index, layer)
                return self.activated(out, index, Activation(layer.activation))
            case Activation():
                return self.activated(self.in_floats(sources[0]), index, layer)
            case Dropout():
                return self.in_floats(sources[0])
            case Flatten() | Reshape():
                inputs = [self.in_floats(sources[0]), self.shape(-1, *self.shapes[index])]
                return self.node("RESHAPE", 1, inputs, self.new(index))
            case Add():
                out = self.in_floats(sources[0])
                for source in sources[1:]:
                    out = self.node("ADD", 1, [out, self.in_floats(source)], self.new(index))
                return out
        raise UnsupportedLayerError(
            f"{self.title}: {type(layer).__name__} as the last layer is not written to LiteRT"
        )

    def scores(self, index: int, layer: Weighted) -> int:
        """Sums of the codes' values in floats: the weights stay integers in the file."""
        weights = self.evaluated.weights[index]
        axis = DEPTHWISE if isinstance(layer, DepthwiseConv2D) else 0
        codes = self.integers(arranged(layer, weights.kernel), weights.scale, axis)
        tensor = self.graph.tensors[codes]
        version = 6 if tensor.type == self.schema.TensorType.INT4 else 5
        floats = self.tensor("weights", "FLOAT32", tensor.shape)
        kernel = self.node("DEQUANTIZE", version, [codes], floats)
        bias = self.constant((weights.bias * weights.bias_scale).astype(np.float32), "bias")
        source = self.network.sources[index][0]
        return self.linear(layer, source, [kernel, bias], self.new(index), "NONE", False)

    def activated(self, x: int, index: int, layer: Activation) -> int:
        if layer.name == "linear":
            return x
        if layer.name == "softmax":
            return self.node("SOFTMAX", 1, [x], self.new(index), beta=1.0)
        plain = layer.max_value is None and layer.threshold == 0
        if layer.name in FLOAT_ACTIVATIONS and (plain or layer.name != "relu"):
            return self.node(FLOAT_ACTIVATIONS[layer.name], 1, [x], self.new(index))
        raise UnsupportedLayerError(
            f"{self.evaluated.names[index]}: activation {layer.name!r} behind the last grid is not"
            " written to LiteRT"
        )


def fused(clip: Layer | None) -> str:
    """The activation that an operator has inside, for a relu."""
    if clip is None:
        return "NONE"
    assert isinstance(clip, Activation)
    return "RELU6" if clip.name == "relu6" else "RELU"


def one_if_equal(scale: np.ndarray) -> np.ndarray:
    return scale[:1] if (scale == scale[0]).all() else scale
