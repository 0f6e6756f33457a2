"""PyTorch's operations that only move elements: they cost no layer by themselves."""

from collections.abc import Sequence

import numpy as np

from netreduce.errors import ModelFileError, UnsupportedLayerError

from .arguments import Arguments, Operator, axis_of
from .values import Builder, Value


def _same(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x


def _reshaped(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x.moved(arguments.x.places.reshape(arguments.shape))


def _squeezed(builder: Builder, arguments: Arguments) -> Value:
    dims = arguments.get("dim", [])
    for dim in dims if isinstance(dims, list) else [dims]:
        rank = arguments.x.places.ndim + (
            2 if len(arguments.shape) > arguments.x.places.ndim else 1
        )
        if dim % rank == 0:
            raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return _reshaped(builder, arguments)


def _expanded(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x.moved(np.broadcast_to(arguments.x.places, arguments.shape))


def _permute(builder: Builder, arguments: Arguments) -> Value:
    return _transposed(arguments.x, arguments.get("dims"))


def _transpose(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    order = list(range(x.places.ndim + 1))
    first, second = (
        arguments.get(name, arguments.get(f"dim{i}", arguments.get(f"axis{i}"))) % len(order)
        for i, name in enumerate(("dim0", "dim1"))
    )
    order[first], order[second] = order[second], order[first]
    return _transposed(x, order)


def _transposed(x: Value, order: Sequence[int]) -> Value:
    rank = x.places.ndim + 1
    order = [dim % rank for dim in order]
    if order[0] != 0:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return x.moved(x.places.transpose([dim - 1 for dim in order[1:]]))


def _slice(builder: Builder, arguments: Arguments) -> Value:
    x, dim = arguments.x, arguments.get("dim", 0)
    if dim % (x.places.ndim + 1) == 0:
        start, end = arguments.get("start"), arguments.get("end")
        if start in (None, 0) and (end is None or end >= 1 << 62) and arguments.get("step", 1) == 1:
            return x
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    chosen = slice(arguments.get("start"), arguments.get("end"), arguments.get("step", 1))
    return x.moved(x.places[(slice(None),) * axis_of(dim, x) + (chosen,)])


def _select(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    return x.moved(np.take(x.places, arguments.get("index"), axis=axis_of(arguments.get("dim"), x)))


def _picked(builder: Builder, arguments: Arguments) -> Value:
    axis = axis_of(arguments.get("dim"), arguments.x)
    return _taken(arguments.x, arguments.constant("index"), axis)


def _indexed(builder: Builder, arguments: Arguments) -> Value:
    given = arguments.get("indices")
    axes = [axis for axis, index in enumerate(given) if index is not None]
    if len(axes) != 1 or not isinstance(given[axes[0]], np.ndarray):
        raise UnsupportedLayerError("only constant numbers along one axis are supported")
    return _taken(arguments.x, given[axes[0]], axis_of(axes[0], arguments.x))


def _taken(x: Value, index: np.ndarray, axis: int) -> Value:
    if index.dtype.kind not in "iu":
        raise UnsupportedLayerError(f"expected whole numbers to pick by, found {index.dtype}")
    return x.moved(np.take(x.places, index, axis))


def _repeated(builder: Builder, arguments: Arguments) -> Value:
    first, *repeats = arguments.get("repeats", arguments.get("dims"))
    if first != 1 or len(repeats) < arguments.x.places.ndim:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return arguments.x.moved(np.tile(arguments.x.places, repeats))


def _split(builder: Builder, arguments: Arguments) -> list[Value]:
    x, axis = arguments.x, axis_of(arguments.get("dim", 0), arguments.x)
    lengths = [0 if shape is None else shape[axis] for shape in arguments.shapes]
    if sum(lengths) != x.shape[axis]:
        raise ModelFileError(f"parts of {lengths} do not make up {x.shape[axis]}")
    return [x.moved(part) for part in np.split(x.places, np.cumsum(lengths)[:-1], axis)]


def _concatenation(builder: Builder, arguments: Arguments) -> Value:
    values = arguments.get("tensors")
    if not all(isinstance(value, Value) for value in values):
        raise UnsupportedLayerError("constants are concatenated with what depends on the input")
    if len(values) == 1:
        return values[0]
    return builder.joined(values, axis_of(arguments.get("dim", 0), values[0]))


def _pixel_shuffle(builder: Builder, arguments: Arguments) -> Value:
    x, factor = arguments.x, arguments.get("upscale_factor")
    channels, height, width = x.shape
    parts = x.places.reshape(channels // factor**2, factor, factor, height, width)
    return x.moved(parts.transpose(0, 3, 1, 4, 2).reshape(arguments.shape))


def _pixel_unshuffle(builder: Builder, arguments: Arguments) -> Value:
    x, factor = arguments.x, arguments.get("downscale_factor")
    channels, height, width = x.shape
    parts = x.places.reshape(channels, height // factor, factor, width // factor, factor)
    return x.moved(parts.transpose(0, 2, 4, 1, 3).reshape(arguments.shape))


def _channel_shuffle(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    parts = x.places.reshape(arguments.get("groups"), -1, *x.shape[1:])
    return x.moved(parts.swapaxes(0, 1).reshape(x.shape))


def _flip(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    return x.moved(np.flip(x.places, tuple(axis_of(dim, x) for dim in arguments.get("dims"))))


def _roll(builder: Builder, arguments: Arguments) -> Value:
    x, dims = arguments.x, arguments.get("dims") or []
    if not dims:  # of all elements, those of other samples among them
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    shifts = arguments.ints("shifts", 0, len(dims))
    return x.moved(np.roll(x.places, shifts, [axis_of(dim, x) for dim in dims]))


VIEWS = frozenset(  # what they give may be the memory that they read
    (
        *("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "expand", "expand_as"),
        *("permute", "transpose", "swapaxes", "slice", "select", "chunk", "split"),
        *("split_with_sizes", "contiguous", "alias", "detach", "to", "identity"),
        *("dropout", "feature_dropout", "alpha_dropout"),
    )
)
MOVES: dict[str, Operator] = {
    **dict.fromkeys(
        (
            *("contiguous", "clone", "alias", "detach", "to", "_to_copy", "lift_fresh_copy"),
            *("identity"),
        ),
        _same,
    ),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view"), _reshaped),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeezed),
    **dict.fromkeys(("expand", "expand_as"), _expanded),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes"), _transpose),
    "slice": _slice,
    "select": _select,
    "index_select": _picked,
    "index": _indexed,
    **dict.fromkeys(("repeat", "tile"), _repeated),
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), _split),
    **dict.fromkeys(("cat", "concat"), _concatenation),
    "pixel_shuffle": _pixel_shuffle,
    "pixel_unshuffle": _pixel_unshuffle,
    **dict.fromkeys(("channel_shuffle", "native_channel_shuffle"), _channel_shuffle),
    "flip": _flip,
    "roll": _roll,
}
