"""A network as it grows out of the nodes of an ONNX file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any, TypeAlias

import numpy as np

from netreduce.errors import ShapeError, UnsupportedLayerError
from netreduce.formats.rearranged import Rearranged, in_order, numbered
from netreduce.network import INPUT, Network
from netreduce.network.activations import ACTIVATIONS
from netreduce.network.layers import (
    Activation,
    Conv2D,
    Dense,
    Flatten,
    Layer,
    Normalization,
    Quantization,
    Rescaling,
    Weighted,
)

from .constants import Constant

IMAGE = (1, 2, 0)  # channels first to channels last
_ONE = np.array(1, np.float32)
PROBES = np.concatenate([np.linspace(-12, 12, 2401), [-1e4, -50.0, 50.0, 1e4]])


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation of the file: the output of one layer of the network, rearranged.

    Attributes
    ----------
    layer : int
        Index of the layer, INPUT for the network's input.
    order : ndarray of int
        Shape as in the file, the batch axis being 1: for every element its place in the flattened
        output of the layer. Reshaping and transposing are done on these numbers.
    readers : int
        How often nodes read it, and so the layer's output.
    """

    layer: int
    order: np.ndarray
    readers: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.order.shape

    @property
    def sample(self) -> np.ndarray:
        """The order without the batch axis."""
        return self.order[0] if self.has_batch else self.order

    @property
    def has_batch(self) -> bool:
        """Whether the first axis may be that of the batch."""
        return self.order.ndim > 1 and self.order.shape[0] == 1


@dataclass(eq=False)
class Curve:
    """A function of every element of a tensor, made of several nodes, for which layers are found
    when something else reads it: x · (1 + erf(x / √2)) / 2 is one activation.

    Attributes
    ----------
    root : Tensor
    function : callable
        Of an array.
    title : str
        The last node's.
    layers : callable
        Adds the last node's own layers to the network, where no activation is the whole function.
    nodes : int
    reads : int
        How often these nodes read the root; nothing else reads what is between it and the last.
    readers : int
        How often nodes read the result.
    """

    root: Tensor
    function: Callable[[np.ndarray], np.ndarray]
    title: str
    layers: Callable[[], Tensor]
    nodes: int
    reads: int
    readers: int = 1
    tensor: Tensor | None = field(default=None, init=False)


Value: TypeAlias = Constant | Tensor | Curve


@dataclass(frozen=True, eq=False)
class Node:
    """A node of the file, with the values that it reads."""

    title: str
    operator: str
    inputs: Sequence[Value | None]
    attributes: dict[str, Any]
    outputs: int

    @property
    def first(self) -> Value:
        """The first input."""
        value = self.inputs[0] if self.inputs else None
        if value is None:
            raise ShapeError("its first input is missing")
        return value

    def text(self, name: str, default: str) -> str:
        """An attribute that is text."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def constant(self, index: int) -> np.ndarray | None:
        """An input that must not depend on the network's input; None where there is none."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            return None
        if not isinstance(value, Constant):
            raise UnsupportedLayerError(f"input {index} must be a constant, found an activation")
        return value.array

    def integers(self, index: int, attribute: str) -> list[int] | None:
        """Whole numbers from an input or, in older files, an attribute; None where neither is."""
        array = self.constant(index)
        values = self.attributes.get(attribute) if array is None else array.ravel().tolist()
        return None if values is None else [int(value) for value in values]


