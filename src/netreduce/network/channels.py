"""Which channels of a network must go together, and the network without some of them.

A neuron, or a channel of a convolution, lives on behind its layer: batch normalization, pooling and
Flatten pass it on, Add joins it to one channel of another layer, a depthwise convolution makes
several of it. All places where it shows are one *class*, and a class is kept or goes as a whole: in
a residual network, channel 3 of every layer that writes to the sum. This is what other libraries
call a dependency graph.

A layer that makes only some of the classes that are chosen among together (one of several that a
concatenation joins before an addition) keeps its first channel.

Classes reach from the layers that write them (their kernel's last axis) to those that read them
(the axis before). The inputs and the outputs of a network, what a softmax or a grouped convolution
sees, and what meets a single value (a mask over positions) stay.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import numpy as np

from .graph import INPUT, Network
from .layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Quantization,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

BY_CHANNEL = (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Cropping2D,
    Dropout,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Normalization,
    PReLU,
    Rescaling,
    UpSampling2D,
    ZeroPadding2D,
)


class Channels:
    """The classes of channels of a network.

    Parameters
    ----------
    network : Network

    Attributes
    ----------
    classes : dict of int to ndarray of int
        By tensor (INPUT, or the index of the layer that it comes from): the class of every channel
        (entry of the last axis).
    removable : ndarray of bool
        By class: whether it can go.

    Examples
    --------
    The second layer's neurons are added to the first one's, so those of a pair go together:

    >>> from netreduce import Add, Dense
    >>> layers = [Dense(np.ones((2, 3))), Dense(np.ones((3, 3))), Add(), Dense(np.ones((3, 1)))]
    >>> network = Network(layers, (2,), sources=[(-1,), (0,), (0, 1), (2,)])
    >>> channels = Channels(network)
    >>> channels.groups()
    [[0, 1]]
    >>> gone = channels.classes[0][:1]
    >>> [layer.kernel.shape for layer in channels.without(gone).layers if layer.arrays()]
    [(2, 2), (2, 2), (2, 1)]
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        labels = _Labels(network)
        edges = np.concatenate([np.zeros((0, 2), int), *labels.joined])
        # here, because few techniques need them, and they take long to import
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        adjacency = coo_array((np.ones(len(edges)), edges.T), shape=(labels.total, labels.total))
        number, classes = connected_components(adjacency, directed=False)
        self.classes = {tensor: classes[of_tensor] for tensor, of_tensor in labels.tensors.items()}
        self.removable = np.ones(number, bool)
        self.removable[classes[np.concatenate(labels.fixed)]] = False
        for group in self.groups():
            members = self.members(group)
            for index in group:
                if not np.isin(members, self.classes[index]).all():
                    # it makes a part of what goes together: its first channel stays, lest all go
                    self.removable[self.classes[index][0]] = False

    def producers(self) -> Iterator[int]:
        """Indices of the layers with weights that make channels of which some can go, in order."""
        for index, layer in enumerate(self.network.layers):
            makes = isinstance(layer, Weighted) and not isinstance(layer, DepthwiseConv2D)
            if makes and self.removable[self.classes[index]].any():
                yield index

    def groups(self) -> list[list[int]]:
        """The producers, those that share classes together, in order."""
        producers = list(self.producers())
        owner: dict[int, int] = {}
        group = {index: index for index in producers}
        for index in producers:
            for one in self.classes[index][self.removable[self.classes[index]]].tolist():
                first = group[owner.setdefault(one, index)]
                if first != group[index]:
                    last = group[index]
                    group |= {other: first for other in producers if group[other] == last}
        return [
            [index for index in producers if group[index] == first]
            for first in dict.fromkeys(group.values())
        ]

    def members(self, group: list[int]) -> np.ndarray:
        """The removable classes of a group of producers, in order of their numbers."""
        found = np.unique(np.concatenate([self.classes[index] for index in group]))
        return found[self.removable[found]]

    def without(self, gone: np.ndarray) -> Network:
        """The network without the channels of some classes, as if they were zero wherever they are
        read.

        Parameters
        ----------
        gone : ndarray of int
            Removable classes; at least one channel must be left of every layer.
        """
        kept = {tensor: ~np.isin(classes, gone) for tensor, classes in self.classes.items()}
        layers = []
        for index, layer in enumerate(self.network.layers):
            inputs = kept[self.network.sources[index][0]]
            layers.append(_narrowed(layer, inputs, kept[index]))
        return Network(layers, self.network.input_shape, self.network.sources)


