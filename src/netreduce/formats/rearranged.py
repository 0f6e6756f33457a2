"""Networks built from graphs that order their tensors otherwise: channels first, flattened, cut.

A tensor of such a graph is the output of a layer and, for each of its elements, the place where it
stands in there. What only moves elements (reshape, transpose, slice) changes these places and costs
nothing; the layer after it takes them in, or layers are added that put the elements in order.
"""

from collections.abc import Sequence
from itertools import permutations

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    AveragePooling2D,
    Conv2D,
    Cropping2D,
    Dense,
    Flatten,
    Layer,
    Permute,
    Reshape,
)

LARGEST_TENSOR = 1 << 24  # elements of one sample
FAR = 16  # from 0, for a limit
LARGEST_SELECTION = 1 << 12  # channels, or features, that a matrix of zeros and ones may pick


class Rearranged:
    """A network as it grows, layer by layer.

    Attributes
    ----------
    layers : list of Layer
    sources : list of tuple of int
    shapes : dict of int to tuple of int
        Of the outputs of the layers, INPUT included.
    """

    def __init__(self, input_shape: Sequence[int]):
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.shapes: dict[int, tuple[int, ...]] = {}
        self._add_shape(INPUT, tuple(input_shape))

    def emit(self, layer: Layer, *sources: int) -> int:
        """Add a layer and return its index."""
        index = len(self.layers)
        self._add_shape(index, layer.output_shape(*(self.shapes[source] for source in sources)))
        self.layers.append(layer)
        self.sources.append(sources)
        return index

    def _add_shape(self, index: int, shape: tuple[int, ...]) -> None:
        if size_of(shape) > LARGEST_TENSOR:
            raise ShapeError(f"an output of shape {shape} is beyond {LARGEST_TENSOR} elements")
        self.shapes[index] = shape

    def up_to(self, output: int) -> Network:
        """The layers that lead to the output of that layer."""
        if output == INPUT:
            output = self.emit(Activation("linear"), INPUT)
        needed = {output}
        for index in range(output, -1, -1):
            if index in needed:
                needed.update(self.sources[index])
        kept = sorted(needed - {INPUT})
        index_of = {INPUT: INPUT, **{old: new for new, old in enumerate(kept)}}
        return Network(
            [self.layers[i] for i in kept],
            self.shapes[INPUT],
            [tuple(index_of[source] for source in self.sources[i]) for i in kept],
        )

    def arranged(self, layer: int, places: np.ndarray) -> int:
        """A layer whose output has the shape of `places` and holds those elements of the output of
        `layer`.

        Raises
        ------
        UnsupportedLayerError
            The elements stand in places from which no known layers bring them in order.
        """
        shape = self.shapes[layer]
        if places.size == size_of(shape):
            if in_order(places):
                return self._reshaped(layer, places.shape)
            permutation = _permutation(places, shape)
            if permutation is not None:
                lengths, axes = permutation
                layer = self._reshaped(layer, lengths)
                layer = self.emit(Permute(tuple(axis + 1 for axis in axes)), layer)
                return self._reshaped(layer, places.shape)
        if len(shape) == 3 and places.ndim in (2, 3):
            cut = self._cut(layer, places if places.ndim == 3 else places[..., None])
            return self._reshaped(cut, places.shape)
        if places.ndim == 1 and max(places.size, size_of(shape)) <= LARGEST_SELECTION:
            vector = self._reshaped(layer, (size_of(shape),))
            return self.emit(Dense(_selection(places, size_of(shape))), vector)
        raise UnsupportedLayerError(
            f"elements of {shape} are picked or reordered to shape {places.shape} in a way that"
            " reshaping, transposing, cropping and choosing channels do not express"
        )

    def _reshaped(self, layer: int, shape: Sequence[int]) -> int:
        """The output of a layer, row-major in another shape."""
        if self.shapes[layer] == tuple(shape):
            return layer
        return self.emit(Flatten() if len(shape) == 1 else Reshape(tuple(shape)), layer)

    def _cut(self, layer: int, places: np.ndarray) -> int:
        """Some rows, columns and channels of an image."""
        height, width, channels = self.shapes[layer]
        positions, chosen = places[:, :, 0] // channels, places[0, 0] % channels
        rows, columns = positions[:, 0] // width, positions[0] % width
        if not np.array_equal(
            places, ((rows[:, None] * width + columns)[..., None] * channels) + chosen
        ):
            raise UnsupportedLayerError(
                f"elements of an image of shape {(height, width, channels)} are reordered in a way"
                " that cropping and choosing channels do not express"
            )
        (top, down, bottom), (left, across, right) = _steps(rows, height), _steps(columns, width)
        if top or bottom or left or right:
            layer = self.emit(Cropping2D((top, bottom, left, right)), layer)
        if (down, across) != (1, 1):
            layer = self.emit(AveragePooling2D((1, 1), (down, across)), layer)
        if not np.array_equal(chosen, np.arange(channels)):
            layer = self.emit(Conv2D(_selection(chosen, channels)[None, None]), layer)
        return layer


