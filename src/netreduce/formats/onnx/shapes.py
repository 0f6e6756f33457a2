"""Operators that move elements, add or cut off a border, or do nothing."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.rearranged import numbered, size_of
from netreduce.network.layers import (
    Concatenate,
    Cropping2D,
    UpSampling2D,
    ZeroPadding2D,
)

from .constants import Constant
from .graph import IMAGE, Graph, Node, Operator, Tensor, Value
from .windows import Four


def _flatten(graph: Graph, node: Node) -> Value:
    x = graph.made(node.first)
    axis = node.attributes.get("axis", 1)
    rows = size_of(x.shape[:axis])
    return replace(x, order=x.order.reshape(rows, x.order.size // rows))


def _reshape(graph: Graph, node: Node) -> Value:
    x, shape = graph.made(node.first), node.integers(1, "shape")
    if shape is None:
        raise ShapeError("its shape is missing")
    if not node.attributes.get("allowzero"):
        shape = [x.shape[i] if length == 0 else length for i, length in enumerate(shape)]
    return replace(x, order=x.order.reshape(shape))


def _transpose(graph: Graph, node: Node) -> Value:
    x = graph.made(node.first)
    return replace(x, order=x.order.transpose(node.attributes.get("perm")))


def _squeeze(graph: Graph, node: Node) -> Value:
    x, axes = graph.made(node.first), node.integers(1, "axes")
    return replace(x, order=x.order.squeeze(None if axes is None else tuple(axes)))


def _unsqueeze(graph: Graph, node: Node) -> Value:
    x, axes = graph.made(node.first), node.integers(1, "axes")
    return replace(x, order=np.expand_dims(x.order, tuple(axes or ())))


def _shape(graph: Graph, node: Node) -> Value:
    x = graph.made(node.first)
    part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return Constant(np.array(x.shape, np.int64)[part])


def _concat(graph: Graph, node: Node) -> Value:
    tensors = [graph.made(value) for value in node.inputs if value is not None]
    if len(tensors) == 1:
        return tensors[0]
    axis = graph.axis(tensors[0], node.attributes["axis"])
    sources = [graph.arranged(x.layer, np.moveaxis(x.sample, axis, -1)) for x in tensors]
    out = graph.emit(Concatenate(), *sources)
    order = np.moveaxis(numbered(graph.shapes[out]), -1, axis)
    return Tensor(out, order[None] if tensors[0].has_batch else order)


def _pad(graph: Graph, node: Node) -> Value:
    x, pads = graph.made(node.first), node.integers(1, "pads")
    mode, fill = node.text("mode", "constant"), node.constant(2)
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
    x = graph.made(node.first)
    starts, ends = node.integers(1, "starts"), node.integers(2, "ends")
    if starts is None or ends is None:
        raise ShapeError("its starts or ends are missing")
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4, "steps") or [1] * len(starts)
    parts = [slice(None)] * x.order.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        parts[axis] = slice(start, end, step)
    return _moved(graph, x, lambda order: order[tuple(parts)])


def _split(graph: Graph, node: Node) -> list[Tensor | None]:
    x = graph.made(node.first)
    axis = graph.axis(x, node.attributes.get("axis", 0)) + x.has_batch
    lengths = node.integers(1, "split")
    if lengths is None:
        length = -(-x.shape[axis] // node.outputs)
        lengths = [length] * (node.outputs - 1)
        lengths.append(x.shape[axis] - sum(lengths))
    if min(lengths) < 0 or sum(lengths) != x.shape[axis]:
        raise ShapeError(f"parts of {lengths} do not make up axis {axis} of shape {x.shape}")
    parts = np.split(np.arange(x.shape[axis]), np.cumsum(lengths)[:-1])
    return [_taken(graph, x, part, axis) for part in parts]


def _gather(graph: Graph, node: Node) -> Value:
    x, chosen = graph.made(node.first), node.constant(1)
    if chosen is None:
        raise ShapeError("its indices are missing")
    axis = graph.axis(x, node.attributes.get("axis", 0)) + x.has_batch
    picked = _taken(graph, x, chosen.ravel(), axis)
    shape = (*x.shape[:axis], *chosen.shape, *x.shape[axis + 1 :])
    return replace(picked, order=picked.order.reshape(shape))


def _tile(graph: Graph, node: Node) -> Value:
    x, repeats = graph.made(node.first), node.integers(1, "repeats")
    return _moved(graph, x, lambda order: np.tile(order, repeats or ()))


def _expand(graph: Graph, node: Node) -> Value:
    x, shape = graph.made(node.first), tuple(node.integers(1, "shape") or ())
    return _moved(
        graph, x, lambda order: np.broadcast_to(order, np.broadcast_shapes(order.shape, shape))
    )


def _depth_to_space(graph: Graph, node: Node) -> Value:
    x, size = graph.made(node.first), node.attributes["blocksize"]
    batch, channels, rows, columns = x.shape
    if node.text("mode", "DCR") == "DCR":
        parts = x.order.reshape(batch, size, size, channels // size**2, rows, columns)
        parts = parts.transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.order.reshape(batch, channels // size**2, size, size, rows, columns)
        parts = parts.transpose(0, 1, 4, 2, 5, 3)
    return replace(x, order=parts.reshape(batch, -1, rows * size, columns * size))


def _space_to_depth(graph: Graph, node: Node) -> Value:
    x, size = graph.made(node.first), node.attributes["blocksize"]
    batch, channels, rows, columns = x.shape
    parts = x.order.reshape(batch, channels, rows // size, size, columns // size, size)
    parts = parts.transpose(0, 3, 5, 1, 2, 4)
    return replace(x, order=parts.reshape(batch, -1, rows // size, columns // size))


def _taken(graph: Graph, x: Tensor, chosen: np.ndarray, axis: int) -> Tensor:
    return _moved(graph, x, lambda order: order.take(chosen, axis))


def _moved(graph: Graph, x: Tensor, move: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """The elements of a tensor that are picked, repeated or reordered as `move` does it with an
    array of that shape. What moves each of them once, costs nothing.
    """
    order = move(x.order)
    if x.has_batch and len(order) != 1:
        raise UnsupportedLayerError("it works along the batch axis, which is not supported")
    if not order.size:
        raise UnsupportedLayerError(f"of shape {x.shape} nothing is left")
    if order.size == x.order.size and np.bincount(order.ravel()).max() == 1:
        return replace(x, order=order)
    sample = x.sample
    channels_last = {2: (1, 0), 3: IMAGE}.get(sample.ndim)
    axes = graph.layout(x) or channels_last or tuple(range(sample.ndim))
    row = (1,) * (sample.ndim == 2)  # a signal is an image of one row

    def tensor(layer: int) -> Tensor:
        places = numbered(graph.shapes[layer][len(row) :]).transpose(np.argsort(axes))
        return Tensor(layer, places[None] if x.has_batch else places)

    def arranged(x: Tensor) -> int:
        places = x.sample.transpose(axes)
        return graph.arranged(x.layer, places.reshape(*row, *places.shape))

    whole = tensor(arranged(x))
    return tensor(arranged(replace(whole, order=move(whole.order))))


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
    out = numbered(graph.shapes[source])
    out = (out[0] if sample.ndim == 2 else out).transpose(np.argsort(axes))
    return Tensor(source, out[None] if x.has_batch else out)


def _negatives(sides: Four) -> Four:
    """How far numbers are below 0."""
    top, bottom, left, right = (max(-side, 0) for side in sides)
    return top, bottom, left, right


def _resize(graph: Graph, node: Node) -> Value:
    """Resize and its predecessor Upsample."""
    x = graph.made(node.first)
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
    mode = node.text("mode", "nearest")
    interpolation = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear"}.get(mode)
    old = "asymmetric" if upsample else "half_pixel"
    coordinates = node.text("coordinate_transformation_mode", old)
    rounding = "floor" if upsample else node.text("nearest_mode", "round_prefer_floor")
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


def _identity(graph: Graph, node: Node) -> Value:
    return node.first


def _dropout(graph: Graph, node: Node) -> Value:
    training = node.constant(2)
    if training is not None and training.any():
        raise UnsupportedLayerError("training mode is not supported")
    return node.first


def _cast(graph: Graph, node: Node) -> Value:
    if node.attributes["to"] not in (1, 11):  # float and double
        raise UnsupportedLayerError("activations are floats; casts to other types round them")
    return node.first


SHAPES: dict[str, Operator] = {
    "Cast": _cast,
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Dropout": _dropout,
    "Expand": _expand,
    "Flatten": _flatten,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Reshape": _reshape,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Upsample": _resize,
}