class _Labels:
    """A label for every channel of every tensor; pairs of labels that are one, and fixed ones."""

    def __init__(self, network: Network) -> None:
        self.joined: list[np.ndarray] = []
        self.total = 0
        self.tensors = {INPUT: self._fresh(network.input_shape[-1])}
        self.fixed = [self.tensors[INPUT]]
        for index, layer, sources in zip(count(), network.layers, network.sources, strict=False):
            inputs = [self.tensors[source] for source in sources]
            shapes = [network.input_shape if s == INPUT else network.shapes[s] for s in sources]
            self.tensors[index] = self._behind(layer, inputs, shapes, network.shapes[index])
        self.fixed.append(self.tensors[len(network.layers) - 1])

    def _behind(
        self,
        layer: Layer,
        inputs: list[np.ndarray],
        shapes: list[tuple[int, ...]],
        shape: tuple[int, ...],
    ) -> np.ndarray:
        """Labels of a layer's outputs."""
        first = inputs[0]
        match layer:
            case DepthwiseConv2D():
                return np.repeat(first, layer.kernel.shape[3])
            case Dense() | Conv2D(groups=1) | Conv2DTranspose():
                outputs = self._fresh(shape[-1])
                if not layer.function.elementwise:
                    self.fixed.append(outputs)
                return outputs
            case Activation() if not layer.function.elementwise:
                pass
            case _ if isinstance(layer, BY_CHANNEL):
                return first
            case Flatten():
                return np.broadcast_to(first, shapes[0]).ravel()
            case Reshape():
                return self._one_each(np.broadcast_to(first, shapes[0]).reshape(shape))
            case Permute():
                axes = [axis - 1 for axis in layer.order]
                return self._one_each(np.broadcast_to(first, shapes[0]).transpose(axes))
            case Concatenate():
                return np.concatenate(inputs)
            case Add() | Subtract() | Multiply() if len({len(x) for x in inputs}) == 1:
                self.joined += [np.stack([first, other], axis=1) for other in inputs[1:]]
                return first
        self.fixed += inputs
        outputs = self._fresh(shape[-1])
        self.fixed.append(outputs)
        return outputs

    def _fresh(self, number: int) -> np.ndarray:
        self.total += number
        return np.arange(self.total - number, self.total)

    def _one_each(self, labels: np.ndarray) -> np.ndarray:
        """One label for each entry of the last axis: all that stand there are joined."""
        rows = labels.reshape(-1, labels.shape[-1])
        for row in rows[1:]:
            if not np.array_equal(row, rows[0]):
                self.joined.append(np.stack([rows[0], row], axis=1))
        return rows[0]


def _narrowed(layer: Layer, inputs: np.ndarray, outputs: np.ndarray) -> Layer:
    """A layer that reads and makes some of its channels only; both are masks."""
    if inputs.all() and outputs.all():
        return layer
    if isinstance(layer, Reshape):
        return Reshape((*layer.shape[:-1], int(outputs.sum())))
    if not isinstance(layer, Weighted):
        arrays = {
            name: array[..., outputs]
            for name, array in layer.arrays().items()
            if array.ndim and array.shape[-1] == len(outputs)
        }
        return layer.replace(**arrays) if arrays else layer
    read, made = (-1, -2) if isinstance(layer, Conv2DTranspose) else (-2, -1)
    kernel, quantization = layer.kernel, layer.quantization
    axes = {read: inputs} if isinstance(layer, DepthwiseConv2D) else {read: inputs, made: outputs}
    for axis, mask in axes.items():
        kernel = np.compress(mask, kernel, axis)
        quantization = _narrowed_grid(quantization, axis, mask)
    return layer.replace(kernel=kernel, bias=layer.bias[outputs], quantization=quantization)


def _narrowed_grid(
    quantization: Quantization | None, axis: int, mask: np.ndarray
) -> Quantization | None:
    if quantization is None or quantization.scale.ndim < -axis:
        return quantization
    if quantization.scale.shape[axis] == 1:
        return quantization
    return replace(quantization, scale=np.compress(mask, quantization.scale, axis))
