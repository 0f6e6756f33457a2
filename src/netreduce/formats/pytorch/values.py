"""Values of a PyTorch program, one sample of each, and the layers that compute them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.kernels import LARGEST_KERNEL, turned
from netreduce.formats.rearranged import Rearranged, in_order, numbered, size_of
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    Rescaling,
    Weighted,
)


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


class Builder(Rearranged):
    """A network as it grows, value by value."""

    def network(self, output: int) -> Network:
        """What has been built so far and leads to the output of that layer."""
        return merged(self.up_to(output))

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
        return numbered(self.shapes[index])

    def image(self, value: Value) -> int:
        """A layer that computes the value as an image (height, width, channels)."""
        return self.arranged(value.layer, channels_last(value.places))

    def vector(self, value: Value) -> Value:
        """The same value with a layer whose output is a vector."""
        layer = value.layer
        if len(self.shapes[layer]) != 1:
            layer = self.emit(Flatten(), layer)
        return Value(layer, value.places)

    def dense(self, value: Value, kernel: np.ndarray, bias: np.ndarray | None) -> Value:
        """value @ kernel + bias along the last axis."""
        inputs, outputs = kernel.shape
        bias = np.zeros(outputs, kernel.dtype) if bias is None else bias
        if not value.shape or value.shape[-1] != inputs:
            raise ShapeError(
                f"an input of shape {value.shape} does not fit a matrix of shape {kernel.shape}"
            )
        lead = value.shape[:-1]
        if size_of(lead) == 1:
            vector = self.vector(value)
            features = self.shapes[vector.layer][0]
            if features * outputs > max(LARGEST_KERNEL, kernel.size):
                raise UnsupportedLayerError(
                    f"{inputs} of {features} features are picked, too few for a kernel to pick"
                )
            places = value.places.ravel()
            if inputs == features and in_order(places):
                rows = kernel
            else:
                rows = np.zeros((features, outputs), kernel.dtype)
                if np.bincount(places).max() == 1:
                    rows[places] = kernel if kernel.flags.c_contiguous else turned(kernel.T)
                else:
                    np.add.at(rows, places, kernel)
            found = self.out(Dense(rows, bias), vector.layer)
        else:
            rows_and_columns = (size_of(lead[:-1]), lead[-1], inputs)
            image = self.arranged(value.layer, value.places.reshape(rows_and_columns))
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
        placed = np.full(size_of(shape), other, numbers.dtype)
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
                vector = self.value(self.arranged(value.layer, value.places))
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
