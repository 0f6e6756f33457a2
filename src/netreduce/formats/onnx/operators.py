"""The operators of ONNX that networks are read from, and the layers that they become."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Multiply,
    PReLU,
    Rescaling,
    Subtract,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
    padding_widths,
)

from .constants import Constant
from .graph import (
    IMAGE,
    Curve,
    Graph,
    Node,
    Tensor,
    Value,
    places,
    quantization,
    size_of,
)

Operator: TypeAlias = Callable[[Graph, Node], Value]
Four: TypeAlias = tuple[int, int, int, int]


# ---- products -------------------------------------------------------------------------------


def _gemm(graph: Graph, node: Node) -> Value:
    x, kernel, bias = (*node.inputs, None)[:3]
    if node.attributes.get("transA"):
        x = _transposed(graph, x)
    if node.attributes.get("transB"):
        kernel = _transposed(graph, kernel)
    out = _product(graph, x, kernel, node.attributes.get("alpha", 1.0))
    if bias is None:
        return out
    if isinstance(bias, Constant):
        return graph.shifted(out, bias.scaled(node.attributes.get("beta", 1.0)).array)
    if node.attributes.get("beta", 1.0) != 1:
        raise UnsupportedLayerError("beta must be 1 where an activation is added")
    return _joined(graph, Add(), out, graph.made(bias))


def _matmul(graph: Graph, node: Node) -> Value:
    return _product(graph, node.inputs[0], node.inputs[1])


def _product(graph: Graph, x: Value | None, kernel: Value | None, factor: float = 1.0) -> Tensor:
    if isinstance(x, Constant) and not isinstance(kernel, Constant):
        out = _product(graph, _transposed(graph, kernel), _transposed(graph, x), factor)
        return replace(out, order=out.order.swapaxes(-1, -2)) if out.order.ndim > 1 else out
    if x is None or not isinstance(kernel, Constant):
        raise UnsupportedLayerError("the product of two activations is not supported")
    shape = kernel.array.shape
    if not shape or any(length != 1 for length in shape[:-2]):
        raise UnsupportedLayerError(f"expected a matrix, found an array of shape {shape}")
    matrix = kernel.reshaped(shape[-2:] if len(shape) > 1 else (*shape, 1)).scaled(factor)
    out = graph.dense(graph.made(x), matrix)
    return out if len(shape) > 1 else replace(out, order=out.order[..., 0])


def _transposed(graph: Graph, value: Value | None) -> Value:
    if isinstance(value, Constant):
        rank = value.array.ndim
        return value.transposed((*range(rank - 2), rank - 1, rank - 2) if rank > 1 else (0,) * rank)
    if value is None:
        raise ShapeError("an input is missing")
    x = graph.made(value)
    return replace(x, order=x.order.swapaxes(-1, -2)) if x.order.ndim > 1 else x


# ---- windows --------------------------------------------------------------------------------


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
    if groups != 1 or dilation != (1, 1):
        raise UnsupportedLayerError("groups and dilations are not supported")
    size, rows = kernel.array.shape[2:], x.shape[2:]
    more = _pair([0, *node.attributes.get("output_padding", (0, 0))][-2:])
    top, left, bottom, right = _four(node)
    mode = _text(node, "auto_pad", "NOTSET")
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
    layer = Conv2DTranspose(
        kernel.transposed((2, 3, 1, 0)).array,
        strides=strides,
        padding=(top, bottom, left, right),
        output_padding=more if any(more) else None,
        quantization=quantization(kernel.transposed((2, 3, 1, 0))),
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
    x = graph.made(_first(node))
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
    x = _first(node)
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
    mode = _text(node, "auto_pad", "NOTSET")
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


def _text(node: Node, name: str, default: str) -> str:
    value = node.attributes.get(name, default)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


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


# ---- everything of a channel ----------------------------------------------------------------


def _global(kind: type[Layer]) -> Operator:
    def pool(graph: Graph, node: Node) -> Value:
        x = _image(graph, node)
        out = graph.emit(kind(), graph.image(x))
        ones = (1,) * (_made(graph, node).order.ndim - 2)
        return graph.tensor(out, shape=(*x.shape[:2], *ones))

    return pool


def _reduction(kind: type[Layer], total: bool = False) -> Operator:
    """Mean or maximum along some axes: that of images whose rows and columns these are."""

    def reduce(graph: Graph, node: Node) -> Value:
        x = _made(graph, node)
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
        return Tensor(out, places([1] * x.has_batch + shape))

    return reduce


def _batch_normalization(graph: Graph, node: Node) -> Value:
    x = _made(graph, node)
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
    return Tensor(out, np.moveaxis(places(order.shape), -1, axis).reshape(x.shape))


# ---- shapes ---------------------------------------------------------------------------------


def _made(graph: Graph, node: Node) -> Tensor:
    """The first input."""
    return graph.made(_first(node))


def _first(node: Node) -> Value:
    value = node.inputs[0] if node.inputs else None
    if value is None:
        raise ShapeError("its first input is missing")
    return value


def _flatten(graph: Graph, node: Node) -> Value:
    x = _made(graph, node)
    axis = node.attributes.get("axis", 1)
    rows = size_of(x.shape[:axis])
    return replace(x, order=x.order.reshape(rows, x.order.size // rows))


def _reshape(graph: Graph, node: Node) -> Value:
    x, shape = _made(graph, node), node.integers(1, "shape")
    if shape is None:
        raise ShapeError("its shape is missing")
    if not node.attributes.get("allowzero"):
        shape = [x.shape[i] if length == 0 else length for i, length in enumerate(shape)]
    return replace(x, order=x.order.reshape(shape))


def _transpose(graph: Graph, node: Node) -> Value:
    x = _made(graph, node)
    return replace(x, order=x.order.transpose(node.attributes.get("perm")))


def _squeeze(graph: Graph, node: Node) -> Value:
    x, axes = _made(graph, node), node.integers(1, "axes")
    return replace(x, order=x.order.squeeze(None if axes is None else tuple(axes)))


def _unsqueeze(graph: Graph, node: Node) -> Value:
    x, axes = _made(graph, node), node.integers(1, "axes")
    return replace(x, order=np.expand_dims(x.order, tuple(axes or ())))


def _shape(graph: Graph, node: Node) -> Value:
    x = _made(graph, node)
    part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return Constant(np.array(x.shape, np.int64)[part])


def _concat(graph: Graph, node: Node) -> Value:
    tensors = [graph.made(value) for value in node.inputs if value is not None]
    if len(tensors) == 1:
        return tensors[0]
    axis = graph.axis(tensors[0], node.attributes["axis"])
    sources = [graph.arranged(x.layer, np.moveaxis(x.sample, axis, -1)) for x in tensors]
    out = graph.emit(Concatenate(), *sources)
    order = np.moveaxis(places(graph.shapes[out]), -1, axis)
    return Tensor(out, order[None] if tensors[0].has_batch else order)


def _pad(graph: Graph, node: Node) -> Value:
    x, pads = _made(graph, node), node.integers(1, "pads")
    mode, fill = _text(node, "mode", "constant"), node.constant(2)
    if pads is None:
        raise ShapeError("its pads are missing")
    axes = node.integers(3, "")
    if axes is not None:
        every = [0] * (2 * x.order.ndim)
        for place, axis in enumerate(axes):
            every[axis % x.order.ndim] = pads[place]
            every[axis % x.order.ndim + x.order.ndim] = pads[place + len(axes)]
        pads = every
    if not any(pads):
        return x
    if mode != "constant" or (fill is not None and fill.any()) or node.attributes.get("value"):
        raise UnsupportedLayerError(
            f"only zeros are supported as padding, found mode {mode!r} and value"
            f" {node.attributes.get('value', 0) if fill is None else fill}"
        )
    return _bordered(graph, x, pads[: x.order.ndim], pads[x.order.ndim :])


def _slice(graph: Graph, node: Node) -> Value:
    x = _made(graph, node)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None:
        raise ShapeError("its starts or ends are missing")
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    before, after, every = [0] * x.order.ndim, [0] * x.order.ndim, [1] * x.order.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        length = x.shape[axis]
        start, end, _ = slice(start, end).indices(length)
        if ((start, end) != (0, length) and x.order.ndim != 4) or step < 1:
            raise UnsupportedLayerError(
                "a part of an activation is supported only as a border cut off an image, found"
                f" elements {start} to {end} by {step} of axis {axis} of shape {x.shape}"
            )
        before[axis], after[axis], every[axis] = -start, min(end - length, 0), step
    if any(before) or any(after):
        x = _bordered(graph, x, before, after)
    return x if max(every) == 1 else _thinned(graph, x, every)


def _thinned(graph: Graph, x: Tensor, every: Sequence[int]) -> Tensor:
    """An image with every so many rows and columns: the means of windows of one pixel."""
    if x.order.ndim != 4 or x.shape[0] != 1 or every[0] > 1:
        raise UnsupportedLayerError(f"steps {list(every)} of shape {x.shape} are not supported")
    layout = [axis + 1 for axis in graph.channels_last(x)]
    channels = next((axis for axis in layout[::-1] if every[axis] == 1), None)
    if channels is None:
        raise UnsupportedLayerError(f"steps {list(every)} are supported for rows and columns only")
    axes = [axis for axis in (1, 2, 3) if axis != channels] + [channels]
    source = graph.arranged(x.layer, x.order[0].transpose([axis - 1 for axis in axes]))
    layer = AveragePooling2D((1, 1), (every[axes[0]], every[axes[1]]))
    return graph.tensor(graph.emit(layer, source), [axis - 1 for axis in axes])


def _bordered(graph: Graph, x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """Zeros around an image, or, where the widths are negative, a border cut off."""
    sample = x.sample
    if x.has_batch:
        if before[0] or after[0]:
            raise UnsupportedLayerError("it changes the batch axis, which is not supported")
        before, after = before[1:], after[1:]
    changed = [axis for axis in range(sample.ndim) if before[axis] or after[axis]]
    layout = graph.channels_last(x) if sample.ndim == 3 else ()
    channels = [axis for axis in layout[::-1] if axis not in changed]
    if sample.ndim == 2 and len(changed) < 2:
        channels, sample = [changed[0] ^ 1], sample
    if sample.ndim not in (2, 3) or not channels:
        raise UnsupportedLayerError(
            f"padding and cutting along axes {changed} of a sample of shape {sample.shape} is not"
            " supported, only along rows and columns"
        )
    axes = [axis for axis in range(sample.ndim) if axis != channels[0]] + channels[:1]
    order = sample.transpose(axes)
    widths = [(before[axis], after[axis]) for axis in axes[:-1]]
    if sample.ndim == 2:
        order, widths = order[None], [(0, 0), *widths]
    source = graph.arranged(x.layer, order)
    (top, bottom), (left, right) = widths
    sides = top, bottom, left, right
    if min(sides) < 0:
        source = graph.emit(Cropping2D(_negatives(sides)), source)
    if max(sides) > 0:
        opposite = -top, -bottom, -left, -right
        source = graph.emit(ZeroPadding2D(_negatives(opposite)), source)
    out = places(graph.shapes[source])
    out = (out[0] if sample.ndim == 2 else out).transpose(np.argsort(axes))
    return Tensor(source, out[None] if x.has_batch else out)


def _negatives(sides: Four) -> Four:
    """How far numbers are below 0."""
    top, bottom, left, right = (max(-side, 0) for side in sides)
    return top, bottom, left, right


def _resize(graph: Graph, node: Node) -> Value:
    """Resize and its predecessor Upsample."""
    x = graph.made(_first(node))
    upsample = node.operator == "Upsample" or graph.opset < 11
    scales = node.constant(1 if upsample else 2)
    scales = node.attributes.get("scales") if scales is None or not scales.size else scales
    sizes = None if upsample else node.constant(3)
    if x.order.ndim != 4:
        raise UnsupportedLayerError(f"expected an image, found shape {x.shape}")
    if sizes is not None and sizes.size:
        factors = [float(size) / n for size, n in zip(sizes, x.shape, strict=True)]
    elif scales is not None:
        factors = [float(scale) for scale in scales]
    else:
        raise ShapeError("its scales and sizes are missing")
    if len(factors) != 4 or any(factor != int(factor) or factor < 1 for factor in factors):
        raise UnsupportedLayerError(f"only whole factors are supported, found {factors}")
    changed = [axis for axis in range(4) if factors[axis] > 1]
    if not changed:
        return x
    mode = _text(node, "mode", "nearest")
    interpolation = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear"}.get(mode)
    old = "asymmetric" if upsample else "half_pixel"
    coordinates = _text(node, "coordinate_transformation_mode", old)
    rounding = "floor" if upsample else _text(node, "nearest_mode", "round_prefer_floor")
    layout = [axis + 1 for axis in graph.channels_last(x)]
    channels = next((axis for axis in layout[::-1] if axis not in changed), 0)
    if interpolation is None or 0 in changed or not channels:
        raise UnsupportedLayerError(f"mode {mode!r} with factors {factors} is not supported")
    for axis in changed:
        n, factor = x.shape[axis], int(factors[axis])
        if not _same_places(n, factor, interpolation, coordinates, rounding):
            raise UnsupportedLayerError(
                f"{mode} with coordinate_transformation_mode {coordinates!r}"
                f" and nearest_mode {rounding!r} is not supported"
            )
    axes = [axis for axis in (1, 2, 3) if axis != channels] + [channels]
    source = graph.arranged(x.layer, x.order[0].transpose([axis - 1 for axis in axes]))
    size = int(factors[axes[0]]), int(factors[axes[1]])
    out = graph.emit(UpSampling2D(size, interpolation), source)
    return graph.tensor(out, [axis - 1 for axis in axes])


def _same_places(n: int, factor: int, interpolation: str, coordinates: str, rounding: str) -> bool:
    """Whether pixels of the output lie where UpSampling2D has them."""
    x = np.arange(n * factor)
    place: np.ndarray
    match coordinates:
        case "asymmetric":
            place = x / factor
        case "half_pixel" | "half_pixel_symmetric":
            place = (x + 0.5) / factor - 0.5
        case "pytorch_half_pixel":
            place = (x + 0.5) / factor - 0.5 if n * factor > 1 else 0.0 * x
        case "tf_half_pixel_for_nn":
            place = (x + 0.5) / factor
        case _:
            return False
    if interpolation == "bilinear":
        return np.allclose(place, (x + 0.5) / factor - 0.5)
    rounded = {
        "floor": np.floor(place),
        "ceil": np.ceil(place),
        "round_prefer_floor": np.ceil(place - 0.5),
        "round_prefer_ceil": np.floor(place + 0.5),
    }.get(rounding)
    return rounded is not None and np.array_equal(np.clip(rounded, 0, n - 1), x // factor)


# ---- several inputs -------------------------------------------------------------------------


def _joined(graph: Graph, layer: Layer, *tensors: Tensor) -> Tensor:
    """Layers that join tensors of one shape value by value, or, Multiply, that repeats axes of
    length 1.
    """
    first = max(tensors, key=lambda x: (x.order.size, x.order.ndim))
    rank = first.order.ndim
    if not isinstance(layer, Multiply) and any(x.shape != first.shape for x in tensors):
        shapes = ", ".join(str(x.shape) for x in tensors)
        raise UnsupportedLayerError(f"inputs of different shapes are not supported, found {shapes}")
    if all(
        np.array_equal(x.order, first.order) and graph.shapes[x.layer] == graph.shapes[first.layer]
        for x in tensors
    ):
        return Tensor(graph.emit(layer, *(x.layer for x in tensors)), first.order)
    axes = graph.channels_last(first)
    sources = []
    for x in tensors:
        order = x.order.reshape((1,) * (rank - x.order.ndim) + x.shape)
        order = (order[0] if first.has_batch else order).transpose(axes)
        while isinstance(layer, Multiply) and order.ndim > 1 and order.shape[0] == 1:
            order = order[0]
        sources.append(graph.arranged(x.layer, order))
    out = graph.emit(layer, *sources)
    order = places(graph.shapes[out]).transpose(np.argsort(axes))
    return Tensor(out, order[None] if first.has_batch else order)


# ---- functions of single elements -----------------------------------------------------------


def _curve(
    function: Callable[..., np.ndarray], layers: Callable[[Graph, Node], Tensor]
) -> Operator:
    """A function of one activation and of numbers."""

    def curve(graph: Graph, node: Node) -> Value:
        values = [value for value in node.inputs if value is not None]
        roots, parts, nodes, reads = [], [], 1, 0
        for value in values:
            if isinstance(value, Constant):
                parts.append(_always(value.array))
            elif isinstance(value, Curve) and value.readers == 1:
                roots.append(value.root)
                parts.append(value.function)
                nodes, reads = nodes + value.nodes, reads + value.reads
            else:
                roots.append(graph.made(value))
                parts.append(_itself)
                reads += 1
        numbers = all(value.array.size == 1 for value in values if isinstance(value, Constant))
        alike = all(a.layer == b.layer and a.order is b.order for a, b in pairwise(roots))
        if not numbers or not alike or nodes > 16:
            return layers(graph, node)
        return Curve(
            roots[0],
            lambda x: function(node, *(part(x) for part in parts)),
            node.title,
            lambda: layers(graph, node),
            nodes,
            reads,
        )

    return curve


def _itself(x: np.ndarray) -> np.ndarray:
    return x


def _always(array: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    number = array.reshape(-1)[:1].astype(np.float64)
    return lambda x: number


def _sum(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    out = _joined(graph, Add(), *tensors) if len(tensors) > 1 else tensors[0]
    for constant in constants:
        out = graph.shifted(out, constant)
    return out


def _difference(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants:
        return _joined(graph, Subtract(), *tensors)
    if isinstance(node.inputs[1], Constant):
        return graph.shifted(tensors[0], -constants[0])
    return graph.shifted(graph.scaled(tensors[0], np.array(-1, np.float32)), constants[0])


def _times(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants:
        return _joined(graph, Multiply(), *tensors)
    return graph.scaled(tensors[0], constants[0])


def _quotient(graph: Graph, node: Node) -> Tensor:
    constants, tensors = _kinds(graph, node)
    if not constants or not isinstance(node.inputs[1], Constant):
        raise UnsupportedLayerError("dividing by an activation is not supported")
    return graph.divided(tensors[0], constants[0])


def _kinds(graph: Graph, node: Node) -> tuple[list[np.ndarray], list[Tensor]]:
    values = [value for value in node.inputs if value is not None]
    constants = [value.array for value in values if isinstance(value, Constant)]
    tensors = [graph.made(value) for value in values if not isinstance(value, Constant)]
    rank = max((array.ndim for array in constants), default=0)
    if len(tensors) == 1 and rank > tensors[0].order.ndim:
        (x,) = tensors
        tensors = [replace(x, order=x.order.reshape((1,) * (rank - x.order.ndim) + x.shape))]
    return constants, tensors


def _scaler(graph: Graph, node: Node) -> Tensor:
    """scikit-learn's StandardScaler: (x − offset) · scale."""
    offset, scale = (np.array(node.attributes[name], np.float32) for name in ("offset", "scale"))
    return graph.scaled(graph.shifted(_made(graph, node), -offset), scale)


