"""Convolutions, pooling and what works on whole channels."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.kernels import ungrouped
from netreduce.formats.rearranged import numbered, size_of
from netreduce.network.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Rescaling,
    ZeroPadding2D,
    padding_widths,
)

from .constants import Constant
from .graph import (
    IMAGE,
    Curve,
    Graph,
    Node,
    Operator,
    Tensor,
    Value,
    quantization,
)

Four: TypeAlias = tuple[int, int, int, int]


def _conv(graph: Graph, node: Node) -> Value:
    x, kernel = _convolved(graph, node)
    groups, strides, dilation = _geometry(node)
    outputs, inputs, *size = kernel.array.shape
    channels = x.shape[1]
    if inputs * groups != channels:
        raise ShapeError(
            f"a kernel of shape {kernel.array.shape} in {groups} groups expects"
            f" {inputs * groups} channels, found {channels}"
        )
    source, pads = _with_padding(graph, x, _pads(node, x, size, strides, dilation))
    kernel = kernel.transposed((2, 3, 1, 0))
    if 1 < groups == channels and outputs % channels == 0:
        kernel = _in_shape(kernel, (*size, channels, outputs // channels))
        layer: Layer = DepthwiseConv2D(kernel.array, quantization=quantization(kernel))
    else:
        layer = Conv2D(kernel.array, quantization=quantization(kernel), groups=groups)
    padding = _named_padding(graph.shapes[source][:2], size, strides, pads, dilation)
    layer = layer.replace(strides=strides, padding=padding, dilation=dilation)
    return _with_bias(graph, node, graph.tensor(graph.emit(layer, source), IMAGE))


def _conv_transpose(graph: Graph, node: Node) -> Value:
    x, kernel = _convolved(graph, node)
    groups, strides, dilation = _geometry(node)
    if dilation != (1, 1):
        raise UnsupportedLayerError("dilations are not supported")
    size, rows = kernel.array.shape[2:], x.shape[2:]
    more = _pair([0, *node.attributes.get("output_padding", (0, 0))][-2:])
    top, left, bottom, right = _four(node)
    mode = node.text("auto_pad", "NOTSET")
    target = node.attributes.get("output_shape")
    if target is None and mode.startswith("SAME"):
        target = [n * s for n, s in zip(rows, strides, strict=True)]
    if target is not None:
        target = _pair(target[-2:])
        halves = []
        for n, s, k, m, t in zip(rows, strides, size, more, target, strict=True):
            total = (n - 1) * s + m + k - t
            if total < 0:
                raise UnsupportedLayerError(f"an output of {t} from {n} is not supported")
            smaller, larger = total // 2, total - total // 2
            halves.append((smaller, larger) if mode == "SAME_UPPER" else (larger, smaller))
        (top, bottom), (left, right) = halves
    kernel = kernel.transposed((2, 3, 1, 0))
    layer = Conv2DTranspose(
        ungrouped(kernel.array, groups),
        strides=strides,
        padding=(top, bottom, left, right),
        output_padding=more if any(more) else None,
        quantization=quantization(kernel) if groups == 1 else None,
    )
    return _with_bias(graph, node, graph.tensor(graph.emit(layer, graph.image(x)), IMAGE))


def _pooling(kind: type[MaxPooling2D] | type[AveragePooling2D]) -> Operator:
    def pool(graph: Graph, node: Node) -> Value:
        x = _image(graph, node)
        _, strides, dilation = _geometry(node)
        size = _pair(node.attributes["kernel_shape"])
        if dilation != (1, 1):
            raise UnsupportedLayerError("dilations are not supported")
        counted = bool(node.attributes.get("count_include_pad")) and kind is AveragePooling2D
        top, bottom, left, right = pads = _pads(node, x, size, strides)
        if node.attributes.get("ceil_mode"):
            (below, beside) = (
                _more(n, k, s, before, after)
                for n, k, s, (before, after) in zip(
                    x.shape[2:], size, strides, ((top, bottom), (left, right)), strict=True
                )
            )
            if counted and (below or beside):
                raise UnsupportedLayerError("ceil_mode with count_include_pad is not supported")
            pads = top, bottom + below, left, right + beside
        source = graph.image(x)
        padding = _named_padding(graph.shapes[source][:2], size, strides, pads)
        layer = kind(size, strides, padding, **({"count_padding": True} if counted else {}))
        return _with_axes(node, graph.tensor(graph.emit(layer, source), IMAGE))

    return pool


def _more(n: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Padding at the end that makes room for the windows that ceil_mode adds."""
    count = -(-(n + before + after - kernel) // stride) + 1
    if (count - 1) * stride >= n + before:  # windows begin inside
        count -= 1
    return max((count - 1) * stride + kernel - n - before - after, 0)


def _convolved(graph: Graph, node: Node) -> tuple[Tensor, Constant]:
    """The input as an image and the kernel of a convolution; those of one axis as rows of 1."""
    kernel = node.inputs[1] if len(node.inputs) > 1 else None
    if not isinstance(kernel, Constant):
        raise UnsupportedLayerError("its kernel must be a constant, found an activation")
    if kernel.array.ndim == 3:
        outputs, inputs, length = kernel.array.shape
        scale = kernel.scale
        if scale is not None:
            scale = scale[:, :, None, :]
        array = kernel.array.reshape(outputs, inputs, 1, length)
        kernel = replace(kernel, array=array, scale=scale)
    if kernel.array.ndim != 4:
        raise UnsupportedLayerError(
            f"convolutions of one and two axes are supported, found a kernel of shape"
            f" {kernel.array.shape}"
        )
    return _image(graph, node), kernel


def _image(graph: Graph, node: Node) -> Tensor:
    """The first input as an image; a row where it has one axis only."""
    x = graph.made(node.first)
    if x.order.ndim == 3:
        x = replace(x, order=x.order[:, :, None, :])
    if x.order.ndim != 4 or x.shape[0] != 1:
        raise UnsupportedLayerError(
            "expected an input of shape (batch, channels, rows, columns) or (batch, channels,"
            f" columns) with a batch that is free or 1, found {x.shape}"
        )
    return x


def _with_axes(node: Node, out: Tensor) -> Tensor:
    """An image as the file has it: without its rows where the input had none."""
    x = node.first
    shape = x.root.shape if isinstance(x, Curve) else x.shape if isinstance(x, Tensor) else ()
    return replace(out, order=out.order[:, :, 0]) if len(shape) == 3 else out


def _with_bias(graph: Graph, node: Node, out: Tensor) -> Tensor:
    bias = node.constant(2)
    if bias is not None:
        out = graph.shifted(out, bias.reshape(-1, 1, 1))
    return _with_axes(node, out)


def _geometry(node: Node) -> tuple[int, tuple[int, int], tuple[int, int]]:
    groups = node.attributes.get("group", 1)
    if groups < 1:
        raise ShapeError(f"group must be positive, found {groups}")
    strides = _pair(node.attributes.get("strides", (1, 1)))
    return groups, strides, _pair(node.attributes.get("dilations", (1, 1)))


def _pads(
    node: Node,
    x: Tensor,
    size: Sequence[int],
    strides: tuple[int, int],
    dilation: tuple[int, int] = (1, 1),
) -> Four:
    """Padding as layers have it: rows before and after, columns before and after."""
    mode = node.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID"):
        top, left, bottom, right = _four(node) if mode == "NOTSET" else (0, 0, 0, 0)
        return top, bottom, left, right
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise UnsupportedLayerError(f"auto_pad {mode!r} is not known")
    widths = padding_widths(x.shape[2:], size, strides, "same", dilation)
    (top, bottom), (left, right) = widths
    return (top, bottom, left, right) if mode == "SAME_UPPER" else (bottom, top, right, left)


def _four(node: Node) -> Four:
    pads = [int(pad) for pad in node.attributes.get("pads", (0, 0, 0, 0))]
    if len(pads) == 2:
        pads = [0, pads[0], 0, pads[1]]
    if len(pads) != 4:
        raise ShapeError(f"pads must be one number for both ends of every axis, found {pads}")
    return pads[0], pads[1], pads[2], pads[3]


def _pair(values: Sequence[int]) -> tuple[int, int]:
    values = [int(value) for value in values]
    if len(values) == 1:
        values = [1 if values[0] else 0, *values]
    if len(values) != 2:
        raise UnsupportedLayerError(f"windows of one and two axes are supported, found {values}")
    return values[0], values[1]


def _named_padding(
    shape: Sequence[int],
    size: Sequence[int],
    strides: Sequence[int],
    pads: Four,
    dilation: Sequence[int] = (1, 1),
) -> str | Four:
    """Padding by its name where it has one."""
    if not any(pads):
        return "valid"
    top, bottom, left, right = pads
    same = padding_widths(shape, size, strides, "same", dilation)
    return "same" if same == ((top, bottom), (left, right)) else pads


def _with_padding(graph: Graph, x: Tensor, pads: Four) -> tuple[int, Four]:
    """The image that a convolution reads and its padding, with what a layer of padding before it
    adds.
    """
    source = graph.image(x)
    layer = graph.layers[source] if source == x.layer and graph.own(x) is not None else None
    if isinstance(layer, ZeroPadding2D):
        top, bottom, left, right = (a + b for a, b in zip(pads, layer.padding, strict=True))
        return graph.sources[source][0], (top, bottom, left, right)
    return source, pads


def _in_shape(kernel: Constant, shape: tuple[int, int, int, int]) -> Constant:
    """A kernel of one input channel as one of channels and multipliers."""
    scale = kernel.scale
    if scale is not None:
        last = shape[2:] if scale.shape[3] > 1 else (1, 1)
        scale = scale.reshape(*scale.shape[:2], *last)
    return replace(kernel, array=kernel.array.reshape(shape), scale=scale)


def _global(kind: type[Layer]) -> Operator:
    def pool(graph: Graph, node: Node) -> Value:
        x = _image(graph, node)
        out = graph.emit(kind(), graph.image(x))
        ones = (1,) * (graph.made(node.first).order.ndim - 2)
        return graph.tensor(out, shape=(*x.shape[:2], *ones))

    return pool


def _reduction(kind: type[Layer], total: bool = False) -> Operator:
    """Mean or maximum along some axes: that of images whose rows and columns these are."""

    def reduce(graph: Graph, node: Node) -> Value:
        x = graph.made(node.first)
        axes = node.integers(1, "axes")
        if axes is None:
            axes = [] if node.attributes.get("noop_with_empty_axes") else list(range(x.order.ndim))
        reduced = sorted({graph.axis(x, axis) for axis in axes})
        if not reduced:
            return x
        sample = x.sample
        kept = [axis for axis in range(sample.ndim) if axis not in reduced]
        rows = sample.shape[reduced[0]]
        image = sample.transpose([*reduced, *kept])
        columns = size_of([sample.shape[axis] for axis in reduced[1:]])
        source = graph.arranged(x.layer, image.reshape(rows, columns, -1))
        out = graph.emit(kind(), source)
        if total:
            out = graph.emit(Rescaling(np.array(rows * columns, np.float32)), out)
        shape = [1 if axis in reduced else n for axis, n in enumerate(sample.shape)]
        if not node.attributes.get("keepdims", 1):
            shape = [sample.shape[axis] for axis in kept]
        return Tensor(out, numbered([1] * x.has_batch + shape))

    return reduce


def _batch_normalization(graph: Graph, node: Node) -> Value:
    x = graph.made(node.first)
    if node.attributes.get("training_mode"):
        raise UnsupportedLayerError("training mode is not supported")
    gamma, beta, mean, variance = (node.constant(index) for index in range(1, 5))
    if gamma is None or beta is None or mean is None or variance is None:
        raise ShapeError("it needs scale, bias, mean and variance")
    axis = graph.axis(x, 1 if x.order.ndim > 1 else 0)
    order = np.moveaxis(x.sample, axis, -1)
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    layer = BatchNormalization(gamma, beta, mean, variance, epsilon)
    out = graph.emit(layer, graph.arranged(x.layer, order))
    return Tensor(out, np.moveaxis(numbered(order.shape), -1, axis).reshape(x.shape))


WINDOWS: dict[str, Operator] = {
    "AveragePool": _pooling(AveragePooling2D),
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "GlobalAveragePool": _global(GlobalAveragePooling2D),
    "GlobalMaxPool": _global(GlobalMaxPooling2D),
    "MaxPool": _pooling(MaxPooling2D),
    "ReduceMax": _reduction(GlobalMaxPooling2D),
    "ReduceMean": _reduction(GlobalAveragePooling2D),
    "ReduceSum": _reduction(GlobalAveragePooling2D, total=True),
}
