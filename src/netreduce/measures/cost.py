"""What a network costs: parameters, operations and true sizes. Deterministic: latency is measured
elsewhere.
"""

import math
from dataclasses import dataclass

import numpy as np

from netreduce.network import INPUT, Network
from netreduce.network.integers import moves
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    BatchNormalization,
    Conv2DTranspose,
    Dropout,
    Flatten,
    Layer,
    Normalization,
    PReLU,
    Rescaling,
    Reshape,
    Shape,
    Weighted,
)

from .packing import pack


@dataclass(frozen=True)
class LayerCost:
    """What one layer with parameters costs; fields as in `Cost`."""

    name: str
    parameters: int
    nonzeros: int
    weights: int
    nonzero_weights: int
    neurons: int
    macs: int
    nonzero_macs: int
    levels: int | None
    bits_per_weight: float


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes
    ----------
    parameters, nonzeros : int
        All stored numbers (kernels, biases, batch normalization), and those that are not zero.
    weights, nonzero_weights : int
        The same of the kernels alone.
    neurons : int
        Neurons of dense layers and output channels of convolutions, outputs included.
    macs, nonzero_macs : int
        Multiply-accumulate operations for one sample, and those whose weight is not zero.
    levels : int or None
        Largest number of distinct codes in one quantized kernel (0 counts where it occurs); None
        without quantized layers.
    bits_per_weight : float
        Mean over all weights of log2(levels) in quantized layers, and of the width of a number (32)
        in analog ones.
    float_bytes, dense_bytes, sparse_bytes, entropy_bytes : int
        Length of the packed file, header included, for each coding of `netreduce.measures.packing`.
    activation_bytes : int
        Most that the activations of one sample take at a time, layer after layer: 4 bytes a value,
        of those on a grid (`ActivationGrid`) 1. What works value by value, or moves no value, does
        so in place where nothing else reads its input.
    """

    parameters: int
    nonzeros: int
    weights: int
    nonzero_weights: int
    neurons: int
    macs: int
    nonzero_macs: int
    levels: int | None
    bits_per_weight: float
    float_bytes: int
    dense_bytes: int
    sparse_bytes: int
    entropy_bytes: int
    activation_bytes: int


IN_PLACE = (
    *(Activation, ActivationGrid, BatchNormalization, Dropout, Flatten, Normalization, PReLU),
    *(Rescaling, Reshape),
)
SUMS = ("parameters", "nonzeros", "weights", "nonzero_weights", "neurons", "macs", "nonzero_macs")


def cost(network: Network) -> Cost:
    """Count parameters, operations and bytes of a network.

    Returns
    -------
    Cost
        Plain numbers: `dataclasses.asdict` makes it ready for JSON.
    """
    layers = layer_costs(network)
    totals = {field: sum(getattr(layer, field) for layer in layers) for field in SUMS}
    bits = sum(layer.bits_per_weight * layer.weights for layer in layers)
    return Cost(
        **totals,
        levels=max((layer.levels for layer in layers if layer.levels is not None), default=None),
        bits_per_weight=bits / totals["weights"] if totals["weights"] else 0.0,
        float_bytes=len(pack(network, "float")),
        dense_bytes=len(pack(network, "dense")),
        sparse_bytes=len(pack(network, "sparse")),
        entropy_bytes=len(pack(network, "entropy")),
        activation_bytes=_activation_bytes(network),
    )


def _activation_bytes(network: Network) -> int:
    readers = {i: network.readers(i) for i in range(INPUT, len(network.layers))}
    place = {INPUT: INPUT}  # the tensor in whose memory each output lies
    widths = {INPUT: 4}
    for index, layer in enumerate(network.layers):
        source = network.sources[index][0]
        there = isinstance(layer, IN_PLACE) and len(readers[source]) == 1
        place[index] = place[source] if there else index
        if isinstance(layer, ActivationGrid):
            widths[place[index]] = 1
        elif not there:
            widths[index] = 1 if widths[place[source]] == 1 and moves(layer) else 4
    shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
    last = dict.fromkeys(place.values(), INPUT)  # the layer after which a tensor can go
    for index, tensor in place.items():
        last[tensor] = max(last[tensor], index, *readers[index])
    sizes = {tensor: widths[tensor] * math.prod(shapes[tensor]) for tensor in last}
    return max(
        sum(sizes[tensor] for tensor in last if tensor <= index <= last[tensor])
        for index in range(len(network.layers))
    )


def layer_costs(network: Network) -> tuple[LayerCost, ...]:
    """The same counts for every layer that has parameters."""
    shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
    return tuple(
        _layer_cost(name, layer, shapes[source], shapes[index])
        for index, (name, layer, (source, *_)) in enumerate(
            zip(network.names, network.layers, network.sources, strict=True)
        )
        if layer.arrays()
    )


def _layer_cost(name: str, layer: Layer, read: Shape, made: Shape) -> LayerCost:
    """What a layer costs, given the shapes of its input and its output."""
    arrays = layer.arrays().values()
    kernel = layer.arrays().get("kernel", np.empty(0))
    if isinstance(layer, Weighted):
        # how often each weight is used: of a transposed convolution, once for every input pixel
        positions = math.prod((read if isinstance(layer, Conv2DTranspose) else made)[:-1])
        macs, nonzero_macs = positions * kernel.size, positions * int(np.count_nonzero(kernel))
    else:
        macs = nonzero_macs = math.prod(made)
    codes = getattr(layer, "codes", None)
    levels = None if codes is None else len(np.unique(codes))
    return LayerCost(
        name=name,
        parameters=sum(array.size for array in arrays),
        nonzeros=sum(int(np.count_nonzero(array)) for array in arrays),
        weights=kernel.size,
        nonzero_weights=int(np.count_nonzero(kernel)),
        neurons=getattr(layer, "outputs", 0),
        macs=macs,
        nonzero_macs=int(nonzero_macs),
        levels=levels,
        bits_per_weight=8.0 * kernel.itemsize if levels is None else math.log2(max(levels, 1)),
    )
