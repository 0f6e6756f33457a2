"""Networks built from graphs that order their tensors otherwise: channels first, flattened, cut.

A value of such a graph is the output of a layer and, for each of its elements, the place where it
stands in there. What only moves elements (reshape, transpose, slice) changes these places and costs
nothing; the layer after it takes them in, or layers are added that put the elements in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.turned import turned
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Cropping2D,
    Dense,
    Flatten,
    Layer,
    Permute,
    Rescaling,
    Reshape,
    Weighted,
)

LARGEST_VALUE = 1 << 24  # elements of one sample
LARGEST_SELECTION = 1 << 12  # channels, or features, that a matrix of zeros and ones may pick
LARGEST_KERNEL = 1 << 28


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor of the graph, one sample of it.

    Attributes
    ----------
    layer : int
        Index of the layer that computes it, INPUT for the network's input.
    places : ndarray of int
        In the shape that the graph gives it: for every element its place in the flattened output
        of the layer.
    """

    layer: int
    places: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        return self.places.shape

    def moved(self, places: np.ndarray) -> "Value":
        """Elements of the same layer in other places."""
        return replace(self, places=places)


def channels_last(places: np.ndarray) -> np.ndarray:
    """(channels, height, width) as (height, width, channels), (channels, length) as (1, length,
    channels), and channels alone as (1, 1, channels).
    """
    if not 1 <= places.ndim <= 3:
        raise UnsupportedLayerError(
            f"expected an image or a sequence, channels first, found shape {places.shape}"
        )
    return np.moveaxis(
        places.reshape(*places.shape[:1], *(1,) * (3 - places.ndim), *places.shape[1:]), 0, 2
    )