class Graph(Rearranged):
    """Layers of the network, and what the file's tensors are in terms of them."""

    def __init__(self, input_shape: tuple[int, ...], opset: int, channels_come_first: bool):
        super().__init__(input_shape)
        self.opset = opset
        self.channels_come_first = channels_come_first  # in the file's input
        self.images: dict[tuple[int, ...], np.ndarray] = {}

    def network(self, output: Tensor) -> Network:
        """The network with that output: images, and signals where the input is one, channels last;
        all in the file's order where its input is an image with channels last. Layers that it does
        not need are left out.
        """
        order = output.sample
        as_it_is = len(self.shapes[INPUT]) == 3 or self.layout(output) == (0, 1, 2)
        if order.ndim == 3 and (self.channels_come_first or not as_it_is):
            order = order.transpose(IMAGE)
        elif order.ndim == len(self.shapes[INPUT]) == 2 and self.channels_come_first:
            order = order.T
        return self.up_to(self.arranged(output.layer, order))

    def tensor(self, layer: int, axes: Sequence[int] = (), shape: Sequence[int] = ()) -> Tensor:
        """A layer's output as the file has it: its axes back from `axes` where these are given,
        behind a batch axis, or in another shape.
        """
        if axes == IMAGE:
            return Tensor(layer, self.channels_first(self.shapes[layer]))
        order = numbered(self.shapes[layer])
        if axes:
            order = order.transpose(np.argsort(axes))
        return Tensor(layer, order.reshape(shape) if len(shape) else order[None])

    def channels_first(self, shape: tuple[int, ...]) -> np.ndarray:
        """The order of an image of that shape, with the batch axis; one array for each shape."""
        if shape not in self.images:
            self.images[shape] = numbered(shape).transpose(2, 0, 1)[None]
        return self.images[shape]

    def layout(self, x: Tensor) -> tuple[int, ...] | None:
        """The axes of a sample in the order in which the layer has them, if that is all that is
        between the two.
        """
        sample, shape = x.sample, self.shapes[x.layer]
        if x.order is self.images.get(shape):
            return IMAGE
        if sample.ndim != len(shape):
            return None
        favourites = [IMAGE] if sample.ndim == 3 else []
        for axes in [*favourites, *permutations(range(sample.ndim))]:
            moved = sample.transpose(axes)
            if moved.shape == shape and in_order(moved):
                return axes
        return None

    def channels_last(self, x: Tensor) -> tuple[int, ...]:
        """The axes of a sample in the order in which layers are to have them: as they have them
        already, else those of an image channels last.
        """
        layout = self.layout(x) if x.sample.ndim < 5 else None
        return layout or (IMAGE if x.sample.ndim == 3 else tuple(range(x.sample.ndim)))

    def image(self, x: Tensor) -> int:
        """A layer whose output is that tensor, of shape (1, channels, rows, columns), channels
        last.
        """
        if x.order.ndim != 4 or x.shape[0] != 1:
            raise UnsupportedLayerError(
                f"expected an input of shape (batch, channels, rows, columns) with a batch that is"
                f" free or 1, found {x.shape}"
            )
        if x.order is self.images.get(self.shapes[x.layer]):
            return x.layer
        return self.arranged(x.layer, x.sample.transpose(IMAGE))

    def dense(self, x: Tensor, kernel: Constant) -> Tensor:
        """x @ kernel along the last axis."""
        inputs, outputs = kernel.array.shape
        if not x.shape or x.shape[-1] != inputs:
            raise ShapeError(
                f"an input of shape {x.shape} does not fit a matrix of shape {kernel.array.shape}"
            )
        rows = x.order.size // inputs
        if rows == 1:
            source = x.layer
            if len(self.shapes[source]) != 1:
                source = self.emit(Flatten(), source)
            kernel = kernel.rows(np.argsort(x.order.ravel()))
            layer = self.emit(Dense(kernel.array, quantization=quantization(kernel)), source)
        else:
            source = self.arranged(x.layer, x.order.reshape(1, rows, inputs))
            kernel = kernel.reshaped((1, 1, inputs, outputs))
            layer = self.emit(Conv2D(kernel.array, quantization=quantization(kernel)), source)
        return self.tensor(layer, shape=(*x.shape[:-1], outputs))

    def own(self, x: Tensor) -> Layer | None:
        """The layer that makes a tensor, if nothing else reads it."""
        return None if x.readers > 1 or x.layer == INPUT else self.layers[x.layer]

    def shifted(self, x: Tensor, values: np.ndarray) -> Tensor:
        """x + values: in the bias of the layer before where it has one."""
        offset = self.placed(x, values)
        layer = self.own(x)
        if isinstance(layer, Weighted) and layer.activation == "linear" and offset.ndim < 2:
            bias = (layer.bias + offset).astype(np.result_type(layer.bias, offset))
            self.layers[x.layer] = layer.replace(bias=bias)
            return x
        if isinstance(layer, Rescaling) and not layer.offset.any():
            self.layers[x.layer] = layer.replace(offset=offset)
            return x
        return replace(x, layer=self.emit(Rescaling(_ONE, offset), x.layer), readers=1)

    def scaled(self, x: Tensor, values: np.ndarray) -> Tensor:
        """values · x"""
        layer = self.emit(Rescaling(self.placed(x, values)), x.layer)
        return replace(x, layer=layer, readers=1)

    def divided(self, x: Tensor, values: np.ndarray) -> Tensor:
        """x / values; behind a shift, as the two parts of a normalization."""
        divisor = self.placed(x, values)
        layer = self.own(x)
        if isinstance(layer, Rescaling) and (layer.scale == 1).all() and (divisor > 1e-6).all():
            self.layers[x.layer] = Normalization(-layer.offset, divisor**2)
            return x
        with np.errstate(divide="ignore"):
            return replace(x, layer=self.emit(Rescaling(1 / divisor), x.layer), readers=1)

    def placed(self, x: Tensor, values: np.ndarray) -> np.ndarray:
        """Numbers for the elements of x as they broadcast against its layer's output: one for all,
        one for each of the last axis, or one each.
        """
        if np.broadcast_shapes(x.shape, values.shape) != x.shape:
            raise UnsupportedLayerError(
                f"a constant of shape {values.shape} widens an input of shape {x.shape}, which is"
                " not supported"
            )
        if values.dtype != np.float64:
            values = values.astype(np.float32)
        if values.size == 1:
            return values.reshape(())
        shape = self.shapes[x.layer]
        result = np.empty(x.order.size, values.dtype)
        result[x.order.ravel()] = np.broadcast_to(values, x.shape).ravel()
        rows = result.reshape(-1, shape[-1])
        return rows[0] if (rows == rows[0]).all() else result.reshape(shape)

    def activation(self, x: Tensor, activation: Activation) -> Tensor:
        """An activation function, as part of the layer before it where that says the same."""
        layer = self.own(x)
        plain = Activation(activation.name)
        if (
            isinstance(layer, Weighted)
            and layer.activation == "linear"
            and activation.parameters == plain.parameters
            and ACTIVATIONS[activation.name].elementwise
        ):
            self.layers[x.layer] = layer.replace(activation=activation.name)
            return x
        return replace(x, layer=self.emit(activation, x.layer), readers=1)

    def along(self, x: Tensor, axis: int, activation: Activation) -> Tensor:
        """An activation function that works along one axis."""
        axis = self.axis(x, axis)
        order = np.moveaxis(x.sample, axis, -1)
        source = self.arranged(x.layer, order)
        layer = self.layers[source] if source != INPUT else None
        if (
            isinstance(layer, Dense)
            and source == x.layer
            and x.readers == 1
            and layer.activation == "linear"
        ):
            self.layers[source] = layer.replace(activation=activation.name)
        else:
            source = self.emit(activation, source)
        moved = np.moveaxis(numbered(order.shape), -1, axis)
        return Tensor(source, moved.reshape(x.shape))

    def axis(self, x: Tensor, axis: int) -> int:
        """An axis of the file's tensor as one of the sample."""
        rank = x.order.ndim
        if not -rank <= axis < rank:
            raise ShapeError(f"an input of shape {x.shape} has no axis {axis}")
        axis %= rank
        if x.has_batch and axis == 0:
            raise UnsupportedLayerError("it works along the batch axis, which is not supported")
        return axis - x.has_batch

    def made(self, value: Value) -> Tensor:
        """The tensor of a value, its layers being found now where they have not been."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Constant):
            raise UnsupportedLayerError("it joins a constant and an activation: not supported")
        if value.tensor is None:
            name = known_function(value.function) if value.nodes > 1 else None
            if name:
                own = value.reads == value.root.readers
                root = replace(value.root, readers=1) if own else value.root
                tensor = self.activation(root, Activation(name))
            else:
                try:
                    tensor = value.layers()
                except UnsupportedLayerError as error:
                    raise named(value.title, error) from None
            value.tensor = replace(tensor, readers=value.readers)
        return value.tensor


Operator: TypeAlias = Callable[[Graph, Node], Value | list[Tensor | None]]


def named(title: str, error: UnsupportedLayerError) -> UnsupportedLayerError:
    """An error that names its node."""
    message = str(error)
    return UnsupportedLayerError(message if message.startswith("node ") else f"{title}: {message}")


def known_function(function: Callable[[np.ndarray], np.ndarray]) -> str | None:
    """The name of an activation that has the values of a function, to float32 rounding."""
    with np.errstate(all="ignore"):
        values = np.asarray(function(PROBES))
        if values.shape != PROBES.shape:
            return None
        for name, activation in ACTIVATIONS.items():
            if activation.elementwise and np.allclose(
                values, activation.function(PROBES), rtol=1e-6, atol=1e-6
            ):
                return name
    return None


def quantization(kernel: Constant) -> Quantization | None:
    """The grid of a kernel, where the file stores integers."""
    if kernel.scale is None or not (np.isfinite(kernel.scale).all() and (kernel.scale > 0).all()):
        return None
    scale = kernel.scale
    if scale.size == 1:
        scale = scale.reshape(())
    elif scale.size == scale.shape[-1]:
        scale = scale.reshape(-1)
    return Quantization(scale, kernel.bits, kernel.quantized_bias)
