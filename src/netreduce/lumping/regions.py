"""Where channels may be merged: a layer, what lies behind it, and the weights that read it.

A region is a Dense or Conv2D layer (its *producer*) with the channel-wise layers behind it (batch
normalization, pooling, Flatten, Dropout, activations, depthwise convolution) up to the Dense and
Conv2D layers (its *consumers*) that read them. A channel of the producer can be taken out of a
region as a whole, since no channel-wise layer mixes it with others. For example

    0 Conv2D → 1 BatchNormalization → 2 Flatten → 3 Dense → 4 Dense

has two regions: producer 0 with the nodes 1 and 2 and the consumer 3, and producer 3 with the
consumer 4. Layer 4 is the output: its neurons stay. Any other layer (Add, Concatenate, a
convolution in groups) is a wall: what it reads is in no region (see `joined`).
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.activations import ActivationFunction, activation_function
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
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
    Rescaling,
    Reshape,
    Shape,
    Subtract,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

WEIGHT_LAYERS = (Dense, Conv2D)
POOLING = (MaxPooling2D, GlobalMaxPooling2D, AveragePooling2D, GlobalAveragePooling2D)
CHANNELWISE = (BatchNormalization, *POOLING, Flatten, Dropout, Activation, DepthwiseConv2D)
WALLS = (
    Add,
    Subtract,
    Multiply,
    Concatenate,
    Conv2DTranspose,
    Rescaling,
    Normalization,
    PReLU,
    ZeroPadding2D,
    Cropping2D,
    UpSampling2D,
    Reshape,
    Permute,
)
KNOWN = (*WEIGHT_LAYERS, *CHANNELWISE, *WALLS)

EPSILON = float(np.finfo(np.float64).eps)
# numbers that differ by so many units in the last place, of what was summed to get them, count as
# equal
ULPS = 8


@dataclass(frozen=True)
class Region:
    """A layer whose channels may be merged.

    Attributes
    ----------
    producer : int
        The Dense or Conv2D layer.
    nodes : tuple of int
        The channel-wise layers behind it, in topological order.
    consumers : tuple of int
        The Dense and Conv2D layers that read them.
    multipliers : dict of int to int
        By producer and nodes: into how many channels depthwise convolutions have made each one of
        the producer.
    """

    producer: int
    nodes: tuple[int, ...]
    consumers: tuple[int, ...]
    multipliers: dict[int, int]


def find_regions(network: Network) -> dict[int, Region]:
    """The regions by producer: layers whose every path leads through channel-wise layers to
    weights, never to a wall or the output.

    Raises
    ------
    UnsupportedLayerError
        For a layer of unknown type: names it.
    """
    for name, layer in zip(network.names, network.layers, strict=True):
        if isinstance(layer, ActivationGrid):
            raise UnsupportedLayerError(
                f"{name}: no bound is known for lumped neurons behind which activations are"
                " rounded: lump first, then quantize the activations"
            )
        if not isinstance(layer, KNOWN):
            raise UnsupportedLayerError(
                f"{name}: lumping does not know what a {type(layer).__name__} computes"
            )
    regions = (_region(network, i) for i, layer in enumerate(network.layers) if mixes(layer))
    return {region.producer: region for region in regions if region}


def weighted(network: Network, index: int) -> Weighted:
    """A layer that is known to have weights."""
    return cast(Weighted, network.layers[index])


def activation_of(layer: Layer) -> ActivationFunction:
    """The layer's activation, with its properties; linear where it has none."""
    return getattr(layer, "function", None) or activation_function("linear")


def activation_name(layer: Layer) -> str:
    """Name of the layer's activation."""
    return layer.name if isinstance(layer, Activation) else getattr(layer, "activation", "linear")


def _region(network: Network, producer: int) -> Region | None:
    tensors, multipliers = [producer], {producer: 1}
    nodes: list[int] = []
    consumers: list[int] = []
    while tensors:
        tensor = tensors.pop()
        readers = network.readers(tensor)
        function = activation_of(network.layers[tensor])
        if not readers or not function.elementwise or np.isinf(function.lipschitz):
            return None
        for reader in readers:
            layer = network.layers[reader]
            if mixes(layer):
                consumers.append(reader)
            elif _is_channelwise(layer, network.shapes[tensor]):
                nodes.append(reader)
                tensors.append(reader)
                multiplier = layer.kernel.shape[3] if isinstance(layer, DepthwiseConv2D) else 1
                multipliers[reader] = multipliers[tensor] * multiplier
            else:
                return None
    return Region(producer, tuple(sorted(nodes)), tuple(sorted(consumers)), multipliers)


def mixes(layer: Layer) -> bool:
    """Whether every output of the layer reads all channels: not in groups."""
    return isinstance(layer, WEIGHT_LAYERS) and getattr(layer, "groups", 1) == 1


def _is_channelwise(layer: Layer, shape: Shape) -> bool:
    """Whether a channel stays by itself in the layer, and a shift of it the same everywhere: not in
    a mean over padding, where shifts are smaller at the border.
    """
    if isinstance(layer, AveragePooling2D) and layer.count_padding:
        return not any(map(any, layer.padding_widths(shape)))
    return isinstance(layer, CHANNELWISE)
