"""Networks from Keras' descriptions of layers and their weights.

Inside, images are channels last and lines are images of height 1. What lies otherwise in Keras is
kept as it lies here from layer to layer, and turned back where a layer needs it as it was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from netreduce.errors import ModelFileError, NetreduceError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Conv2D,
    DepthwiseConv2D,
    Layer,
    Permute,
    Reshape,
    Shape,
    ZeroPadding2D,
)

from .config import KerasModel
from .layers import (
    ALONG_AN_AXIS,
    FIRST,
    GRID,
    KINDS,
    LAST,
    MERGING,
    RAISED,
    KerasLayer,
    Shapes,
    WeightReader,
    last_axes,
)

VALUE_BY_VALUE = (
    *("Activation", "ReLU", "LeakyReLU", "ELU", "ThresholdedReLU", "Dropout"),
    GRID,
)


def build_network(model: KerasModel, weights: WeightReader) -> Network:
    """The network of a parsed model; `weights` is asked once for every layer that has some."""
    builder = _Builder(model, weights)
    output = builder.last(builder.run(model.layers, _Tensor(INPUT, model.input_shape)))
    if output.index != len(builder.layers) - 1 or not builder.layers:
        builder.add(Activation("linear"), output)
    layers, sources = _padded_convolutions(builder.layers, builder.sources)
    return Network(layers, model.input_shape, sources)


@dataclass(frozen=True)
class _Tensor:
    """What a layer computes: its index, its shape here and how it lies here.

    `image` is the shape, in Keras, of a channels-first image that was flattened, and whose values
    are in another order here.
    """

    index: int
    shape: Shape
    form: str = LAST
    image: Shape | None = None


class _Builder:
    """Layers and their sources, as they come."""

    def __init__(self, model: KerasModel, weights: WeightReader):
        self.weights = weights
        self.layers: list[Layer] = []
        self.sources: list[tuple[int, ...]] = []

    def add(self, layer: Layer, *inputs: _Tensor, form: str = LAST) -> _Tensor:
        shape = layer.output_shape(*(tensor.shape for tensor in inputs))
        self.layers.append(layer)
        self.sources.append(tuple(tensor.index for tensor in inputs))
        return _Tensor(len(self.layers) - 1, shape, form)

    def run(self, layers: Sequence[KerasLayer], given: _Tensor) -> _Tensor:
        """The output of the last one of layers in topological order."""
        tensors: dict[str, _Tensor] = {}
        readers: dict[str, list[KerasLayer]] = {}
        for entry in layers:
            for source in entry.sources:
                readers.setdefault(source, []).append(entry)
        for entry in layers:
            inputs = [tensors.get(source, given) for source in entry.sources] or [given]
            if entry.layers:
                (tensor,) = inputs
                tensors[entry.name] = self.run(entry.layers, tensor)
                continue
            if entry.kind not in KINDS:
                raise entry.unsupported(
                    f"layers of this class are not supported; known: {', '.join(KINDS)}"
                )
            if len(inputs) > 1 and entry.kind not in MERGING:
                raise entry.error(f"reads {len(inputs)} layers, expected one")
            try:
                tensors[entry.name] = self.read(entry, inputs, _is_folded(entry, readers))
            except (ModelFileError, UnsupportedLayerError):
                raise
            except (NetreduceError, TypeError, ValueError, OverflowError) as error:
                raise entry.error(error) from None
        return tensors[layers[-1].name] if layers else given

    def read(self, entry: KerasLayer, inputs: list[_Tensor], folded: bool) -> _Tensor:
        """What one layer computes; `folded` says that the layers behind it can do with values in
        another order.
        """
        inputs = self.as_needed(entry, inputs, folded)
        first, shapes = inputs[0], [tensor.shape for tensor in inputs]
        if entry.is_operation and len(set(shapes)) > 1:
            raise entry.unsupported(f"an operation on tensors of different shapes, {shapes}")
        weights, image = self.weights, first.image
        if image and entry.kind == "Dense":
            weights, image = _reordered(weights, image), None
        elif entry.kind == "Flatten" and first.form == FIRST and not entry.channels_first:
            height, width, channels = first.shape
            image = (channels, height, width)
        entry, tensor = replace(entry, form=first.form), first
        for place, layer in enumerate(KINDS[entry.kind].read(entry, shapes[0], weights)):
            tensor = self.add(layer, *(inputs if place == 0 else [tensor]))
        if len(tensor.shape) == 3:
            return replace(tensor, form=first.form)
        return replace(tensor, form=LAST, image=image)

    def as_needed(self, entry: KerasLayer, inputs: list[_Tensor], folded: bool) -> list[_Tensor]:
        """The inputs of a layer as it must find them."""
        tensors = KINDS[entry.kind].tensors
        rank = len(inputs[0].shape) - (inputs[0].form == RAISED)
        turn: Callable[[_Tensor], _Tensor] = self.last
        if tensors == "images":
            if rank != 3:
                shape = self.last(inputs[0]).shape
                raise entry.error(
                    f"expects inputs of shape (height, width, channels), found {shape}"
                )
            turn = self.first if entry.channels_first else self.last
        elif tensors == "lines":
            if rank != 2:
                shape = self.last(inputs[0]).shape
                raise entry.error(f"expects inputs of shape (steps, channels), found {shape}")
            if entry.channels_first:
                raise entry.unsupported("data_format='channels_first' of lines is not supported")
            turn = self.raised
        elif tensors == "dense" and rank == 2:
            turn = self.raised
        elif tensors == "flatten":
            if entry.channels_first and rank == 3:
                turn = self.first
            elif entry.channels_first and rank == 2:
                raise entry.unsupported("data_format='channels_first' of lines is not supported")
            elif folded or inputs[0].form == RAISED:
                return inputs
        elif tensors in ("any", "axis"):
            turn = self.common(entry, inputs)
        return [turn(tensor) for tensor in inputs]

    def common(self, entry: KerasLayer, inputs: list[_Tensor]) -> Callable[[_Tensor], _Tensor]:
        """How the inputs of a layer are made alike, so that its axis is the last one here."""
        forms = {tensor.form for tensor in inputs}
        ranks = {len(tensor.shape) - (tensor.form == RAISED) for tensor in inputs}
        if KINDS[entry.kind].tensors == "axis":
            (rank, *others), axis = ranks, _axis(entry)
            if not others and rank == 3 and axis in last_axes(FIRST, 3):
                return self.first
            return self.raised if not others and rank == 2 and RAISED in forms else self.last
        if ranks == {3} and FIRST in forms and not _along_an_axis(entry):
            return self.first
        return self.raised if ranks == {2} and RAISED in forms else self.last

    def last(self, tensor: _Tensor) -> _Tensor:
        """A tensor as it lies in Keras."""
        if tensor.form == FIRST:
            return self.add(Permute((3, 1, 2)), tensor)
        if tensor.form == RAISED:
            return self.add(Reshape(tensor.shape[1:]), tensor)
        return tensor

    def first(self, tensor: _Tensor) -> _Tensor:
        """An image that is channels first in Keras, channels last."""
        if tensor.form == FIRST:
            return tensor
        return self.add(Permute((2, 3, 1)), self.last(tensor), form=FIRST)

    def raised(self, tensor: _Tensor) -> _Tensor:
        """A line as an image of height 1."""
        if tensor.form == RAISED:
            return tensor
        return self.add(Reshape((1, *tensor.shape)), tensor, form=RAISED)


def _reordered(weights: WeightReader, image: Shape) -> WeightReader:
    """Weights of the Dense layer behind a flattened channels-first image, for values that are
    channels last.
    """

    def read(entry: KerasLayer, shapes: Shapes) -> list[np.ndarray]:
        kernel, *bias = weights(entry, shapes)
        order = np.arange(prod(image)).reshape(image).transpose(1, 2, 0).ravel()
        return [kernel[order], *bias]

    return read


def _is_folded(entry: KerasLayer, readers: Mapping[str, list[KerasLayer]]) -> bool:
    """Whether all that read a Flatten, but for what is done value by value, are Dense."""
    return entry.kind == "Flatten" and _feeds_dense(entry, readers)


def _feeds_dense(entry: KerasLayer, readers: Mapping[str, list[KerasLayer]]) -> bool:
    following = readers.get(entry.name, [])
    return bool(following) and all(
        reader.kind == "Dense"
        or (
            reader.kind in VALUE_BY_VALUE
            and not _along_an_axis(reader)
            and _feeds_dense(reader, readers)
        )
        for reader in following
    )


def _along_an_axis(entry: KerasLayer) -> bool:
    return entry.kind == "Activation" and entry.activation().name in ALONG_AN_AXIS


def _axis(entry: KerasLayer) -> object:
    axis = entry.get("axis", default=-1)
    return axis[0] if isinstance(axis, list) and len(axis) == 1 else axis


def _padded_convolutions(
    layers: Sequence[Layer], sources: Sequence[tuple[int, ...]]
) -> tuple[list[Layer], list[tuple[int, ...]]]:
    """Zeros around an image that only a convolution reads become the padding of that."""
    layers, sources = list(layers), list(sources)
    readers = Counter(source for inputs in sources for source in inputs)
    gone = set()
    for index, layer in enumerate(layers):
        source = sources[index][0]
        zeros = layers[source] if source != INPUT else None
        if (
            isinstance(layer, Conv2D | DepthwiseConv2D)
            and layer.padding == "valid"
            and isinstance(zeros, ZeroPadding2D)
            and readers[source] == 1
        ):
            layers[index] = layer.replace(padding=zeros.padding)
            sources[index] = sources[source]
            gone.add(source)
    kept = [index for index in range(len(layers)) if index not in gone]
    new = {INPUT: INPUT, **{old: place for place, old in enumerate(kept)}}
    return [layers[i] for i in kept], [tuple(new[s] for s in sources[i]) for i in kept]