def _negative(graph: Graph, node: Node) -> Tensor:
    return graph.scaled(_made(graph, node), np.array(-1, np.float32))


def _only_inside(graph: Graph, node: Node) -> Tensor:
    raise UnsupportedLayerError("supported only as a part of gelu, silu, softsign and their like")


def _clip(graph: Graph, node: Node) -> Tensor:
    low, high = _limits(node)
    return _between(graph, _made(graph, node), low, high)


def _limits(node: Node) -> tuple[float, float]:
    bounds = []
    for index, name, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        array = node.constant(index)
        value = node.attributes.get(name, default) if array is None else array
        if np.size(value) != 1:
            raise UnsupportedLayerError(f"{name} must be one number")
        value = _decimal(float(np.reshape(value, ())))
        bounds.append(default if abs(value) >= np.finfo(np.float32).max else value)
    return bounds[0], bounds[1]


def _extreme(graph: Graph, node: Node) -> Tensor:
    """Min and Max with one number."""
    constants, tensors = _kinds(graph, node)
    if len(tensors) != 1 or len(constants) != 1 or constants[0].size != 1:
        raise UnsupportedLayerError("supported with one activation and one number only")
    number = float(constants[0].reshape(()))
    low, high = (number, np.inf) if node.operator == "Max" else (-np.inf, number)
    return _between(graph, tensors[0], low, high)