class Builder:
    """A network as it grows, layer by layer."""

    def __init__(self, input_shape: Sequence[int]):
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []
        self.shapes: dict[int, tuple[int, ...]] = {INPUT: tuple(input_shape)}
        self._check_size(self.shapes[INPUT])

    def network(self, output: int) -> Network:
        """What has been built so far and leads to the output of that layer."""
        if output == INPUT:
            output = self.emit(Activation("linear"), INPUT)
        needed = {output}
        for index in range(output, -1, -1):
            if index in needed:
                needed.update(self.sources[index])
        kept = sorted(needed - {INPUT})
        index_of = {INPUT: INPUT, **{old: new for new, old in enumerate(kept)}}
        return merged(
            Network(
                [self.layers[i] for i in kept],
                self.shapes[INPUT],
                [tuple(index_of[source] for source in self.sources[i]) for i in kept],
            )
        )

    def emit(self, layer: Layer, *sources: int) -> int:
        """Add a layer and return its index."""
        shape = layer.output_shape(*(self.shapes[source] for source in sources))
        self._check_size(shape)
        self.layers.append(layer)
        self.sources.append(sources)
        self.shapes[len(self.layers) - 1] = shape
        return len(self.layers) - 1

    def out(self, layer: Layer, *sources: int) -> Value:
        """Add a layer; its output as it is, images channels first."""
        index = self.emit(layer, *sources)
        return self.value(index)

    def value(self, index: int) -> Value:
        """The output of a layer as it is, images channels first."""
        places = self.whole(index)
        return Value(index, np.moveaxis(places, -1, 0) if places.ndim == 3 else places)

    def whole(self, index: int) -> np.ndarray:
        """All places of a layer's output, in its own shape."""
        shape = self.shapes[index]
        return np.arange(_size(shape), dtype=np.int32).reshape(shape)

    def image(self, value: Value) -> int:
        """A layer that computes the value as an image (height, width, channels)."""
        return self.arranged(value.moved(channels_last(value.places)))

    def vector(self, value: Value) -> Value:
        """The same value with a layer whose output is a vector."""
        layer = value.layer
        if len(self.shapes[layer]) != 1:
            layer = self.emit(Flatten(), layer)
        return Value(layer, value.places)

    def arranged(self, value: Value) -> int:
        """A layer that computes the value in the shape of its places, row-major.

        Raises
        ------
        UnsupportedLayerError
            The elements stand in places from which no known layers bring them in order.
        """
        layer, places = value.layer, value.places
        shape = self.shapes[layer]
        if places.size == _size(shape) and _in_order(places):
            return self.reshaped(layer, places.shape)
        permutation = _permutation(places, _size(shape))
        if permutation is not None:
            lengths, order = permutation
            layer = self.reshaped(layer, lengths)
            layer = self.emit(Permute(tuple(axis + 1 for axis in order)), layer)
            return self.reshaped(layer, places.shape)
        if len(shape) == 3 and places.ndim == 3:
            return self._cut(layer, places)
        if places.ndim == 1 and max(places.size, _size(shape)) <= LARGEST_SELECTION:
            vector = self.vector(value)
            return self.emit(Dense(_selection(places, _size(shape))), vector.layer)
        raise UnsupportedLayerError(
            f"elements of {shape} are picked or reordered to shape {places.shape} in a way that"
            " reshaping, transposing, cropping and choosing channels do not express"
        )

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

    def reshaped(self, layer: int, shape: Sequence[int]) -> int:
        """The output of a layer, row-major in another shape."""
        if self.shapes[layer] == tuple(shape):
            return layer
        return self.emit(Flatten() if len(shape) == 1 else Reshape(tuple(shape)), layer)

    def dense(self, value: Value, kernel: np.ndarray, bias: np.ndarray | None) -> Value:
        """value @ kernel + bias along the last axis."""
        inputs, outputs = kernel.shape
        bias = np.zeros(outputs, kernel.dtype) if bias is None else bias
        if not value.shape or value.shape[-1] != inputs:
            raise ShapeError(
                f"an input of shape {value.shape} does not fit a matrix of shape {kernel.shape}"
            )
        lead = value.shape[:-1]
        if _size(lead) == 1:
            vector = self.vector(value)
            features = self.shapes[vector.layer][0]
            if features * outputs > max(LARGEST_KERNEL, kernel.size):
                raise UnsupportedLayerError(
                    f"{inputs} of {features} features are picked, too few for a kernel to pick"
                )
            places = value.places.ravel()
            if inputs == features and _in_order(places):
                rows = kernel
            else:
                rows = np.zeros((features, outputs), kernel.dtype)
                if np.bincount(places).max() == 1:
                    rows[places] = kernel if kernel.flags.c_contiguous else turned(kernel.T)
                else:
                    np.add.at(rows, places, kernel)
            found = self.out(Dense(rows, bias), vector.layer)
        else:
            rows_and_columns = (_size(lead[:-1]), lead[-1], inputs)
            image = self.arranged(value.moved(value.places.reshape(rows_and_columns)))
            index = self.emit(Conv2D(kernel[None, None], bias), image)
            found = Value(index, self.whole(index))
        return found.moved(found.places.reshape(*lead, outputs))

    def scaled(
        self, value: Value, scale: np.ndarray | float = 1, offset: np.ndarray | float = 0
    ) -> Value:
        """scale · value + offset, with numbers that broadcast against the value."""
        layer = Rescaling(self.spread(value, scale, 1), self.spread(value, offset, 0))
        return Value(self.emit(layer, value.layer), value.places)

    def spread(self, value: Value, numbers: np.ndarray | float, other: float) -> np.ndarray:
        """Numbers for the elements of a value as numbers for the output of its layer: one in all,
        one for each of the last axis, or one for each element; `other` where the value is not.
        """
        if not isinstance(numbers, np.ndarray):
            numbers = np.array(numbers, np.float32)
        if np.broadcast_shapes(value.shape, numbers.shape) != value.shape:
            raise UnsupportedLayerError(
                f"numbers of shape {numbers.shape} make a value of shape {value.shape} larger"
            )
        if numbers.size == 1:
            return numbers.reshape(())
        shape = self.shapes[value.layer]
        placed = np.full(_size(shape), other, numbers.dtype)
        placed[value.places] = np.broadcast_to(numbers, value.shape)
        if not np.array_equal(placed[value.places], np.broadcast_to(numbers, value.shape)):
            raise UnsupportedLayerError("numbers differ between copies of one element")
        placed = placed.reshape(-1, shape[-1])
        return placed[0] if (placed == placed[0]).all() else placed.reshape(shape)

    def normalized(self, value: Value, parameters: dict[str, np.ndarray], epsilon: float) -> Value:
        """Batch normalization along the first axis of the graph's value."""
        if value.places.ndim == 1:
            vector = self.vector(value)
            every = np.arange(self.shapes[vector.layer][0])
            if not np.array_equal(np.sort(value.places), every):
                vector = self.value(self.arranged(value))
            placed = {name: np.empty_like(array) for name, array in parameters.items()}
            for name, array in parameters.items():
                placed[name][vector.places] = array
            index = self.emit(BatchNormalization(**placed, epsilon=epsilon), vector.layer)
            return Value(index, vector.places)
        index = self.emit(BatchNormalization(**parameters, epsilon=epsilon), self.image(value))
        return self.like(index, value.shape)

    def like(self, index: int, shape: Sequence[int]) -> Value:
        """The output of a layer, an image, as a value of that shape, channels first."""
        places = np.moveaxis(self.whole(index), -1, 0)
        return Value(index, places.reshape(shape))

    def joined(self, values: Sequence[Value], axis: int) -> Value:
        """Values side by side along an axis."""
        shape = list(values[0].shape)
        shape[axis] = sum(value.shape[axis] for value in values)
        if len(shape) == 1:
            vectors = [self.vector(value) for value in values]
            starts = np.cumsum([0, *(self.shapes[vector.layer][0] for vector in vectors)])
            index = self.emit(Concatenate(), *(vector.layer for vector in vectors))
            places = [vector.places + start for vector, start in zip(vectors, starts, strict=False)]
            return Value(index, np.concatenate(places))
        if axis == 0:
            return self.like(self.emit(Concatenate(), *map(self.image, values)), shape)
        raise UnsupportedLayerError(
            f"values of shape {values[0].shape} are concatenated along axis {axis}: only channels"
            " can be"
        )

    @staticmethod
    def _check_size(shape: Sequence[int]) -> None:
        if _size(shape) > LARGEST_VALUE:
            raise ShapeError(f"a value of shape {tuple(shape)} is beyond {LARGEST_VALUE} elements")