def _permutation(
    places: np.ndarray, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The shape in which, and the axes by which, an output must be transposed to stand in these
    places; its own shape where possible, None where there are none.
    """
    flat = places.ravel()
    for axes in permutations(range(len(shape))) if len(shape) < 5 else ():
        if np.array_equal(numbered(shape).transpose(axes).ravel(), flat):
            return shape, axes
    lengths: list[int] = []
    strides: list[int] = []
    while flat.size > 1:
        stride = int(flat[1] - flat[0])
        breaks = np.flatnonzero(np.diff(flat) != stride)
        length = int(breaks[0]) + 1 if breaks.size else flat.size
        if flat.size % length or length == 1:
            return None
        blocks = flat.reshape(-1, length)
        if (blocks != blocks[:, :1] + stride * np.arange(length)).any():
            return None
        lengths.insert(0, length)
        strides.insert(0, stride)
        flat = blocks[:, 0]
    by_stride = sorted(range(len(strides)), key=lambda axis: -strides[axis])
    axes = tuple(by_stride.index(axis) for axis in range(len(strides)))
    source = tuple(lengths[axis] for axis in by_stride)
    if not np.array_equal(numbered(source).transpose(axes).ravel(), places.ravel()):
        return None
    return source, axes


def _steps(positions: np.ndarray, length: int) -> tuple[int, int, int]:
    """Rows (or columns) to cut off before the first one, from one to the next, and to cut off
    behind the last one, so that steps end there.
    """
    step = int(positions[1] - positions[0]) if len(positions) > 1 else 1
    if step < 1 or not np.array_equal(positions, positions[0] + step * np.arange(len(positions))):
        raise UnsupportedLayerError(
            "rows or columns of an image are picked that do not follow each other in equal steps"
        )
    return int(positions[0]), step, max(0, length - int(positions[-1]) - step)


def _selection(chosen: np.ndarray, size: int) -> np.ndarray:
    """The matrix that picks these of so many features."""
    if max(len(chosen), size) > LARGEST_SELECTION:
        raise UnsupportedLayerError(
            f"{len(chosen)} of {size} features are picked, at most {LARGEST_SELECTION} can be"
        )
    matrix = np.zeros((size, len(chosen)), np.float32)
    matrix[chosen, np.arange(len(chosen))] = 1
    return matrix


def far(low: float, high: float) -> bool:
    """Whether limits on both sides of 0 are so far from it that a shift by them, which makes of a
    limit a relu, would round what lies between: to 0.004 where they are ±65,504.
    """
    return low < 0 < high and (FAR < -low < np.inf or FAR < high < np.inf)


def numbered(shape: Sequence[int]) -> np.ndarray:
    """The places of the elements of an array, in its shape."""
    return np.arange(size_of(shape), dtype=np.int32).reshape(shape)


def in_order(places: np.ndarray) -> bool:
    """Whether places follow each other from the first one."""
    return np.array_equal(places.ravel(), np.arange(places.size, dtype=np.int32))


def size_of(shape: Sequence[int]) -> int:
    """Number of elements, without overflow."""
    size = 1
    for length in shape:
        size *= int(length)
    return size