def _between(graph: Graph, x: Tensor, low: float, high: float) -> Tensor:
    """x, at least the first and at most the second number."""

    def number(value: float) -> np.ndarray:
        return np.array(value, np.float32)

    if low > high:
        raise UnsupportedLayerError(f"the lower limit {low} is above the upper one {high}")
    if low == 0:
        if high == 6:
            return graph.activation(x, Activation("relu6"))
        most = None if high == np.inf else high
        return graph.activation(x, Activation("relu", max_value=most))
    if low == -np.inf:
        if high == np.inf:
            return x
        layer = graph.own(x)
        if isinstance(layer, Weighted) and layer.activation == "relu" and high == 6:
            graph.layers[x.layer] = layer.replace(activation="relu6")
            return x
        x = graph.shifted(graph.scaled(x, number(-1)), number(high))
        x = graph.activation(x, Activation("relu"))
        return graph.shifted(graph.scaled(x, number(-1)), number(high))
    most = None if high == np.inf else high - low
    x = graph.shifted(x, number(-low))
    return graph.shifted(graph.activation(x, Activation("relu", max_value=most)), number(low))


def _where(node: Node, condition: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.where(condition, x, y)


def _erf(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return erf(x)


def _hard_sigmoid(node: Node, x: np.ndarray) -> np.ndarray:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    return np.clip(alpha * x + beta, 0, 1)


def _hard_sigmoid_layers(graph: Graph, node: Node) -> Tensor:
    alpha, beta = node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5)
    for name, slope in (("hard_sigmoid", 1 / 6), ("hard_sigmoid_keras2", 0.2)):
        if abs(alpha - slope) < 1e-6 and beta == 0.5:
            return graph.activation(_made(graph, node), Activation(name))
    raise UnsupportedLayerError(f"alpha {alpha} with beta {beta} is not supported")


def _named(name: str) -> Callable[[Graph, Node], Tensor]:
    return lambda graph, node: graph.activation(_made(graph, node), Activation(name))


def _parametric(graph: Graph, node: Node) -> Value:
    """Activations with numbers as attributes."""
    x, attributes = _made(graph, node), node.attributes
    match node.operator:
        case "LeakyRelu":
            slope = _decimal(attributes.get("alpha", 0.01))
            return graph.activation(x, Activation("leaky_relu", negative_slope=slope))
        case "Elu":
            alpha = _decimal(attributes.get("alpha", 1.0))
            return graph.activation(x, Activation("elu", alpha=alpha))
        case "ThresholdedRelu":
            threshold = _decimal(attributes.get("alpha", 1.0))
            return graph.activation(x, Activation("relu", threshold=threshold))
        case "Gelu":
            tanh = _text(node, "approximate", "none") == "tanh"
            return graph.activation(x, Activation("gelu_tanh" if tanh else "gelu"))
        case "Swish" if attributes.get("alpha", 1.0) == 1:
            return graph.activation(x, Activation("silu"))
        case "Celu" if attributes.get("alpha", 1.0) == 1:
            return graph.activation(x, Activation("elu"))
        case "Selu":
            alpha, gamma = attributes.get("alpha", 1.67326319), attributes.get("gamma", 1.05070098)
            if abs(alpha - 1.67326324) < 1e-5 and abs(gamma - 1.05070099) < 1e-5:
                return graph.activation(x, Activation("selu"))
    raise UnsupportedLayerError(f"not supported with {attributes}")


def _decimal(value: float) -> float:
    """A number as it was before it was rounded to float32: 0.2, not 0.20000000298."""
    return float(str(np.float32(value)))


def _prelu(graph: Graph, node: Node) -> Value:
    x, slope = _made(graph, node), node.constant(1)
    if slope is None:
        raise ShapeError("its slope is missing")
    placed = graph.placed(x, slope)
    if placed.ndim == 0:
        return graph.activation(x, Activation("leaky_relu", negative_slope=float(placed)))
    return replace(x, layer=graph.emit(PReLU(placed), x.layer), readers=1)


def _softmax(name: str) -> Operator:
    def softmax(graph: Graph, node: Node) -> Value:
        x = _made(graph, node)
        axis = node.attributes.get("axis", -1 if graph.opset >= 13 else 1)
        if graph.opset < 13:  # all axes from this one on together
            axis %= max(x.order.ndim, 1)
            if x.shape[axis + 1 :].count(1) == len(x.shape[axis + 1 :]):
                return graph.along(x, axis, Activation(name))
            if axis != 1 or not x.has_batch:
                raise UnsupportedLayerError(f"axis {axis} of shape {x.shape} is not supported")
            flat = replace(x, order=x.order.reshape(1, -1))
            out = graph.along(flat, 1, Activation(name))
            return replace(out, order=out.order.reshape(x.shape))
        return graph.along(x, axis, Activation(name))

    return softmax


# ---- nodes that do nothing ------------------------------------------------------------------


def _identity(graph: Graph, node: Node) -> Value:
    return _first(node)


def _dropout(graph: Graph, node: Node) -> Value:
    training = node.constant(2)
    if training is not None and training.any():
        raise UnsupportedLayerError("training mode is not supported")
    return _first(node)


def _cast(graph: Graph, node: Node) -> Value:
    if node.attributes["to"] not in (1, 11):  # float and double
        raise UnsupportedLayerError("activations are floats; casts to other types round them")
    return _first(node)


OPERATORS: dict[str, Operator] = {
    "Abs": _curve(lambda node, x: np.abs(x), _only_inside),
    "Add": _curve(lambda node, x, y: x + y, _sum),
    "AveragePool": _pooling(AveragePooling2D),
    "BatchNormalization": _batch_normalization,
    "Cast": _cast,
    "Celu": _parametric,
    "Clip": _curve(lambda node, x, *limits: np.clip(x, *_limits(node)), _clip),
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Div": _curve(lambda node, x, y: x / y, _quotient),
    "Dropout": _dropout,
    "Elu": _parametric,
    "Erf": _curve(lambda node, x: _erf(x), _only_inside),
    "Exp": _curve(lambda node, x: np.exp(x), _named("exponential")),
    "Flatten": _flatten,
    "Gelu": _parametric,
    "Gemm": _gemm,
    "GlobalAveragePool": _global(GlobalAveragePooling2D),
    "GlobalMaxPool": _global(GlobalMaxPooling2D),
    "Greater": _curve(lambda node, x, y: x > y, _only_inside),
    "HardSigmoid": _curve(_hard_sigmoid, _hard_sigmoid_layers),
    "HardSwish": _named("hard_swish"),
    "Identity": _identity,
    "LeakyRelu": _parametric,
    "Less": _curve(lambda node, x, y: x < y, _only_inside),
    "Log": _curve(lambda node, x: np.log(x), _only_inside),
    "LogSoftmax": _softmax("log_softmax"),
    "MatMul": _matmul,
    "Max": _curve(lambda node, x, y: np.maximum(x, y), _extreme),
    "MaxPool": _pooling(MaxPooling2D),
    "Min": _curve(lambda node, x, y: np.minimum(x, y), _extreme),
    "Mish": _named("mish"),
    "Mul": _curve(lambda node, x, y: x * y, _times),
    "Neg": _curve(lambda node, x: -x, _negative),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _curve(lambda node, x, y: x**y, _only_inside),
    "ReduceMax": _reduction(GlobalMaxPooling2D),
    "ReduceMean": _reduction(GlobalAveragePooling2D),
    "ReduceSum": _reduction(GlobalAveragePooling2D, total=True),
    "Relu": _named("relu"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Selu": _parametric,
    "Shape": _shape,
    "Sigmoid": _curve(lambda node, x: 1 / (1 + np.exp(-x)), _named("sigmoid")),
    "Slice": _slice,
    "Softmax": _softmax("softmax"),
    "Softplus": _curve(lambda node, x: np.logaddexp(x, 0), _named("softplus")),
    "Softsign": _curve(lambda node, x: x / (1 + np.abs(x)), _named("softsign")),
    "Squeeze": _squeeze,
    "Sub": _curve(lambda node, x, y: x - y, _difference),
    "Sum": _sum,
    "Swish": _parametric,
    "Tanh": _curve(lambda node, x: np.tanh(x), _named("tanh")),
    "ThresholdedRelu": _parametric,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
    "ai.onnx.ml.Scaler": _scaler,
    "Where": _curve(_where, _only_inside),
}