def merged(network: Network) -> Network:
    """The network with activations, and offsets for each output, as part of the layer before them,
    where nothing else reads it.
    """
    layers, sources = list(network.layers), [list(found) for found in network.sources or ()]
    readers = {i: network.readers(i) for i in range(len(layers))}
    stands_for = {INPUT: INPUT}
    kept: list[int] = []
    for index, layer in enumerate(layers):
        source = stands_for[sources[index][0]]
        before = layers[source] if source != INPUT else None
        joint = (
            _joint(before, layer)
            if isinstance(before, Weighted) and len(readers[sources[index][0]]) == 1
            else None
        )
        if joint is None:
            stands_for[index] = index
            kept.append(index)
        else:
            layers[source] = joint
            stands_for[index] = source
    index_of = {INPUT: INPUT, **{old: new for new, old in enumerate(kept)}}
    return Network(
        [layers[i] for i in kept],
        network.input_shape,
        [tuple(index_of[stands_for[source]] for source in sources[i]) for i in kept],
    )


def _joint(before: Weighted, layer: Layer) -> Weighted | None:
    """One layer that computes what two in a row do, or None."""
    if before.activation != "linear":
        return None
    if isinstance(layer, Activation) and vars(layer) == vars(Activation(layer.name)):
        return before.replace(activation=layer.name)
    if (
        isinstance(layer, Rescaling)
        and layer.scale.ndim == 0
        and layer.scale == 1
        and layer.offset.ndim <= 1
    ):
        return before.replace(bias=before.bias + layer.offset)
    return None


def _permutation(places: np.ndarray, size: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Lengths of axes and their order, such that places are those of an array of these lengths
    transposed so; None where there are none.
    """
    if places.size != size or places.flat[0] != 0:
        return None
    loops: list[tuple[int, int]] = []
    for axis in range(places.ndim):
        along = np.moveaxis(places, axis, 0).reshape(places.shape[axis], -1)[:, 0]
        found = _loops(along)
        if found is None:
            return None
        loops += found
    order = sorted(range(len(loops)), key=lambda i: -loops[i][1])
    stride = size
    for i in order:
        stride //= loops[i][0]
        if loops[i][1] != stride:
            return None
    lengths = tuple(loops[i][0] for i in order)
    transposed = tuple(order.index(i) for i in range(len(loops)))
    expected = np.arange(size).reshape(lengths).transpose(transposed)
    if not np.array_equal(expected.ravel(), places.ravel()):
        return None
    return lengths, transposed


def _loops(along: np.ndarray) -> list[tuple[int, int]] | None:
    """A sequence of numbers from 0 as nested loops, the outermost first: lengths and strides."""
    loops: list[tuple[int, int]] = []
    while len(along) > 1:
        stride = int(along[1] - along[0])
        breaks = np.flatnonzero(np.diff(along) != stride)
        length = int(breaks[0]) + 1 if breaks.size else len(along)
        if stride <= 0 or len(along) % length or length == 1:
            return None
        blocks = along.reshape(-1, length)
        if not (blocks == blocks[:, :1] + stride * np.arange(length)).all():
            return None
        loops.insert(0, (length, stride))
        along = blocks[:, 0]
    return loops


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


def _in_order(places: np.ndarray) -> bool:
    return np.array_equal(places.ravel(), np.arange(places.size))


def _size(shape: Sequence[int]) -> int:
    size = 1
    for length in shape:
        size *= int(length)
    return size
